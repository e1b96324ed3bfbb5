"""Scores of new rows, and functions of them, block by block."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import validate_data

from softreg._arrays import (
    Array,
    cast,
    contiguous,
    device_context,
    is_foreign,
    is_on_gpu,
    is_sparse,
    like,
    moved,
    namespace,
    to_numpy,
)
from softreg._blocks import block_rows, gpu_block_rows
from softreg._dask import applied, head_of
from softreg._design import csr_view
from softreg._parameters import advising, gpu_of
from softreg._rows import check_same_place, checked_rows, reads_as_single


class LinearMap(NamedTuple):
    """Coefficients of rows of one dtype."""

    coef: Any  # (k, d), dense or sparse
    intercept: Array  # (k,)

    def of(self, X: Any) -> LinearMap:
        """Return the map in the dtype of its products with X."""
        coef, intercept = self
        dtype = coef.dtype if reads_as_single(X) else namespace(intercept).float64
        if scipy.sparse.issparse(coef):
            coef = coef.astype(dtype, copy=False)
        else:
            coef = cast(coef, dtype)
            if scipy.sparse.issparse(X) and not is_foreign(coef):
                # Else SciPy's product lays them out so for every block.
                coef = np.asfortranarray(coef)
        return LinearMap(coef, cast(intercept, dtype))

    def block_rows(self, X: Any) -> int:
        """Return how many rows of X to take at a time."""
        n_scores, n_entries = self.coef.shape
        if is_sparse(X):
            n_entries = 2 * X.nnz // max(1, X.shape[0])
        itemsize = namespace(self.intercept).finfo(self.intercept.dtype).bits // 8
        size = gpu_block_rows if is_on_gpu(self.intercept) else block_rows
        return size(n_entries, n_scores, itemsize)

    def scores(self, rows: Any) -> Array:
        """Return `coef @ rows' + intercept`, (k, rows): class-major, as in the fit."""
        dtype = self.intercept.dtype
        if is_sparse(rows):
            rows = csr_view(rows, cast(rows.data, dtype))
        else:
            rows = cast(rows, dtype)
        if is_foreign(rows):
            scores = (rows @ self.coef.T).T
        else:
            scores = safe_sparse_dot(self.coef, rows.T, dense_output=True)
        scores += self.intercept[:, None]
        return scores


def apply_rows(
    estimator: Any, X: Any, function: Callable[[Array], Array], method: str
) -> Array:
    """Return a function of the scores (k, rows), block by block of rows.

    Its value has a row a row of X. `method` is what the user called.
    """
    X = checked_rows(estimator, X, reset=False)
    check_same_place(estimator, X, estimator.coef_, method)
    device = getattr(estimator, "device", None)
    coef, intercept = estimator.coef_, estimator.intercept_
    if device not in (None, "cpu") and not is_foreign(X):
        place = gpu_of(device)
        coef = coef.toarray() if is_sparse(coef) else coef
        with device_context(place):
            linear = LinearMap(like(coef, place), like(intercept, place)).of(X)

        def on_device(rows: Any) -> Array:
            with device_context(place):
                return to_numpy(function(linear.scores(moved(rows, place))))

        return map_rows(X, linear.block_rows(X), on_device)
    if not is_foreign(intercept):
        intercept = np.asarray(intercept)
    linear = LinearMap(coef, intercept).of(X)
    size = linear.block_rows(X)
    return map_rows(X, size, lambda rows: function(linear.scores(rows)))


def lazily(estimator: Any, X: Any, method: str) -> Any:
    """Return what a method answers for each partition of Dask's X, as a Dask array."""
    head = head_of(X)
    with advising("X must have the columns of the fit, in that order."):
        validate_data(estimator, head, reset=False, skip_check_array=True)
    # Names have been checked, or warned of, once for all partitions.
    scratch = copy.copy(estimator)
    scratch.__dict__.pop("feature_names_in_", None)
    stored = np.asarray(head).dtype
    row = np.zeros((1, head.shape[1]), np.float64 if stored.kind == "O" else stored)
    form = getattr(scratch, method)(row)
    return applied(_answer, X, form.shape[1:], form[:0], (scratch, method, form[:0]))


def _answer(rows: Any, asked: tuple[Any, str, Array]) -> Array:
    """Return what an estimator's method answers for some rows, `none` for no rows."""
    estimator, method, none = asked
    if not rows.shape[0]:
        return none
    if hasattr(rows, "columns"):
        rows = rows.set_axis(range(rows.shape[1]), axis=1)
    return getattr(estimator, method)(rows)


def map_rows(X: Any, size: int, function: Callable[[Any], Array]) -> Array:
    """Return a function of the rows of X, so many at a time, in one array."""
    n_rows = X.shape[0]
    first = function(X[: min(size, n_rows), :])
    if n_rows <= size:
        return contiguous(first)
    cuts = [(i, min(i + size, n_rows)) for i in range(size, n_rows, size)]
    if is_foreign(first):
        rest = [function(X[start:stop, :]) for start, stop in cuts]
        return namespace(first).concat([first, *rest], axis=0)
    out = np.empty((n_rows, *first.shape[1:]), dtype=first.dtype)
    out[:size] = first
    for start, stop in cuts:
        out[start:stop] = function(X[start:stop, :])
    return out
