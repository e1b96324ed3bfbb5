"""Factors of one positive definite matrix, which solve and whiten with it."""

from __future__ import annotations

from typing import NamedTuple

from softreg._arrays import Array, add_to_diagonal, cholesky, namespace, solve_lower


class TriangularFactor(NamedTuple):
    """Cholesky factor of `diag(scale)^-1 (L L') diag(scale)^-1`, about a given matrix.

    `scale` brings the matrix to unit diagonal first, so that columns in units far
    apart do not drown each other.
    """

    lower: Array
    scale: Array

    def solve(self, vectors: Array) -> Array:
        """Return `matrix^-1 vectors`; vectors (m, r)."""
        return self.unwhiten(self.whiten(vectors))

    def whiten(self, vectors: Array) -> Array:
        """Return `L^-1 diag(scale) vectors`, a square root of `solve`."""
        return solve_lower(self.lower, self.scale[:, None] * vectors, transposed=False)

    def unwhiten(self, vectors: Array) -> Array:
        """Return `diag(scale) L^-T vectors`, the transpose of `whiten`."""
        solved = solve_lower(self.lower, vectors, transposed=True)
        return self.scale[:, None] * solved


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


def factorise(matrix: Array) -> TriangularFactor:
    """Return the equilibrated Cholesky factor of a positive semi-definite matrix.

    A singular matrix is lifted by the smallest power of ten times the identity (in
    unit-diagonal scale) that lets the factorisation through.
    """
    xp = namespace(matrix)
    diagonal = xp.linalg.diagonal(matrix)
    safe = xp.where(diagonal > 0, diagonal, xp.ones_like(diagonal))
    scale = 1 / xp.sqrt(safe)
    unit = matrix * scale[:, None]
    unit *= scale
    lift = 16 * float(xp.finfo(matrix.dtype).eps)
    while True:
        lower = cholesky(add_to_diagonal(unit, lift))
        if lower is not None:
            return TriangularFactor(lower, scale)
        lift *= 10
