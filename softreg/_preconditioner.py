"""Approximate inverse Hessians, factorised: one idea in three structures.

* `Shared`: one block for all classes, `a X'X + lambda I`, the shape of the Hessian at
  W = 0 (Boehning & Lindsay 1988). It has a square root, so it whitens too.
* `Full`: the whole Hessian as one matrix.
* `TwoLevel`: a shared block, corrected by the whole Hessian along a few axes.

Each has one factor a problem, or one that serves all problems of a batch. They live in
coordinates in which columns have mean 0 (where the intercept is free) and mean square
1. Only speed depends on this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from softreg._arrays import (
    Array,
    add_along_classes,
    add_to_diagonal,
    identity,
    namespace,
)
from softreg._factors import DiagonalFactor, Factor, factorise


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
        weights = bias * -self.centre
        weights += gradient[..., :-1]
        weights *= self.scale
        return xp.concat([weights, bias], axis=-1)

    def push(self, direction: Array) -> Array:
        """Return a direction (B, k, P) in the coordinates of X; transpose of `pull`."""
        xp = namespace(direction)
        if not self.has_intercept:
            return direction * self.scale
        weights = direction[..., :-1] * self.scale
        shift = weights @ self.centre[:, None]
        return xp.concat([weights, direction[..., -1:] - shift], axis=-1)


class Preconditioner(Protocol):
    """An approximate inverse Hessian of each problem of a batch."""

    def solve(self, vectors: Array) -> Array:
        """Return about `H^-1 vectors`, (B, k, P)."""

    def take(self, members: list[int]) -> Preconditioner:
        """Return that of fewer problems."""


class Factors(NamedTuple):
    """One factor a problem, or one for all problems of the batch."""

    own: tuple[Factor, ...]

    def each(self, apply: Callable[[Factor, Array], Array], vectors: Array) -> Array:
        """Return a method of each problem's factor on its vectors (B, r, m)."""
        xp = namespace(vectors)
        n_columns = vectors.shape[-1]
        if len(self.own) == 1:
            # All right-hand sides at once: a triangular solve with few is slow.
            rows = xp.reshape(vectors, (-1, n_columns))
            return xp.reshape(apply(self.own[0], rows.T).T, vectors.shape)
        pairs = zip(self.own, _rows(vectors), strict=True)
        return xp.stack([apply(factor, rows.T).T for factor, rows in pairs])

    def solve(self, vectors: Array) -> Array:
        """Return `matrix^-1 v` for each row v of vectors (B, r, m)."""
        return self.each(lambda factor, v: factor.solve(v), vectors)

    def solve_whole(self, vectors: Array) -> Array:
        """Return `matrix^-1` of all rows of each problem as one vector."""
        xp = namespace(vectors)
        flat = xp.reshape(vectors, (vectors.shape[0], 1, -1))
        return xp.reshape(self.solve(flat), vectors.shape)

    def take(self, members: list[int]) -> Factors:
        """Return those of fewer problems."""
        if len(self.own) == 1:
            return self
        return Factors(tuple(self.own[i] for i in members))


class Shared(NamedTuple):
    """One factor (of P columns) for every class."""

    factors: Factors
    standard: Standardisation

    def solve(self, vectors: Array) -> Array:
        """Solve every class with the problem's factor."""
        return self.standard.push(self.factors.solve(self.standard.pull(vectors)))

    def whiten(self, gradient: Array) -> Array:
        """Return a gradient in coordinates in which the Hessian is about 1."""
        pulled = self.standard.pull(gradient)
        return self.factors.each(lambda factor, v: factor.whiten(v), pulled)

    def unwhiten(self, whitened: Array) -> Array:
        """Return coefficients from whitened coordinates; transpose of `whiten`."""
        solved = self.factors.each(lambda factor, v: factor.unwhiten(v), whitened)
        return self.standard.push(solved)

    def take(self, members: list[int]) -> Shared:
        """Return that of fewer problems."""
        return self._replace(factors=self.factors.take(members))


class Full(NamedTuple):
    """A factor of the whole Hessian (k P square)."""

    factors: Factors
    standard: Standardisation

    def solve(self, vectors: Array) -> Array:
        """Solve all classes at once."""
        pulled = self.standard.pull(vectors)
        return self.standard.push(self.factors.solve_whole(pulled))

    def take(self, members: list[int]) -> Full:
        """Return that of fewer problems."""
        return self._replace(factors=self.factors.take(members))


class TwoLevel(NamedTuple):
    """A shared block, corrected by the whole Hessian along a few axes of the columns.

    `M^-1 - Q (Q'M Q)^-1 Q' + Q (Q'H Q)^-1 Q'`: along the axes Q the Hessian as it is,
    all pairs of classes; what is orthogonal to them (in M) is left to the shared M.
    The leading axes of the data carry nearly all that tells the classes' curvatures
    apart (docs/how-to-choose.md).
    """

    shared: Shared
    axes: Array  # (P, r), of standardised columns
    block: Factors  # Q'M Q
    hessian: Factors  # Q'H Q of all classes

    def solve(self, vectors: Array) -> Array:
        """Solve with the block, and correct along the axes."""
        standard = self.shared.standard
        along = standard.pull(vectors) @ self.axes
        correction = self.hessian.solve_whole(along) - self.block.solve(along)
        return self.shared.solve(vectors) + standard.push(correction @ self.axes.T)

    def take(self, members: list[int]) -> TwoLevel:
        """Return that of fewer problems."""
        return self._replace(
            shared=self.shared.take(members),
            block=self.block.take(members),
            hessian=self.hessian.take(members),
        )


def shared(grams: Sequence[Array], penalty: Array, standard: Standardisation) -> Shared:
    """Factorise `gram_b + diag(penalty_b)` for each problem b.

    Each is (P, P), or its diagonal (P,) where the matrix would be too large; penalty
    is (B, P).
    """
    xp = namespace(penalty)
    factors: list[Factor] = []
    for gram, row in zip(grams, _rows(penalty), strict=True):
        if gram.ndim == 1:
            diagonal = gram + row
            safe = xp.where(diagonal > 0, diagonal, xp.ones_like(diagonal))
            factors.append(DiagonalFactor(xp.sqrt(safe)))
        else:
            factors.append(factorise(add_to_diagonal(gram, row)))
    return Shared(Factors(tuple(factors)), standard)


def full(hessians: Array, penalty: Array, standard: Standardisation) -> Full:
    """Factorise Hessians (B, k P, k P), each plus the penalty (B, P) of every class."""
    factors: list[Factor] = []
    for hessian, row in zip(_rows(hessians), _rows(penalty), strict=True):
        own = identity(row.shape[0], row) * row
        factors.append(factorise(_penalised(hessian, own)))
    return Full(Factors(tuple(factors)), standard)


def two_level(
    block: Shared,
    grams: Sequence[Array],
    hessians: Array,
    penalty: Array,
    axes: Array,
) -> TwoLevel:
    """Correct a shared block, of grams (P, P), by Hessians (B, k r, k r) along axes."""
    blocks: list[Factor] = []
    coarse: list[Factor] = []
    for gram, hessian, row in zip(grams, _rows(hessians), _rows(penalty), strict=True):
        along = axes.T @ (row[:, None] * axes)
        blocks.append(factorise(axes.T @ gram @ axes + along))
        coarse.append(factorise(_penalised(hessian, along)))
    return TwoLevel(block, axes, Factors(tuple(blocks)), Factors(tuple(coarse)))


def _penalised(hessian: Array, penalty: Array) -> Array:
    """Return a Hessian plus the penalty (r, r) of each class; input is overwritten.

    The data do not see the classes' common shift, and gradients have no part in it, so
    the solution is not changed where it is given the curvature of an average class.
    """
    xp = namespace(hessian)
    n_columns = penalty.shape[0]
    n_classes = hessian.shape[0] // n_columns
    if n_classes == 1:
        return hessian + penalty
    diagonal = xp.reshape(xp.linalg.diagonal(hessian), (n_classes, n_columns))
    mean = xp.mean(diagonal, axis=0) + xp.linalg.diagonal(penalty)
    return add_along_classes(hessian, penalty, mean / n_classes)


def _rows(array: Array) -> list[Array]:
    return [array[i, ...] for i in range(array.shape[0])]
