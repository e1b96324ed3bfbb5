"""Approximate inverse Hessians, factorised: one idea in three structures.

* `Shared`: one block for all classes, `a X'X + lambda I`, the shape of the Hessian at
  W = 0 (Boehning & Lindsay 1988). It has a square root, so it whitens too.
* `Full`: the whole Hessian as one matrix.
* `TwoLevel`: a shared block, corrected by the whole Hessian along a few axes.

They live in coordinates in which columns have mean 0 (where the intercept is free) and
mean square 1. Only speed depends on this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from softreg._arrays import (
    Array,
    TriangularFactor,
    add_to_diagonal,
    factorise,
    namespace,
)


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


class DiagonalFactor(NamedTuple):
    """A diagonal matrix, with the methods of `TriangularFactor`."""

    root: Array

    def solve(self, vectors: Array) -> Array:
        """Return `matrix^-1 vectors`."""
        return vectors / (self.root * self.root)[:, None]

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
        pairs = zip(self.factors, _rows(self.standard.pull(vectors)), strict=True)
        return self.standard.push(_each([f.solve(v.T).T for f, v in pairs]))

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


class TwoLevel(NamedTuple):
    """A shared block, corrected by the whole Hessian along a few axes of the columns.

    `M^-1 - Q (Q'M Q)^-1 Q' + Q (Q'H Q)^-1 Q'`: along the axes Q the Hessian as it is,
    all pairs of classes; what is orthogonal to them (in M) is left to the shared M.
    The leading axes of the data carry nearly all that tells the classes' curvatures
    apart (docs/how-to-choose.md).
    """

    shared: Shared
    axes: Array  # (P, r), of standardised columns
    block: tuple[TriangularFactor, ...]  # Q'M Q of each problem
    hessian: tuple[TriangularFactor, ...]  # Q'H Q of all classes

    def solve(self, vectors: Array) -> Array:
        """Solve with the block, and correct along the axes."""
        xp = namespace(vectors)
        standard = self.shared.standard
        along = standard.pull(vectors) @ self.axes
        corrections = [
            xp.reshape(h.solve(xp.reshape(a, (-1, 1))), a.shape) - m.solve(a.T).T
            for h, m, a in zip(self.hessian, self.block, _rows(along), strict=True)
        ]
        correction = standard.push(_each(corrections) @ self.axes.T)
        return self.shared.solve(vectors) + correction

    def take(self, members: list[int]) -> TwoLevel:
        """Return that of fewer problems."""
        return self._replace(
            shared=self.shared.take(members),
            block=tuple(self.block[i] for i in members),
            hessian=tuple(self.hessian[i] for i in members),
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
    return Shared(tuple(factors), standard)


def full(hessians: Array, penalty: Array, standard: Standardisation) -> Full:
    """Factorise Hessians (B, k P, k P), each plus the penalty (B, P) of every class."""
    xp = namespace(hessians)
    factors = []
    for hessian, row in zip(_rows(hessians), _rows(penalty), strict=True):
        n_classes = hessian.shape[0] // row.shape[0]
        matrix = add_to_diagonal(hessian, xp.tile(row, (n_classes,)))
        factors.append(factorise(_with_common_shift(matrix, n_classes)))
    return Full(tuple(factors), standard)


def two_level(
    block: Shared,
    grams: Sequence[Array],
    hessians: Array,
    penalty: Array,
    axes: Array,
) -> TwoLevel:
    """Correct a shared block, of grams (P, P), by Hessians (B, k r, k r) along axes."""
    xp = namespace(hessians)
    blocks, coarse = [], []
    for gram, hessian, row in zip(grams, _rows(hessians), _rows(penalty), strict=True):
        along = axes.T @ (row[:, None] * axes)
        blocks.append(factorise(axes.T @ gram @ axes + along))
        n_classes = hessian.shape[0] // along.shape[0]
        eye = xp.eye(n_classes, dtype=along.dtype)
        matrix = hessian + _kron(eye, along)
        coarse.append(factorise(_with_common_shift(matrix, n_classes)))
    return TwoLevel(block, axes, tuple(blocks), tuple(coarse))


def _kron(left: Array, right: Array) -> Array:
    """Return the Kronecker product of two square matrices."""
    product = left[:, None, :, None] * right[None, :, None, :]
    side = left.shape[0] * right.shape[0]
    return namespace(left).reshape(product, (side, side))


def _with_common_shift(hessian: Array, n_classes: int) -> Array:
    """Return the Hessian with curvature along the classes' common shift.

    The data do not see that shift, and gradients have no part in it, so the solution
    is not changed; it is given the curvature of an average class.
    """
    if n_classes == 1:
        return hessian
    xp = namespace(hessian)
    diagonal = xp.reshape(xp.linalg.diagonal(hessian), (n_classes, -1))
    mean = xp.mean(diagonal, axis=0)
    lift = xp.eye(mean.shape[0], dtype=hessian.dtype) * (mean / n_classes)
    return hessian + xp.tile(lift, (n_classes, n_classes))


def _rows(array: Array) -> list[Array]:
    return [array[i, ...] for i in range(array.shape[0])]


def _each(arrays: list[Array]) -> Array:
    if len(arrays) == 1:
        return arrays[0][None, ...]
    return namespace(arrays[0]).stack(arrays)
