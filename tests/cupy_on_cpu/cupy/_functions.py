"""Functions of arrays, with the signatures of CuPy's."""

from __future__ import annotations

from builtins import any as builtins_any

import numpy as np

from cupy._array import (
    arrays_of,
    dtype_of,
    host_of,
    into,
    ndarray,
    poisoned,
    product,
    rows_first,
    viewed,
    wrapped,
)

# -- creation -------------------------------------------------------------------------


def array(
    obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False
):
    """Copy to the device: arrays of any library here, numbers, and lists of either."""
    if subok:
        raise NotImplementedError
    dtype = None if dtype is None else dtype_of(dtype)
    if isinstance(obj, ndarray):
        host = np.array(obj._host, dtype, copy=copy, order=order, ndmin=ndmin)
        return obj if host is obj._host else wrapped(host)
    if isinstance(obj, list | tuple) and obj and isinstance(obj[0], ndarray):
        return wrapped(np.array(arrays_of(*obj), dtype, ndmin=ndmin))
    host = np.array(obj, dtype, copy=True, order=order, ndmin=ndmin)
    dtype_of(host.dtype)
    return wrapped(host.astype(host.dtype.newbyteorder("="), copy=False))


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return array(a, dtype, copy, "K" if order is None else order, blocking=blocking)


def ascontiguousarray(a, dtype=None):
    (host,) = arrays_of(a)
    made = np.ascontiguousarray(host, dtype)
    return a if made is host else wrapped(made)


def asfortranarray(a, dtype=None):
    (host,) = arrays_of(a)
    made = np.asfortranarray(host, dtype)
    return a if made is host else wrapped(made)


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    if isinstance(a, ndarray):
        return a.get(stream, order, out, blocking)
    return np.asarray(a, order=order)


def from_dlpack(array, *, device=None, copy=None):
    """Take over memory of this machine, where a GPU's is meant."""
    return wrapped(np.from_dlpack(array))


def arange(start, stop=None, step=1, dtype=None):
    start, stop = (0, start) if stop is None else (start, stop)
    return wrapped(np.arange(start, stop, step, dtype))


def empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype, order=order)


def zeros(shape, dtype=float, order="C"):
    return wrapped(np.zeros(shape, dtype_of(dtype), order))


def ones(shape, dtype=float, order="C"):
    return wrapped(np.ones(shape, dtype_of(dtype), order))


def full(shape, fill_value, dtype=None, order="C"):
    value = fill_value._host if isinstance(fill_value, ndarray) else fill_value
    return wrapped(np.full(shape, value, dtype, order))


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    (host,) = arrays_of(prototype)
    return wrapped(poisoned(np.empty_like(host, dtype, order, shape=shape)))


def zeros_like(a, dtype=None, order="K", subok=None, shape=None):
    (host,) = arrays_of(a)
    return wrapped(np.zeros_like(host, dtype, order, shape=shape))


def ones_like(a, dtype=None, order="K", subok=None, shape=None):
    (host,) = arrays_of(a)
    return wrapped(np.ones_like(host, dtype, order, shape=shape))


def full_like(a, fill_value, dtype=None, order="K", subok=None, shape=None):
    (host,) = arrays_of(a)
    return wrapped(np.full_like(host, host_of(fill_value), dtype, order, shape=shape))


def eye(N, M=None, k=0, dtype=float, order="C"):
    return wrapped(np.eye(N, M, k, dtype_of(dtype), order))


def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    return wrapped(np.linspace(start, stop, num, endpoint, retstep, dtype, axis))


# -- shape ----------------------------------------------------------------------------


def reshape(a, newshape, order="C", *, copy=None):
    return a.reshape(newshape, order=order, copy=copy)


def transpose(a, axes=None):
    return a.transpose(axes)


def swapaxes(a, axis1, axis2):
    return a.swapaxes(axis1, axis2)


def moveaxis(a, source, destination):
    return viewed(a, np.moveaxis(a._host, source, destination))


def expand_dims(a, axis):
    return viewed(a, np.expand_dims(a._host, axis))


def squeeze(a, axis=None):
    return a.squeeze(axis)


def ravel(a, order="C"):
    return a.ravel(order)


def broadcast_to(array, shape):
    (host,) = arrays_of(array)
    return viewed(array, np.broadcast_to(host, shape))


def broadcast_arrays(*args):
    hosts = np.broadcast_arrays(*arrays_of(*args))
    return [viewed(a, host) for a, host in zip(args, hosts, strict=True)]


def flip(a, axis=None):
    (host,) = arrays_of(a)
    return viewed(a, np.flip(host, axis))


def concatenate(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
    hosts = arrays_of(*tup)
    return into(out, rows_first(np.concatenate(hosts, axis, dtype=dtype)))


def stack(tup, axis=0, out=None, *, dtype=None, casting="same_kind"):
    return into(out, rows_first(np.stack(arrays_of(*tup), axis, dtype=dtype)))


def repeat(a, repeats, axis=None):
    return a.repeat(repeats, axis)


def copy(a, order="K"):
    return a.copy(order)


def astype(x, dtype, /, *, copy=True):
    return x.astype(dtype, copy=copy)


def shape(a):
    return a.shape if isinstance(a, ndarray) else np.shape(a)


def ndim(a):
    return a.ndim if isinstance(a, ndarray) else np.ndim(a)


# -- choice and order -----------------------------------------------------------------


def where(condition, x=None, y=None):
    (chosen,) = arrays_of(condition)
    if x is None and y is None:
        return condition.nonzero()
    if x is None or y is None:
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    return rows_first(np.where(chosen.astype(bool), host_of(x), host_of(y)))


def take(a, indices, axis=None, out=None):
    return a.take(indices, axis, out)


def take_along_axis(a, indices, axis):
    host, places = arrays_of(a, indices)
    if places.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if host.ndim != places.ndim:
        raise ValueError("`indices` and `a` must have the same number of dimensions")
    return rows_first(np.take_along_axis(host, places, axis))


def nonzero(a):
    return a.nonzero()


def searchsorted(a, v, side="left", sorter=None):
    if not isinstance(v, ndarray | int | float | complex):
        raise NotImplementedError("Only python scalars or ndarrays are supported for v")
    (host,) = arrays_of(a)
    if host.ndim != 1:
        raise ValueError("object too deep for desired array")
    order = None if sorter is None else sorter._host
    return wrapped(np.searchsorted(host, host_of(v), side, order))


def sort(a, axis=-1, kind=None):
    sorted_ = a.copy(order="K")
    sorted_.sort(axis, kind)
    return sorted_


def argsort(a, axis=-1, kind=None):
    return a.argsort(axis, kind)


def unique(
    ar, return_index=False, return_inverse=False, return_counts=False, axis=None, *,
    equal_nan=True,
):  # fmt: skip
    found = np.unique(
        ar._host, return_index, return_inverse, return_counts, axis, equal_nan=equal_nan
    )
    return tuple(map(wrapped, found)) if isinstance(found, tuple) else wrapped(found)


def isin(element, test_elements, assume_unique=False, invert=False):
    return wrapped(np.isin(*arrays_of(element, test_elements), invert=invert))


def clip(a, a_min, a_max, out=None):
    return a.clip(a_min, a_max, out)


def diagonal(a, offset=0, axis1=0, axis2=1):
    return a.diagonal(offset, axis1, axis2)


def trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None):
    return a.diagonal(offset, axis1, axis2).sum(-1, dtype, out)


def tril(m, k=0):
    return wrapped(np.tril(m._host, k))


def triu(m, k=0):
    return wrapped(np.triu(m._host, k))


# -- sums -----------------------------------------------------------------------------


def all(a, axis=None, out=None, keepdims=False):
    return a.all(axis, out, keepdims)


def any(a, axis=None, out=None, keepdims=False):
    return a.any(axis, out, keepdims)


def max(a, axis=None, out=None, keepdims=False):
    return a.max(axis, out, keepdims)


def min(a, axis=None, out=None, keepdims=False):
    return a.min(axis, out, keepdims)


def argmax(a, axis=None, dtype=None, out=None, keepdims=False):
    return a.argmax(axis, out, dtype, keepdims)


def argmin(a, axis=None, dtype=None, out=None, keepdims=False):
    return a.argmin(axis, out, dtype, keepdims)


def sum(a, axis=None, dtype=None, out=None, keepdims=False):
    return a.sum(axis, dtype, out, keepdims)


def prod(a, axis=None, dtype=None, out=None, keepdims=False):
    return a.prod(axis, dtype, out, keepdims)


def mean(a, axis=None, dtype=None, out=None, keepdims=False):
    return a.mean(axis, dtype, out, keepdims)


def cumsum(a, axis=None, dtype=None, out=None):
    return a.cumsum(axis, dtype, out)


def count_nonzero(a, axis=None):
    return wrapped(np.count_nonzero(a._host, axis))


def bincount(x, weights=None, minlength=None):
    counts = np.bincount(
        x._host, None if weights is None else weights._host, minlength or 0
    )
    return wrapped(counts)


def round(a, decimals=0, out=None):
    return a.round(decimals, out)


# -- products -------------------------------------------------------------------------


def matmul(*args, out=None):
    left, right = args
    return into(out, product(left, right))


def dot(a, b, out=None):
    return a.dot(b, out)


def outer(a, b, out=None):
    return into(out, rows_first(np.outer(*arrays_of(a, b))))


def tensordot(a, b, axes=2):
    return rows_first(np.tensordot(*arrays_of(a, b), axes))


# -- types ----------------------------------------------------------------------------


def isscalar(element):
    return np.isscalar(element)


def result_type(*arrays_and_dtypes):
    return np.result_type(
        *(a.dtype if isinstance(a, ndarray) else a for a in arrays_and_dtypes)
    )


def isdtype(dtype, kind):
    return np.isdtype(np.dtype(dtype), kind)


def get_array_module(*args):
    import cupy

    return cupy if builtins_any(isinstance(a, ndarray) for a in args) else np


def shares_memory(a, b, max_work=None):
    return np.shares_memory(*arrays_of(a, b))


def setdiff1d(ar1, ar2, assume_unique=False):
    return wrapped(np.setdiff1d(*arrays_of(ar1, ar2), assume_unique))


def cumulative_sum(x, /, *, axis=None, dtype=None, out=None, include_initial=False):
    if include_initial:
        raise NotImplementedError("the stand-in begins with the first number")
    return x.cumsum(axis, dtype, out)


concat, permute_dims, amax, amin = concatenate, transpose, max, min
__all__ = [
    name
    for name, value in globals().items()
    if getattr(value, "__module__", "") == __name__
]
