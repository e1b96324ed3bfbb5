"""Factorisations: they say nothing where they fail, unless they are asked to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.linalg import LinAlgError

import cupy
from cupy._array import ndarray, rows_first, wrapped

__all__ = ["LinAlgError", "cholesky", "eigh", "lstsq", "norm", "qr", "solve"]


def _matrices(*arrays: Any) -> list[np.ndarray]:
    """Return the memory of matrices, in a dtype that cuSOLVER has."""
    if not all(isinstance(a, ndarray) for a in arrays):
        raise LinAlgError("cupy.linalg only supports cupy.ndarray")
    if any(a.dtype == np.float16 for a in arrays):
        raise TypeError("float16 is unsupported in linalg")
    kinds = [a.dtype if a.dtype.kind in "fc" else np.float64 for a in arrays]
    return [a._host.astype(np.result_type(*kinds)) for a in arrays]


def _check_square(array: ndarray) -> None:
    if array.ndim < 2:
        raise LinAlgError(
            f"{array.ndim}-dimensional array given. Array must be at least "
            "two-dimensional"
        )
    if array.shape[-1] != array.shape[-2]:
        raise LinAlgError("Last 2 dimensions of the array must be square")


def _failed(routine: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return what an unnoticed failure leaves, or notice it."""
    import cupyx

    if cupyx.geterr()["linalg"] == "raise":
        raise LinAlgError(
            f"Error reported by {routine} in cuSOLVER. devInfo = [1]. Please refer to "
            "the cuSOLVER documentation."
        )
    return np.full(shape, np.nan, dtype)


def cholesky(a):
    (host,) = _matrices(a)
    _check_square(a)
    try:
        return rows_first(np.linalg.cholesky(host))
    except LinAlgError:
        return wrapped(_failed("potrf", a.shape, host.dtype))


def eigh(a, UPLO="L"):
    (host,) = _matrices(a)
    _check_square(a)
    if a.ndim > 2:
        raise NotImplementedError("the stand-in has no batches of these")
    values, vectors = np.linalg.eigh(host, UPLO)
    return wrapped(values), wrapped(np.asfortranarray(vectors))


def qr(a, mode="reduced"):
    (host,) = _matrices(a)
    if a.ndim != 2 or mode != "reduced":
        raise NotImplementedError("the stand-in has the reduced mode of one matrix")
    q, r = np.linalg.qr(host)
    return wrapped(np.asfortranarray(q)), wrapped(np.asfortranarray(r))


def solve(a, b):
    left, right = _matrices(a, b)
    _check_square(a)
    if b.ndim == 1 and a.shape[-1] != b.size:
        raise ValueError("a must have (..., M, M) shape and b must have (M,)")
    if b.ndim > 1 and a.shape[:-1] != b.shape[:-1]:
        raise ValueError(
            "a must have (..., M, M) shape and b must have (..., M, K) for "
            "multidimensional b"
        )
    try:
        solved = np.linalg.solve(left, right)
    except LinAlgError:
        solved = _failed("getrf", b.shape, right.dtype)
    return wrapped(np.asarray(solved, order="F" if a.ndim == 2 else "C"))


def lstsq(a, b, rcond="warn"):
    raise NotImplementedError("not in the stand-in: array-api-compat imports it")


def norm(x, ord=None, axis=None, keepdims=False):
    if isinstance(axis, tuple) or (axis is None and x.ndim > 1 and ord is not None):
        raise NotImplementedError("the stand-in has norms of vectors")
    host = x._host if x.dtype.kind in "fc" else x._host.astype(np.float64)
    if axis is None and ord is None:
        return cupy.sqrt(cupy.sum(wrapped(host * host), keepdims=keepdims))
    return rows_first(np.linalg.norm(host, ord, axis, keepdims))
