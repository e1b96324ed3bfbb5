"""What is known of the columns and the targets before any fit: means and squares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from softreg import _kernels as kernels
from softreg._arrays import Array, identity, like, namespace, to_numpy
from softreg._blocks import Blocks
from softreg._certificate import Moments
from softreg._preconditioner import Standardisation

# A spread below this share of the mean is rounding, of a mean over many rows.
VARIES = 1e-12
# Columns whose mean is so many times their spread are not multiplied in float32.
OFFSET = 1e3
SUBSPACE_ITERATIONS = 4


@dataclass(frozen=True)
class Geometry:
    """The columns' means and their centred Gram matrix; serves all problems.

    Parameters
    ----------
    mean_x : (P,) array
        Weighted means of the columns.
    gram : (P, P) or (P,) array
        Weighted Gram matrix of the centred columns, or its diagonal.
    intercept : {"none", "free", "penalised"}
    """

    mean_x: Array
    gram: Array
    intercept: str

    @property
    def diagonal(self) -> bool:
        """Whether the diagonal of the Gram matrix must do."""
        return bool(self.gram.ndim == 1)

    @property
    def centre(self) -> Array:
        """Means of the columns where the intercept is free to absorb them, else 0."""
        return centre_of(self.mean_x, self.intercept)

    def merged(self, other: Geometry, share: float) -> Geometry:
        """Return that of these rows and others, which have a share of the weight."""
        xp = namespace(self.mean_x)
        apart = other.mean_x - self.mean_x
        gram = (1 - share) * self.gram + share * other.gram
        if self.intercept == "free":
            spread = apart**2 if self.diagonal else xp.linalg.outer(apart, apart)
            gram = gram + share * (1 - share) * spread
        return Geometry(self.mean_x + share * apart, gram, self.intercept)

    def shrunk(self, share: float) -> Geometry:
        """Return it with a share of the Gram matrix replaced by its diagonal."""
        if self.diagonal:
            return self
        own = identity(self.gram.shape[0], self.gram) * self.squares
        gram = (1 - share) * self.gram + share * own
        return Geometry(self.mean_x, gram, self.intercept)

    def without_products(self) -> Geometry:
        """Return it with the diagonal of the Gram matrix only."""
        return Geometry(self.mean_x, self.squares, self.intercept)

    def on_host(self) -> Geometry:
        """Return it as plain arrays of the host."""
        return Geometry(to_numpy(self.mean_x), to_numpy(self.gram), self.intercept)

    @property
    def squares(self) -> Array:
        """Weighted mean squares of the centred columns, (P,)."""
        return _diagonal(self.gram)

    @cached_property
    def root_mean_square(self) -> Array:
        """Root mean squares of the columns as they are, (P,)."""
        xp = namespace(self.gram)
        mean = self.mean_x
        if self.intercept == "free":
            centred = xp.concat([self.squares[:-1], 0 * mean[-1:]])
            return xp.sqrt(centred + mean**2)
        return xp.sqrt(self.squares)

    @cached_property
    def wants_double(self) -> bool:
        """Whether products in float32 would be all rounding."""
        n_features = self.centre.shape[0]
        return is_offset(self.mean_x[:n_features], self.squares[:n_features])

    @cached_property
    def standard(self) -> Standardisation:
        """The coordinates in which the columns have mean square 1."""
        xp = namespace(self.gram)
        centre = self.centre
        squares = self.squares[: centre.shape[0]]
        varies = squares > (VARIES * xp.abs(centre)) ** 2
        # Of smaller squares the inverse overflows.
        varies = varies & (squares >= float(xp.finfo(squares.dtype).smallest_normal))
        safe = xp.where(varies, squares, xp.ones_like(squares))
        scale = xp.where(varies, 1 / xp.sqrt(safe), xp.zeros_like(squares))
        return Standardisation(centre, scale, self.intercept != "none")

    @property
    def standard_gram(self) -> Array:
        """`gram` in standardised coordinates: unit diagonal."""
        return self.in_standard_units(self.gram)

    def in_standard_units(self, gram: Array) -> Array:
        """Return a Gram matrix of centred columns, or its diagonal, standardised."""
        scale = self.standard.full_scale
        if gram.ndim == 1:
            return gram * scale**2
        return gram * scale * scale[:, None]

    def axes(self, count: int) -> Array:
        """Return leading axes of the standardised columns, and the intercept's."""
        if count not in self._axes:
            self._axes[count] = self._leading(count)
        return self._axes[count]

    @cached_property
    def _axes(self) -> dict[int, Array]:
        return {}

    def _leading(self, count: int) -> Array:
        xp = namespace(self.gram)
        n_features = self.centre.shape[0]
        gram = self.standard_gram[:n_features, :n_features]
        leading = leading_axes(gram, count)
        if not self.standard.has_intercept:
            return leading
        own = xp.concat([0 * leading[0, :], xp.ones_like(leading[0, :1])])
        padded = xp.concat([leading, 0 * leading[:, :1]], axis=1)
        return xp.concat([padded, own[None, :]], axis=0)


def leading_axes(gram: Array, count: int) -> Array:
    """Return about the leading eigenvectors of a matrix, orthonormal (P, count).

    Subspace iteration from a fixed start: an approximation does, and it takes a
    fraction of the time of all eigenvectors.
    """
    xp = namespace(gram)
    start = np.random.default_rng(0).standard_normal((gram.shape[0], count))
    basis = like(start, gram)
    for _ in range(SUBSPACE_ITERATIONS):
        basis = xp.linalg.qr(gram @ basis)[0]
    return basis


def centre_of(mean_x: Array, intercept: str) -> Array:
    """Return what columns are centred at, (d,)."""
    if intercept == "none":
        return 0 * mean_x
    return mean_x[:-1] * (1.0 if intercept == "free" else 0.0)


def is_offset(mean_x: Array, squares: Array) -> bool:
    """Return whether a column varies by little beside its mean."""
    xp = namespace(squares)
    return bool(xp.any((squares > 0) & (squares < (mean_x / OFFSET) ** 2)))


def geometry_of(
    blocks: Blocks, mean_x: Array, intercept: str, *, diagonal: bool
) -> Geometry:
    """Return the geometry of the columns; one pass, or two where they are offset."""
    xp = namespace(mean_x)
    kernel = kernels.squares if diagonal else kernels.gram
    n_columns = mean_x.shape[0]
    size = n_columns if diagonal else n_columns**2

    def formed(rows: Blocks) -> Geometry:
        centre = centre_of(mean_x, intercept)
        (gram,), _ = rows.reduce(kernel, centre, summand_size=size)
        return Geometry(mean_x, gram, intercept)

    geometry = formed(blocks)
    if blocks.dtype != xp.float64 and geometry.wants_double:
        return formed(blocks.with_dtype(xp.float64))
    return geometry


def _diagonal(gram: Array) -> Array:
    return gram if gram.ndim == 1 else namespace(gram).linalg.diagonal(gram)


def moments_of(blocks: Blocks, n_classes: int, n_features: int) -> Moments:
    """Return the constants of the data, in float64; one pass."""
    precise = blocks.with_dtype(namespace(blocks.reference).float64)
    size = (n_classes + 1) * (n_features + 1)
    sums, _ = precise.reduce(kernels.moments, summand_size=size)
    return Moments(*sums)
