"""What X may be: its checks, its dtypes, and where it may live."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse
from sklearn import get_config
from sklearn.utils.validation import validate_data

from softreg._arrays import (
    Array,
    detached,
    dtype_name,
    free_gpu_bytes,
    is_dask,
    is_foreign,
    is_laid_out,
    is_on_gpu,
    is_sparse,
    moved,
    namespace,
    on_host,
    place_of,
    stored_bytes,
    stored_values,
)
from softreg._dask import computed
from softreg._design import csr_view
from softreg._parameters import advising, gpu_of
from softreg._sources import RowSource, is_source, rows_read

# Read as they are; anything else is converted to float64 whole.
DTYPES = [
    np.float64, np.float32, np.uint8, np.int8, np.int16, np.float16, np.bool_,
    np.int32, np.int64, np.uint16, np.uint32, np.uint64,
]  # fmt: skip
READ_AS_SINGLE = {"float32", "uint8", "int8", "int16", "float16", "bfloat16"}
# Products with fewer entries of X are made in float64: the cast costs nothing there.
SMALL_ENTRIES = 1 << 20
# Of a GPU's free memory, the share that X may take.
RESIDENT_SHARE = 0.6
# Rows are searched for what is not finite so many entries at a time.
SEARCHED_ENTRIES = 1 << 24
# Columns that a message names.
SHOWN = 6


def checked_rows(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Return X as scikit-learn's checks pass it: any layout, no copy.

    An array of another library than NumPy stays what it is.
    """
    if is_dask(X):
        raise TypeError(
            f"X must be in memory for this use of {type(estimator).__name__}, got a "
            "Dask collection. Pass X.compute(), or fit SoftmaxRegression, "
            "SoftmaxRegressionCV or softmax_path, which take Dask."
        )
    with advising(lambda: _advice(estimator, X, reset)):
        if is_source(X):
            return _checked_source(estimator, X, reset=reset)
        if is_foreign(X):
            return _checked_foreign(estimator, X, reset=reset)
        # Sums of float16 overflow, and a search without them takes a byte an entry.
        half = isinstance(X, np.ndarray) and X.dtype == np.float16
        X = validate_data(
            estimator,
            X,
            reset=reset,
            accept_sparse="csr",
            accept_large_sparse=True,
            dtype=DTYPES,
            ensure_all_finite=not half,
        )
        if half:
            _check_finite(X)
    return _as_rows(X)


def _advice(estimator: Any, X: Any, reset: bool) -> str:
    """Return what to do where X is refused."""
    said = "X must hold finite numbers, a row a sample."
    if not reset:
        named = hasattr(estimator, "feature_names_in_")
        how = ": of a frame take X[model.feature_names_in_]" if named else ""
        said += f" Its columns are those of the fit, in that order{how}."
    words = [] if not hasattr(X, "columns") else _columns_of_words(X)
    if words:
        shown = ", ".join(map(repr, words[:SHOWN])) + ", ..." * (len(words) > SHOWN)
        said += (
            f" Encode columns of other things first, here {shown}: by OneHotEncoder in "
            "a ColumnTransformer, say."
        )
    return said


def _columns_of_words(frame: Any) -> list[Any]:
    """Return the columns of a frame, pandas's or polars', that hold no numbers."""
    kinds = zip(frame.columns, list(frame.dtypes), strict=True)
    return [name for name, dtype in kinds if not _is_number(dtype)]


def _is_number(dtype: Any) -> bool:
    if hasattr(dtype, "is_numeric"):  # polars'
        return bool(dtype.is_numeric() or str(dtype) == "Boolean")
    return getattr(dtype, "kind", "O") in "biuf"


def in_memory(values: Any) -> Any:
    """Return what has a number a row as NumPy's, pandas's or a list."""
    return on_host(computed(values))


def _as_rows(X: Any) -> Any:
    """Return X with booleans as uint8; copied only where entries are stored twice."""
    if X.dtype != np.bool_:
        return X
    if not scipy.sparse.issparse(X):
        return X.view(np.uint8)
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return csr_view(X, X.data.view(np.uint8))


def _checked_foreign(estimator: Any, X: Array, *, reset: bool) -> Array:
    """Return an array of another library, checked in it."""
    if not is_laid_out(X):
        raise ValueError(
            f"X must be a dense tensor with values, got layout {X.layout} on "
            f"{X.device}. Pass sparse rows as SciPy's or CuPy's CSR."
        )
    X = X.tocsr() if is_sparse(X) else detached(X)
    if X.ndim != 2:
        raise ValueError(f"Expected 2D array, got {X.ndim}D array instead.")
    _check_shape(X)
    values = stored_values(X)
    xp = namespace(values)
    if xp.isdtype(values.dtype, "complex floating"):
        raise ValueError("Complex data not supported.")
    if xp.isdtype(values.dtype, "real floating"):
        _check_finite(values)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    if is_sparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    if dtype_name(values) != "bool":
        return X
    if not is_sparse(X):
        return xp.astype(X, xp.uint8)
    # CuPy has no sparse matrices of bytes. A flag stored twice was one.
    return csr_view(X, xp.astype(X.data, xp.float32))


def _checked_source(estimator: Any, X: Any, *, reset: bool) -> RowSource:
    """Return what can be sliced by rows as their source, each read once to be checked.

    No more of it than a piece is ever in memory.
    """
    kind = np.dtype(X.dtype).kind
    if kind == "c":
        raise ValueError("Complex data not supported.")
    if kind not in "biuf":
        raise ValueError(f"X must have a dtype of real numbers, got {X.dtype}.")
    _check_shape(X)
    source = RowSource(X, 0, X.shape[0])
    validate_data(estimator, source, reset=reset, skip_check_array=True)
    if source.dtype.kind == "f":
        _check_finite(source)
    return source


def _check_shape(X: Any) -> None:
    for count, what in zip(X.shape, ("sample", "feature"), strict=True):
        if count == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={tuple(X.shape)}) while a "
                "minimum of 1 is required."
            )


def _check_finite(values: Array) -> None:
    """Refuse what is not finite, searched in pieces."""
    if get_config()["assume_finite"]:
        return
    for start, stop in _pieces(values):
        rows = values[start:stop, ...]
        xp = namespace(rows)
        if not bool(xp.all(xp.isfinite(rows))):
            found = "NaN" if bool(xp.any(xp.isnan(rows))) else "infinity"
            raise ValueError(f"Input X contains {found}.")


def _pieces(values: Array) -> Iterable[tuple[int, int]]:
    """Return (start, stop) of rows that take little memory."""
    if isinstance(values, RowSource):
        return values.pieces()
    n_rows, *rest = values.shape
    step = max(1, SEARCHED_ENTRIES // math.prod(rest))
    return ((i, min(i + step, n_rows)) for i in range(0, n_rows, step))


def check_same_place(estimator: Any, X: Any, home: Any, method: str) -> None:
    """Refuse rows of another library, or on another device, than the fit's.

    `home` is an array that the fit has left.
    """
    here, there = place_of(X), place_of(home)
    if here != there:
        raise ValueError(
            f"Inputs passed to {type(estimator).__name__}.{method}() must use the same "
            f"namespace and device as those passed to fit(): {there}, got {here}. "
            f"Convert X to {there}, or fit again."
        )


def placed(device: str | None, X: Any) -> tuple[Any, Array]:
    """Return X where it is computed with, and an array that lies there.

    A matrix of the host goes to a GPU whole where that leaves room to compute; else it
    stays, to be sent a block at a time.
    """
    if is_foreign(X):
        values = stored_values(X)
        if device is not None and (device != "cpu") != is_on_gpu(values):
            raise ValueError(
                f"device={device!r} places NumPy and SciPy input, got X of "
                f"{place_of(X)}. Use device=None: X is computed with where it lives."
            )
        return X, values
    if device is None or device == "cpu":
        return X, np.empty(0)
    reference = gpu_of(device)
    if stored_bytes(X) > RESIDENT_SHARE * free_gpu_bytes(reference):
        return X, reference
    try:
        if is_sparse(X):
            return moved(X, reference), reference
        # In pieces: CuPy stages what it sends in pinned memory, up to twice as much,
        # and keeps that.
        rows = X if isinstance(X, RowSource) else RowSource(X, 0, X.shape[0])
        return rows_read(rows, reference), reference
    except MemoryError:  # CuPy's is one: the memory is in pieces, or was taken
        return X, reference


def reads_as_single(X: Any) -> bool:
    """Return whether X is read as float32."""
    return dtype_name(X) in READ_AS_SINGLE


def answer_dtype(X: Any) -> str:
    """Return the name of the dtype of coefficients fitted to X."""
    return "float32" if reads_as_single(X) else "float64"


def product_dtype(X: Any, place: Array) -> Any:
    """Return the dtype of the first products with X, in the library of an array."""
    xp = namespace(place)
    entries = X.nnz if is_sparse(X) else X.shape[0] * X.shape[1]
    small = entries <= SMALL_ENTRIES
    return xp.float32 if reads_as_single(X) and not small else xp.float64
