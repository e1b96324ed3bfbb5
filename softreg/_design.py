"""The linear map from coefficients to scores, over the rows of one block.

Coefficients are `(B, K, P)`: B problems, K classes, P columns, the intercept last
where there is one. Scores are class-major, `(B, K, rows)`. What is linear in the
coefficients (the fold of two classes to one row, the temperature) is `Parametrisation`,
which acts on coefficients alone and never meets a block.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from softreg._arrays import (
    Array,
    cast,
    contiguous,
    empty,
    in_order_of,
    is_sparse,
    moved,
    namespace,
    product,
    product_with_rows,
    repeated,
    stacked_rows,
)
from softreg._sources import RowSource
from softreg._streams import RowStream


class Parametrisation(NamedTuple):
    """How the free coefficients (B, k, P) give those of the scores, (B, K, P).

    Two classes are folded to one row: scores (-w x / 2, w x / 2). Everything is divided
    by the temperature.
    """

    n_classes: int
    temperature: float = 1.0
    folds: bool = True

    @property
    def folded(self) -> bool:
        """Whether two classes share one row."""
        return self.folds and self.n_classes == 2

    @property
    def n_rows(self) -> int:
        """Return k, the rows of free coefficients."""
        return 1 if self.folded else self.n_classes

    def unfold(self, coef: Array) -> Array:
        """Return one row of coefficients for each class, untempered."""
        if not self.folded:
            return coef
        return namespace(coef).concat([-coef / 2, coef / 2], axis=1)

    def expand(self, coef: Array) -> Array:
        """Return the coefficients of the tempered scores."""
        return self.tempered(self.unfold(coef))

    def tempered(self, values: Array) -> Array:
        """Divide by the temperature."""
        return values if self.temperature == 1 else values / self.temperature

    def contract(self, gradient: Array) -> Array:
        """Return the transpose of `unfold`; also its left inverse on (-g, g)."""
        if not self.folded:
            return gradient
        return (gradient[:, 1:, :] - gradient[:, :1, :]) / 2


class Operand(NamedTuple):
    """Coefficients laid out once a pass for the products with every block."""

    matrix: Array
    intercept: Array | None
    shape: tuple[int, int]


class Rows(Protocol):
    """The rows of one block, not yet read."""

    def operand(self, coef: Array) -> Operand:
        """Lay coefficients out for `forward`; serves every block of the kind."""

    def loaded(self) -> Design:
        """Return the rows cast and laid out for products."""


class Design(Rows, Protocol):
    """The rows of one block as a linear map."""

    def forward(self, operand: Operand) -> Array:
        """Return scores (B, K, rows)."""

    def adjoint(self, residual: Array) -> Array:
        """Return `sum_i residual_i (x_i, 1)'`, float64 (B, K, P)."""

    def lengths(self) -> Array:
        """Return the norm of each row, without the intercept's column."""

    def standardised(self, centre: Array, scale: Array) -> Array:
        """Return the rows as `((x - centre) * scale, 1)`, dense."""

    def gram(self, weight: Array, centre: Array) -> Array:
        """Return the weighted Gram matrix of `(x - centre, 1)`, float64 (P, P)."""

    def squares(self, weight: Array, centre: Array) -> Array:
        """Return the diagonal of `gram`, (P,)."""


class DenseDesign(NamedTuple):
    """Rows of an array; `dtype` is that of the products, whatever X is stored as."""

    X: Array
    dtype: Any
    has_intercept: bool

    def operand(self, coef: Array) -> Operand:
        """Return the weights as (B K, d)."""
        n_problems, n_classes, _ = coef.shape
        n_features = self.X.shape[1]
        xp = namespace(coef)
        weights = xp.reshape(coef[..., :n_features], (-1, n_features))
        bias = xp.reshape(coef[..., n_features:], (-1, 1))
        return Operand(
            cast(weights, self.dtype),
            cast(bias, self.dtype) if self.has_intercept else None,
            (n_problems, n_classes),
        )

    def loaded(self) -> DenseDesign:
        """Cast, and copy where BLAS could not read the rows as they lie."""
        X = cast(self.X, self.dtype)
        if isinstance(X, np.ndarray) and X.itemsize not in X.strides:
            X = np.ascontiguousarray(X)
        return self._replace(X=X)

    def forward(self, operand: Operand) -> Array:
        """Multiply by the rows."""
        scores = product_with_rows(operand.matrix, self.X)
        if operand.intercept is not None:
            scores += operand.intercept
        return namespace(scores).reshape(scores, (*operand.shape, self.X.shape[0]))

    def adjoint(self, residual: Array) -> Array:
        """Multiply by the rows' transpose; sums leave in float64."""
        xp = namespace(residual)
        n_problems, n_classes, n_rows = residual.shape
        flat = xp.reshape(residual, (-1, n_rows))
        sums = cast(product(flat, self.X), xp.float64)
        if self.has_intercept:
            total = xp.sum(flat, axis=1, keepdims=True, dtype=xp.float64)
            sums = xp.concat([sums, total], axis=1)
        return xp.reshape(sums, (n_problems, n_classes, -1))

    def lengths(self) -> Array:
        """Return the norm of each row."""
        return namespace(self.X).linalg.vector_norm(self.X, axis=1)

    def standardised(self, centre: Array, scale: Array) -> Array:
        """Return the rows centred and scaled, in the dtype of the products."""
        xp = namespace(self.X)
        rows = cast(self.X, self.dtype) - cast(centre, self.dtype)
        rows *= cast(scale, self.dtype)
        if not self.has_intercept:
            return rows
        return xp.concat([rows, xp.ones_like(rows[:, :1])], axis=1)

    def gram(self, weight: Array, centre: Array) -> Array:
        """Return the weighted Gram matrix of the centred rows."""
        xp = namespace(self.X)
        rows = self.standardised(centre, xp.ones_like(centre))
        rows *= xp.sqrt(cast(weight, self.dtype))[:, None]
        return cast(product(rows.T, rows), xp.float64)

    def squares(self, weight: Array, centre: Array) -> Array:
        """Return the weighted sums of squares of the centred columns."""
        xp = namespace(self.X)
        rows = self.standardised(centre, xp.ones_like(centre))
        rows *= rows
        return cast(cast(weight, self.dtype)[None, :] @ rows, xp.float64)[0, :]


class SparseDesign(NamedTuple):
    """Rows of a CSR matrix or array."""

    X: Any
    dtype: Any
    has_intercept: bool

    def operand(self, coef: Array) -> Operand:
        """Return the weights as (d, B K): the layout that SciPy's product reads."""
        dense = DenseDesign(self.X, self.dtype, self.has_intercept).operand(coef)
        return dense._replace(matrix=contiguous(dense.matrix.T))

    def loaded(self) -> SparseDesign:
        """Cast the stored values."""
        if self.X.dtype == self.dtype:
            return self
        return self._replace(X=csr_view(self.X, cast(self.X.data, self.dtype)))

    def forward(self, operand: Operand) -> Array:
        """Multiply by the rows."""
        scores = (self.X @ operand.matrix).T
        if operand.intercept is not None:
            scores += operand.intercept
        return scores.reshape(*operand.shape, self.X.shape[0])

    def adjoint(self, residual: Array) -> Array:
        """Multiply by the rows' transpose; sums leave in float64."""
        n_problems, n_classes, n_rows = residual.shape
        flat = residual.reshape(-1, n_rows)
        n_features = self.X.shape[1]
        # Laid out class by class, as all else of the coefficients' size.
        sums = empty((flat.shape[0], n_features + self.has_intercept), flat)
        sums[:, :n_features] = (self.X.T @ flat.T).T
        if self.has_intercept:
            xp = namespace(flat)
            sums[:, n_features] = xp.sum(flat, axis=1, dtype=xp.float64)
        return sums.reshape(n_problems, n_classes, -1)

    def lengths(self) -> Array:
        """Return the norm of each row."""
        xp = namespace(self.X.data)
        ones = xp.ones(self.X.shape[1], dtype=self.X.dtype)
        return xp.sqrt(self.X.multiply(self.X) @ ones)

    def standardised(self, centre: Array, scale: Array) -> Array:
        """Return the rows centred and scaled, dense."""
        rows = self.X.toarray().astype(self.dtype, copy=False)
        dense = DenseDesign(rows, self.dtype, self.has_intercept)
        return dense.standardised(centre, scale)

    def gram(self, weight: Array, centre: Array) -> Array:
        """Return the weighted Gram matrix; centring is a correction of rank two."""
        xp = namespace(weight)
        rows = self._precise()
        counts = rows.indptr[1:] - rows.indptr[:-1]
        weighted = csr_view(rows, rows.data * repeated(weight, counts))
        gram = (rows.T @ weighted).toarray()
        total, mass = rows.T @ weight, xp.sum(weight)
        gram -= centre[:, None] * total + total[:, None] * centre
        gram += mass * centre[:, None] * centre
        if not self.has_intercept:
            return gram
        shift = (total - mass * centre)[:, None]
        last = xp.concat([shift.T, xp.reshape(mass, (1, 1))], axis=1)
        return xp.concat([xp.concat([gram, shift], axis=1), last], axis=0)

    def squares(self, weight: Array, centre: Array) -> Array:
        """Return the weighted sums of squares of the centred columns."""
        xp = namespace(weight)
        rows = self._precise()
        total, mass = rows.T @ weight, xp.sum(weight)
        squares = rows.multiply(rows).T @ weight
        squares += mass * centre**2 - 2 * centre * total
        if not self.has_intercept:
            return squares
        return xp.concat([squares, xp.reshape(mass, (1,))])

    def _precise(self) -> Any:
        """Return the rows with float64 values."""
        return csr_view(self.X, cast(self.X.data, namespace(self.X.data).float64))


class SourceDesign(NamedTuple):
    """Rows of a source, read whenever they are needed."""

    X: RowSource
    dtype: Any
    has_intercept: bool

    def operand(self, coef: Array) -> Operand:
        """Lay coefficients out for the rows."""
        return DenseDesign(*self).operand(coef)

    def loaded(self) -> DenseDesign:
        """Read the rows, and cast them."""
        return DenseDesign(np.asarray(self.X), *self[1:]).loaded()


class StreamedDesign(NamedTuple):
    """Rows of the host, sent to a device whenever they are read."""

    stream: RowStream
    number: int  # of the block
    dtype: Any
    has_intercept: bool

    @property
    def X(self) -> Any:  # noqa: N802
        """The rows on the host."""
        return self.stream.blocks[self.number]

    def operand(self, coef: Array) -> Operand:
        """Lay coefficients out for the rows."""
        whole = design(self.X, self.dtype, has_intercept=self.has_intercept)
        return whole.operand(coef)

    def loaded(self) -> Design:
        """Return the rows on the device, cast there."""
        rows = self.stream.read(self.number)
        whole = design(rows, self.dtype, has_intercept=self.has_intercept)
        return whole.loaded()


class SampledDesign(NamedTuple):
    """Every step-th row of some blocks, gathered when they are needed."""

    parts: tuple[Any, ...]  # arrays or CSR matrices
    step: int
    dtype: Any
    has_intercept: bool
    reference: Array  # where they are computed with

    def operand(self, coef: Array) -> Operand:
        """Lay coefficients out as for the blocks."""
        whole = design(self.parts[0], self.dtype, has_intercept=self.has_intercept)
        return whole.operand(coef)

    def loaded(self) -> Design:
        """Gather the rows, and cast them."""
        rows = stacked_rows([X[:: self.step, :] for X in self.parts])
        rows = moved(rows, self.reference)
        whole = design(rows, self.dtype, has_intercept=self.has_intercept)
        return whole.loaded()


def csr_view(X: Any, data: Array) -> Any:
    """Return a CSR matrix of X's class and structure with other values.

    Arrays are set on an empty matrix, since the constructor may narrow 64-bit indices.
    """
    view = type(X)(X.shape, dtype=data.dtype)
    view.data, view.indices, view.indptr = data, X.indices, X.indptr
    return in_order_of(view, X)


def csr_rows(X: Any, start: int, stop: int) -> Any:
    """Return rows of a CSR matrix as views of its arrays."""
    low, high = int(X.indptr[start]), int(X.indptr[stop])
    view = type(X)((stop - start, X.shape[1]), dtype=X.dtype)
    view.data, view.indices = X.data[low:high], X.indices[low:high]
    view.indptr = X.indptr[start : stop + 1] - low
    return in_order_of(view, X)


def design(X: Any, dtype: Any, *, has_intercept: bool) -> Rows:
    """Return the linear map of an array, a CSR matrix or a source."""
    if isinstance(X, RowSource):
        return SourceDesign(X, dtype, has_intercept)
    kind = SparseDesign if is_sparse(X) else DenseDesign
    return kind(X, dtype, has_intercept)


def rows_of(X: Any, start: int, stop: int) -> Any:
    """Return rows of an array, CSR matrix or source without copying."""
    if isinstance(X, RowSource):
        return X.view(start, stop)
    if is_sparse(X):
        return csr_rows(X, start, stop)
    return X[start:stop, :]
