"""`cupy.ndarray`: memory that NumPy must not see, and the rules of what it meets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from cupy import _streams

DTYPES = "?bhilqBHILQefdFD"
NO_CONVERSION = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to "
    "construct a NumPy array explicitly."
)


def dtype_of(dtype: Any) -> np.dtype:
    """Return a dtype that CuPy has: numbers only."""
    dtype = np.dtype(dtype)
    if dtype.char not in DTYPES:
        raise ValueError(f"Unsupported dtype {dtype}")
    return dtype


def wrapped(host: Any) -> ndarray:
    """Return an array of the device over memory of the host, without a copy."""
    array = object.__new__(ndarray)
    array._host = np.asarray(host)
    array.base = None
    dtype_of(array._host.dtype)
    return array


def viewed(owner: ndarray, host: np.ndarray) -> ndarray:
    """Return a view of an array."""
    array = wrapped(host)
    array.base = owner if owner.base is None else owner.base
    return array


def rows_first(host: Any) -> ndarray:
    """Return a new result: kernels of CuPy write theirs in C order."""
    return wrapped(np.asarray(host, order="C"))


def host_of(value: Any) -> Any:
    """Return what NumPy computes with: an array's memory, or a number.

    Arrays of the host are refused, as by every kernel of CuPy.
    """
    if isinstance(value, ndarray):
        return value._host
    number = isinstance(value, bool | int | float | complex | np.generic)
    if number and np.asarray(value).dtype.char in DTYPES:
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def arrays_of(*values: Any) -> list[np.ndarray]:
    """Return the memory of arrays of the device; all else is refused."""
    for value in values:
        if not isinstance(value, ndarray):
            raise TypeError(
                f"Argument has incorrect type (expected cupy.ndarray, got "
                f"{type(value).__name__})"
            )
    return [value._host for value in values]


def poisoned(host: np.ndarray) -> np.ndarray:
    """Fill new memory with what nobody should have read."""
    if host.dtype.kind in "iu":
        host.fill(np.iinfo(host.dtype).max // 3)
    else:
        host.fill(np.nan)
    return host


class Flags:
    """The three flags that CuPy has."""

    def __init__(self, host: np.ndarray, owns: bool) -> None:
        self.c_contiguous = host.flags.c_contiguous
        self.f_contiguous = host.flags.f_contiguous
        self.owndata = owns

    def __getitem__(self, name: str) -> bool:
        return getattr(self, name.lower())


class MemoryPointer:
    """Where an array begins."""

    def __init__(self, ptr: int) -> None:
        self.ptr = ptr

    @property
    def device(self) -> Any:
        from cupy.cuda import Device

        return Device(0)


class ndarray:
    """An array whose memory only this package computes with."""

    __slots__ = ("__weakref__", "_host", "base")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        shape: Any,
        dtype: Any = float,
        memptr: Any = None,
        strides: Any = None,
        order: str = "C",
    ) -> None:
        if memptr is not None or strides is not None:
            raise NotImplementedError("the stand-in allocates its memory itself")
        self._host = poisoned(np.empty(shape, dtype_of(dtype), order=order))
        self.base = None

    # -- what it is -------------------------------------------------------------------

    dtype = property(lambda self: self._host.dtype)
    shape = property(lambda self: self._host.shape)
    strides = property(lambda self: self._host.strides)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    flags = property(lambda self: Flags(self._host, self.base is None))
    data = property(lambda self: MemoryPointer(self._host.ctypes.data))
    device = property(lambda self: self.data.device)
    real = property(lambda self: viewed(self, self._host.real))

    @property
    def T(self) -> ndarray:
        return self if self.ndim < 2 else viewed(self, self._host.T)

    @property
    def mT(self) -> ndarray:
        if self.ndim < 2:
            raise ValueError("matrix transpose with ndim < 2 is undefined")
        return self.swapaxes(-1, -2)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[ndarray]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    # -- to the host and back ---------------------------------------------------------

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking=True
    ) -> np.ndarray:
        if out is not None or not blocking:
            raise NotImplementedError("the stand-in copies at once, into new memory")
        _streams.ordered_after(stream)
        kept = "F" if order == "A" and self._host.flags.fnc else order.replace("A", "C")
        return np.array(self._host, order=kept, copy=True)

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(
                f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}"
            )
        flags = self._host.flags
        if not (flags.c_contiguous or flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        _streams.copy_from_host(stream, self._host, arr)

    def item(self) -> Any:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(NO_CONVERSION)

    def __dlpack__(self, **options: Any) -> Any:
        options.pop("stream", None)
        return self._host.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._host.__dlpack_device__()

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. "
                "Use a.any() or a.all()"
            )
        return bool(self.get().item())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __str__(self) -> str:
        return str(self.get())

    def __format__(self, how: str) -> str:
        return format(self.get(), how)

    def __reduce__(self) -> Any:
        from cupy import array

        return array, (self.get(),)

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        return self.copy()

    # -- layout -----------------------------------------------------------------------

    def astype(
        self, dtype: Any, order="K", casting=None, subok=None, copy: Any = True
    ) -> ndarray:
        if casting is not None or subok is not None:
            raise TypeError("casting and subok are not supported yet")
        with np.errstate(all="ignore"):
            cast = self._host.astype(dtype_of(dtype), order=order, copy=bool(copy))
        return self if cast is self._host else wrapped(cast)

    def copy(self, order: str = "C") -> ndarray:
        return wrapped(self._host.copy(order))

    def view(self, dtype: Any = None, type: Any = None) -> ndarray:
        if type is not None:
            raise NotImplementedError("the stand-in has one class")
        host = self._host.view() if dtype is None else self._host.view(dtype_of(dtype))
        return viewed(self, host)

    def reshape(self, *shape: Any, order: str = "C", copy: Any = None) -> ndarray:
        if copy is not None:
            raise NotImplementedError("the stand-in copies where it must")
        shape = shape[0] if len(shape) == 1 else shape
        return viewed(self, self._host.reshape(shape, order=order))

    def ravel(self, order: str = "C") -> ndarray:
        return viewed(self, np.ascontiguousarray(self._host.ravel(order)))

    def flatten(self, order: str = "C") -> ndarray:
        return wrapped(self._host.flatten(order))

    def transpose(self, *axes: Any) -> ndarray:
        return viewed(self, self._host.transpose(*axes))

    def swapaxes(self, axis1: int, axis2: int) -> ndarray:
        return viewed(self, self._host.swapaxes(axis1, axis2))

    def squeeze(self, axis: Any = None) -> ndarray:
        return viewed(self, self._host.squeeze(axis))

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ndarray:
        diagonal = self._host.diagonal(offset, axis1, axis2)
        diagonal.flags.writeable = self._host.flags.writeable
        return viewed(self, diagonal)

    def fill(self, value: Any) -> None:
        if isinstance(value, np.ndarray | ndarray) and value.shape != ():
            raise ValueError(
                f"non-scalar {type(value).__name__} cannot be used for fill"
            )
        self._host.fill(value._host if isinstance(value, ndarray) else value)

    # -- items ------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> ndarray:
        host = self._host[_key(self, key)]
        if _is_view(key):
            # Of an integer for each axis NumPy makes a number; here it is a view.
            own = key if isinstance(key, tuple) else (key,)
            if not isinstance(host, np.ndarray):
                host = self._host[(*own, ...)]
            return viewed(self, host)
        return rows_first(host)

    def __setitem__(self, key: Any, value: Any) -> None:
        if _is_view(key):
            if isinstance(value, ndarray):
                self._host[key] = value._host
            else:
                self[key].fill(value)
            return
        own = _key(self, key)
        if not isinstance(value, ndarray):
            value = wrapped(np.asarray(value, self.dtype))
        if value.size > 1:
            _check_places_differ(self, own)
        with np.errstate(all="ignore"):
            self._host[own] = value._host

    def take(self, indices: Any, axis: Any = None, out: Any = None) -> ndarray:
        if out is not None:
            raise NotImplementedError("the stand-in takes into new memory")
        if not isinstance(indices, ndarray):
            indices = wrapped(np.asarray(indices))
        # Out of bounds CuPy wraps around, silently: NumPy raises here.
        return rows_first(np.take(self._host, indices._host, axis))

    def nonzero(self) -> tuple[ndarray, ...]:
        return tuple(wrapped(places) for places in self._host.nonzero())

    def repeat(self, repeats: Any, axis: Any = None) -> ndarray:
        return wrapped(np.repeat(self._host, host_of(repeats), axis))

    # -- order and sums ---------------------------------------------------------------

    def sort(self, axis: int = -1, kind: Any = None) -> None:
        check_kind(kind)
        self._host.sort(axis, kind="stable")

    def argsort(self, axis: Any = -1, kind: Any = None) -> ndarray:
        check_kind(kind)
        return rows_first(self._host.argsort(axis, kind="stable"))

    def cumsum(self, axis: Any = None, dtype: Any = None, out: Any = None) -> ndarray:
        with np.errstate(all="ignore"):
            summed = np.cumsum(self._host, axis, dtype)
        return into(out, rows_first(summed))

    def clip(self, min: Any = None, max: Any = None, out: Any = None) -> ndarray:
        low, high = (None if m is None else host_of(m) for m in (min, max))
        return into(out, rows_first(np.clip(self._host, low, high)))

    def round(self, decimals: int = 0, out: Any = None) -> ndarray:
        return into(out, rows_first(self._host.round(decimals)))

    def dot(self, b: ndarray, out: Any = None) -> ndarray:
        return into(out, product(self, b, np.dot))

    def all(self, axis=None, out=None, keepdims=False) -> ndarray:
        return reduced("all", self, axis, out, keepdims)

    def any(self, axis=None, out=None, keepdims=False) -> ndarray:
        return reduced("any", self, axis, out, keepdims)

    def max(self, axis=None, out=None, keepdims=False) -> ndarray:
        return reduced("max", self, axis, out, keepdims)

    def min(self, axis=None, out=None, keepdims=False) -> ndarray:
        return reduced("min", self, axis, out, keepdims)

    def argmax(self, axis=None, out=None, dtype=None, keepdims=False) -> ndarray:
        return reduced("argmax", self, axis, out, keepdims)

    def argmin(self, axis=None, out=None, dtype=None, keepdims=False) -> ndarray:
        return reduced("argmin", self, axis, out, keepdims)

    def sum(self, axis=None, dtype=None, out=None, keepdims=False) -> ndarray:
        return reduced("sum", self, axis, out, keepdims, dtype=dtype)

    def prod(self, axis=None, dtype=None, out=None, keepdims=None) -> ndarray:
        return reduced("prod", self, axis, out, bool(keepdims), dtype=dtype)

    def mean(self, axis=None, dtype=None, out=None, keepdims=False) -> ndarray:
        return reduced("mean", self, axis, out, keepdims, dtype=dtype)

    # -- NumPy's protocols ------------------------------------------------------------

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any
    ) -> Any:
        import cupy

        function = getattr(cupy, ufunc.__name__, None)
        if function is None or method != "__call__":
            return NotImplemented
        if "out" in kwargs:
            (kwargs["out"],) = kwargs["out"]
        return function(*inputs, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        import cupy

        module: Any = cupy
        for name in func.__module__.split(".")[1:]:
            module = getattr(module, name, None)
        function = getattr(module, func.__name__, None)
        if function is None or function is func:
            return NotImplemented
        if not all(issubclass(t, ndarray | np.ndarray) for t in types):
            return NotImplemented
        return function(*args, **kwargs)


def into(out: Any, result: ndarray) -> ndarray:
    """Return a result, written to `out` where there is one."""
    if out is None:
        return result
    if not isinstance(out, ndarray):
        raise TypeError("Output arguments type must be cupy.ndarray")
    if out.shape != result.shape:
        raise ValueError("Out shape is mismatched")
    np.copyto(out._host, result._host, casting="same_kind")
    return out


def check_kind(kind: Any) -> None:
    """Refuse a sort by another name than CuPy knows."""
    if kind is not None and kind != "stable":
        raise ValueError("kind can only be None or 'stable'")


def reduced(
    name: str, array: ndarray, axis: Any, out: Any, keepdims: bool, **options: Any
) -> ndarray:
    """Return a reduction: an array, also where it is of one number."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    if not all(a is None or isinstance(a, int | np.integer) for a in axes):
        raise TypeError(f"axis must be int, a tuple of ints or None, got {axis!r}")
    with np.errstate(all="ignore"):
        result = getattr(np, name)(array._host, axis=axis, keepdims=keepdims, **options)
    return into(out, rows_first(result))


def product(left: Any, right: Any, multiply: Any = np.matmul) -> ndarray:
    """Return a product of matrices, with rounded factors where that is asked for."""
    from cupy._core import _routines_linalg as settings

    one, other = arrays_of(left, right)
    if one.dtype == other.dtype == np.float32:
        one, other = settings._rounded(one), settings._rounded(other)
    with np.errstate(all="ignore"):
        return rows_first(multiply(one, other))


def _is_view(key: Any) -> bool:
    """Return whether a key is of numbers and slices only."""
    parts = key if isinstance(key, tuple) else (key,)
    whole = (int, np.integer)
    return all(
        p is None
        or p is Ellipsis
        or isinstance(p, slice)
        or (isinstance(p, whole) and not isinstance(p, bool))
        for p in parts
    )


def _key(array: ndarray, key: Any) -> Any:
    """Return an index of NumPy's, with what CuPy refuses refused."""
    parts = list(key) if isinstance(key, tuple) else [key]
    masks = 0
    for i, part in enumerate(parts):
        if isinstance(part, slice):
            if any(isinstance(e, ndarray) for e in (part.start, part.stop, part.step)):
                raise TypeError("slice indices must be integers")
            continue
        if _is_view(part):
            continue
        host = part._host if isinstance(part, ndarray) else np.asarray(part)
        if not isinstance(part, ndarray) and host.size == 0:
            host = host.astype(np.int32)
        if host.dtype.kind not in "biu":
            raise IndexError("arrays used as indices must be of integer or boolean")
        masks += host.dtype.kind == "b"
        parts[i] = host
    if masks > 1:
        raise NotImplementedError("CuPy documents one mask an index")
    return tuple(parts)


def _check_places_differ(array: ndarray, key: Any) -> None:
    """Refuse to write to one place twice: which value stays is undefined."""
    places = np.arange(array.size).reshape(array.shape)[key]
    if len(np.unique(places)) != math.prod(places.shape):
        raise ValueError("an assignment to one place twice is undefined in CuPy")
