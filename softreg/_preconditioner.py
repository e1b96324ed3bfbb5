"""Approximate inverse Hessians, factorised: one idea in three structures.

* `Shared`: one block for all classes, `a X'X + lambda I`, the shape of the Hessian at
  W = 0 (Boehning & Lindsay 1988). It has a square root, so it whitens too.
* `ClassBlocks`: a block a class, with the classes' common shift projected out: adding
  one vector to every class changes nothing but the penalty.
* `Full`: the whole Hessian as one matrix.
* `Pairs`: the whole Hessian in blocks, one for each pair of classes, in float32: half
  the memory and operations of one matrix where the blocks are large.

They live in coordinates in which columns have mean 0 (where the intercept is free) and
mean square 1. Only speed depends on this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from softreg._arrays import Array, TriangularFactor, cast, factorise, namespace


class Standardisation(NamedTuple):
    """The coordinates `(x - centre) scale`; the intercept's column keeps its 1."""

    centre: Array  # (d,)
    scale: Array  # (d,), 0 for a column that does not vary
    has_intercept: bool

    @property
    def full_scale(self) -> Array:
        """Return the scale of all P columns."""
        xp = namespace(self.scale)
        if not self.has_intercept:
            return self.scale
        return xp.concat([self.scale, xp.ones_like(self.centre[:1])])

    def pull(self, gradient: Array) -> Array:
        """Return a gradient (B, k, P) in standardised coordinates."""
        xp = namespace(gradient)
        if not self.has_intercept:
            return gradient * self.scale
        bias = gradient[..., -1:]
        weights = (gradient[..., :-1] - bias * self.centre) * self.scale
        return xp.concat([weights, bias], axis=-1)

    def push(self, direction: Array) -> Array:
        """Return a direction (B, k, P) in the coordinates of X; transpose of `pull`."""
        xp = namespace(direction)
        if not self.has_intercept:
            return direction * self.scale
        weights = direction[..., :-1] * self.scale
        shift = xp.sum(weights * self.centre, axis=-1, keepdims=True)
        return xp.concat([weights, direction[..., -1:] - shift], axis=-1)


class Preconditioner(Protocol):
    """An approximate inverse Hessian of each problem of a batch."""

    def solve(self, vectors: Array) -> Array:
        """Return about `H^-1 vectors`, (B, k, P)."""

    def take(self, members: list[int]) -> Preconditioner:
        """Return that of fewer problems."""


class DiagonalFactor(NamedTuple):
    """A diagonal matrix, with the methods of `TriangularFactor`."""

    root: Array

    def solve(self, vectors: Array) -> Array:
        """Return `matrix^-1 vectors`."""
        return self.whiten(self.whiten(vectors))

    def whiten(self, vectors: Array) -> Array:
        """Return `matrix^-1/2 vectors`."""
        return vectors / self.root[:, None]

    def unwhiten(self, vectors: Array) -> Array:
        """Return `matrix^-1/2 vectors`: the root is symmetric."""
        return self.whiten(vectors)


Factor = TriangularFactor | DiagonalFactor


class Shared(NamedTuple):
    """One factor (of P columns) a problem, for every class."""

    factors: tuple[Factor, ...]
    standard: Standardisation

    def solve(self, vectors: Array) -> Array:
        """Solve every class with the problem's factor."""
        return self.unwhiten(self.whiten(vectors))

    def whiten(self, gradient: Array) -> Array:
        """Return a gradient in coordinates in which the Hessian is about 1."""
        pulled = self.standard.pull(gradient)
        return _each(
            [f.whiten(v.T).T for f, v in zip(self.factors, _rows(pulled), strict=True)]
        )

    def unwhiten(self, whitened: Array) -> Array:
        """Return coefficients from whitened coordinates; transpose of `whiten`."""
        pairs = zip(self.factors, _rows(whitened), strict=True)
        return self.standard.push(_each([f.unwhiten(v.T).T for f, v in pairs]))

    def take(self, members: list[int]) -> Shared:
        """Return that of fewer problems."""
        return self._replace(factors=tuple(self.factors[i] for i in members))


class ClassBlocks(NamedTuple):
    """One factor a class and problem, projected on corrections that sum to zero."""

    factors: tuple[tuple[TriangularFactor, ...], ...]
    common: tuple[TriangularFactor | None, ...]  # of sum_k D_k^-1; None for one row
    standard: Standardisation

    def solve(self, vectors: Array) -> Array:
        """Return `D_k^-1 (r_k - mu)` with mu such that the classes' sum is zero."""
        solved = []
        pulled = self.standard.pull(vectors)
        for factors, common, rows in zip(
            self.factors, self.common, _rows(pulled), strict=True
        ):
            answer = _by_class(factors, rows)
            if common is not None:
                xp = namespace(rows)
                shift = common.solve(xp.sum(answer, axis=0)[:, None])[:, 0]
                answer = answer - _by_class(factors, xp.broadcast_to(shift, rows.shape))
            solved.append(answer)
        return self.standard.push(_each(solved))

    def take(self, members: list[int]) -> ClassBlocks:
        """Return that of fewer problems."""
        return self._replace(
            factors=tuple(self.factors[i] for i in members),
            common=tuple(self.common[i] for i in members),
        )


class Full(NamedTuple):
    """A factor of the whole Hessian (k P square) a problem."""

    factors: tuple[TriangularFactor, ...]
    standard: Standardisation

    def solve(self, vectors: Array) -> Array:
        """Solve all classes at once."""
        xp = namespace(vectors)
        pulled = self.standard.pull(vectors)
        solved = [
            xp.reshape(f.solve(xp.reshape(v, (-1, 1))), v.shape)
            for f, v in zip(self.factors, _rows(pulled), strict=True)
        ]
        return self.standard.push(_each(solved))

    def take(self, members: list[int]) -> Full:
        """Return that of fewer problems."""
        return self._replace(factors=tuple(self.factors[i] for i in members))


class BlockFactor(NamedTuple):
    """Cholesky factor by blocks: `diagonal[j]`, and `below[i][j]` for j < i."""

    diagonal: tuple[TriangularFactor, ...]
    below: tuple[tuple[Array, ...], ...]

    def solve(self, vectors: Array) -> Array:
        """Return `matrix^-1 vectors`; a row of vectors for each block."""
        solved: list[Array] = []
        for row, factor, left in zip(vectors, self.diagonal, self.below, strict=True):
            for block, above in zip(left, solved, strict=True):
                row = row - block @ above
            solved.append(factor.whiten(row[:, None])[:, 0])
        for j in reversed(range(len(solved))):
            for i in range(j + 1, len(solved)):
                solved[j] = solved[j] - self.below[i][j].T @ solved[i]
            solved[j] = self.diagonal[j].unwhiten(solved[j][:, None])[:, 0]
        return namespace(vectors).stack(solved)


def factorise_blocks(blocks: list[list[Array]]) -> BlockFactor:
    """Factorise a matrix given by its lower blocks `blocks[i][j]`, in their place."""
    diagonal: list[TriangularFactor] = []
    for i, row in enumerate(blocks):
        for j in range(i):
            for k in range(j):
                row[j] -= row[k] @ blocks[j][k].T
            row[j] = diagonal[j].whiten(row[j].T).T
        for k in range(i):
            row[i] -= row[k] @ row[k].T
        diagonal.append(factorise(row.pop()))
    return BlockFactor(tuple(diagonal), tuple(tuple(row) for row in blocks))


class Pairs(NamedTuple):
    """A block factor a problem, of the Hessian with the last class eliminated.

    Scores do not change with the classes' common shift. So a correction that sums to
    zero is `delta_k` for all classes but the last, 0 for that, less the mean; the
    Hessian in delta is that of K - 1 classes, with the penalty `lambda (I - 11'/K)`.
    """

    factors: tuple[BlockFactor, ...]
    standard: Standardisation

    def solve(self, vectors: Array) -> Array:
        """Solve for all classes but the last, and centre."""
        xp = namespace(vectors)
        pulled = self.standard.pull(vectors)
        pulled = pulled - xp.mean(pulled, axis=1, keepdims=True)
        solved = _each(
            [f.solve(v[:-1, :]) for f, v in zip(self.factors, pulled, strict=True)]
        )
        solved = xp.concat([solved, 0 * solved[:, :1, :]], axis=1)
        solved = solved - xp.mean(solved, axis=1, keepdims=True)
        return self.standard.push(solved)

    def take(self, members: list[int]) -> Pairs:
        """Return that of fewer problems."""
        return self._replace(factors=tuple(self.factors[i] for i in members))


def shared(
    gram: Array, penalty: Array, share: float, standard: Standardisation
) -> Shared:
    """Factorise `share * gram + diag(penalty_b)` for each problem b.

    `gram` is (P, P), or its diagonal (P,) where the matrix would be too large;
    penalty is (B, P).
    """
    xp = namespace(gram)
    factors: list[Factor] = []
    for row in _rows(penalty):
        if gram.ndim == 1:
            diagonal = share * gram + row
            safe = xp.where(diagonal > 0, diagonal, xp.ones_like(diagonal))
            factors.append(DiagonalFactor(xp.sqrt(safe)))
        else:
            factors.append(factorise(_add_to_diagonal(share * gram, row)))
    return Shared(tuple(factors), standard)


def class_blocks(
    grams: Iterable[Array], penalty: Array, standard: Standardisation, dtype: Any
) -> ClassBlocks:
    """Factorise blocks, one (B, P, P) a class, each plus `diag(penalty_b)`.

    The factors are made in float64 and held in `dtype`.
    """
    by_class = [
        [
            factorise(_add_to_diagonal(gram, row)).held_in(dtype)
            for gram, row in zip(_rows(block), _rows(penalty), strict=True)
        ]
        for block in grams
    ]
    by_problem = tuple(zip(*by_class, strict=True))
    return ClassBlocks(by_problem, tuple(_common(f) for f in by_problem), standard)


def _common(factors: tuple[TriangularFactor, ...]) -> TriangularFactor | None:
    """Return the factor of `sum_k D_k^-1`; None for one class."""
    if len(factors) == 1:
        return None
    scale = factors[0].scale
    eye = namespace(scale).eye(scale.shape[0], dtype=scale.dtype)
    total = 0 * eye
    for factor in factors:
        total += factor.solve(eye)
    return factorise((total + total.T) / 2).held_in(factors[0].lower.dtype)


def full(hessians: Array, penalty: Array, standard: Standardisation) -> Full:
    """Factorise Hessians (B, k P, k P), each plus the penalty of every class.

    The classes' common shift, which the data do not see, is given the curvature of an
    average class: gradients have no part in it, so the solution is not changed.
    """
    xp = namespace(hessians)
    factors = []
    for hessian, row in zip(_rows(hessians), _rows(penalty), strict=True):
        n_columns = row.shape[0]
        n_classes = hessian.shape[0] // n_columns
        matrix = _add_to_diagonal(hessian, xp.tile(row, (n_classes,)))
        if n_classes > 1:
            diagonal = xp.linalg.diagonal(matrix)
            mean = xp.mean(xp.reshape(diagonal, (n_classes, n_columns)), axis=0)
            lift = xp.eye(n_columns, dtype=matrix.dtype) * (mean / n_classes)
            matrix = matrix + xp.tile(lift, (n_classes, n_classes))
        factors.append(factorise(matrix))
    return Full(tuple(factors), standard)


def pairs(
    grams: dict[tuple[int, int], Array],
    penalty: Array,
    n_classes: int,
    standard: Standardisation,
) -> Pairs:
    """Factorise a Hessian given by its blocks (B, P, P) for each pair k >= l < K - 1.

    The blocks are taken out of `grams` and overwritten: two copies may not fit.
    """
    xp = namespace(penalty)
    factors = []
    for b in range(penalty.shape[0]):
        blocks: list[list[Array]] = [[] for _ in range(n_classes - 1)]
        for k, row in enumerate(blocks):
            for j in range(k + 1):
                block = grams[k, j][b, ...]
                share = (1.0 if k == j else 0.0) - 1 / n_classes
                diagonal = cast(share * penalty[b, :], block.dtype)
                block += xp.eye(block.shape[0], dtype=block.dtype) * diagonal
                row.append(block)
        factors.append(factorise_blocks(blocks))
    return Pairs(tuple(factors), standard)


def _add_to_diagonal(matrix: Array, diagonal: Array) -> Array:
    xp = namespace(matrix)
    return matrix + xp.eye(matrix.shape[0], dtype=matrix.dtype) * diagonal


def _by_class(factors: tuple[TriangularFactor, ...], rows: Array) -> Array:
    solved = [f.solve(rows[i, :, None])[:, 0] for i, f in enumerate(factors)]
    return namespace(rows).stack(solved)


def _rows(array: Array) -> list[Array]:
    return [array[i, ...] for i in range(array.shape[0])]


def _each(arrays: list[Array]) -> Array:
    return namespace(arrays[0]).stack(arrays)
