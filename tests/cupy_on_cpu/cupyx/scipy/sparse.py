"""Compressed matrices: floats and flags only, canonical before every product."""

from __future__ import annotations

from typing import Any, ClassVar

import cupy
import numpy as np
import scipy.sparse
from cupy._array import host_of, ndarray, wrapped

_DTYPES = "?fdFD"


def issparse(x: Any) -> bool:
    return isinstance(x, _Compressed)


class _Compressed:
    """What the two formats have in common."""

    __array_priority__ = 101
    format: ClassVar[str]

    def __init__(
        self, arg1, shape=None, dtype=None, copy=False, *, maxprint=None
    ) -> None:
        if issparse(arg1):
            other = arg1.asformat(self.format)
            parts, shape = (other.data, other.indices, other.indptr), other.shape
        elif scipy.sparse.issparse(arg1):
            host = arg1.asformat(self.format)
            parts = tuple(map(cupy.array, (host.data, host.indices, host.indptr)))
            shape = host.shape
        elif isinstance(arg1, tuple) and len(arg1) == 2:
            rows, columns = map(int, arg1)
            shape = rows, columns
            kind = np.int64 if max(shape) > np.iinfo(np.int32).max else np.int32
            data = cupy.zeros(0, dtype or "d")
            pointers = cupy.zeros(self._major(shape) + 1, kind)
            parts = data, cupy.zeros(0, kind), pointers
        elif isinstance(arg1, tuple) and len(arg1) == 3:
            parts = self._checked(arg1)
        else:
            raise NotImplementedError("the stand-in makes none of dense arrays")
        data, self.indices, self.indptr = parts
        dtype = data.dtype if dtype is None else np.dtype(dtype)
        if dtype.char not in _DTYPES:
            raise ValueError(
                "Only bool, float32, float64, complex64 and complex128 are supported"
            )
        self.data = data.astype(dtype, copy=copy)
        if copy:
            self.indices, self.indptr = self.indices.copy(), self.indptr.copy()
        if shape is None:
            raise NotImplementedError("the stand-in is told the shape")
        self._shape = tuple(map(int, shape))
        if len(self.indptr) != self._major(self._shape) + 1:
            raise ValueError("index pointer size does not go with the shape")

    @staticmethod
    def _checked(parts: Any) -> Any:
        if not all(isinstance(p, ndarray) and p.ndim == 1 for p in parts):
            raise ValueError("data, indices, and indptr must be 1-D cupy arrays")
        data, indices, indptr = parts
        if len(data) != len(indices):
            raise ValueError("indices and data should have the same size")
        if int(indptr[0]) != 0 or int(indptr[-1]) > data.size:
            raise ValueError("the index pointer does not go with the data")
        # Indices become of 32 bits where their values fit.
        small = max(data.size, int(indices.max()) if indices.size else 0) < 1 << 31
        kind = np.int32 if small else np.int64
        return data, indices.astype(kind, copy=False), indptr.astype(kind, copy=False)

    @classmethod
    def _of(cls, parts: Any, shape: Any, like: Any = None) -> Any:
        made = cls(shape, dtype=parts[0].dtype)
        made.data, made.indices, made.indptr = parts
        if hasattr(like, "_canonical"):
            made._canonical = like._canonical
        return made

    @classmethod
    def _of_host(cls, host: Any) -> Any:
        parts = (wrapped(p) for p in (host.data, host.indices, host.indptr))
        return cls._of(tuple(parts), host.shape)

    @property
    def _host(self) -> Any:
        kind = getattr(scipy.sparse, f"{self.format}_matrix")
        view = kind(self.shape, dtype=self.dtype)
        view.data, view.indices, view.indptr = (
            p._host for p in (self.data, self.indices, self.indptr)
        )
        return view

    shape = property(lambda self: self._shape)
    ndim = property(lambda self: 2)
    dtype = property(lambda self: self.data.dtype)
    nnz = property(lambda self: self.data.size)
    size = property(lambda self: self.data.size)
    T = property(lambda self: self.transpose())

    def __len__(self) -> int:
        raise TypeError("sparse array length is ambiguous; use shape[0] or .nnz")

    @property
    def has_canonical_format(self) -> bool:
        if not hasattr(self, "_canonical"):
            self._canonical = bool(self._host.has_canonical_format)
        return self._canonical

    @has_canonical_format.setter
    def has_canonical_format(self, value: bool) -> None:
        self._canonical = bool(value)

    def sum_duplicates(self) -> None:
        if self.has_canonical_format:
            return
        host = self._host.copy()
        host.sum_duplicates()
        self.data, self.indices, self.indptr = (
            wrapped(p) for p in (host.data, host.indices, host.indptr)
        )
        self._canonical = True

    def get(self, stream: Any = None) -> Any:
        kind = getattr(scipy.sparse, f"{self.format}_matrix")
        parts = self.data.get(stream), self.indices.get(stream), self.indptr.get(stream)
        return kind(parts, shape=self.shape)

    def copy(self) -> Any:
        parts = self.data.copy(), self.indices.copy(), self.indptr.copy()
        return self._of(parts, self.shape, self)

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        data = self.data.astype(dtype, copy=copy)
        if data.dtype.char not in _DTYPES:
            raise ValueError("Only bool, float32, float64 are supported")
        return self._of((data, self.indices, self.indptr), self.shape, self)

    def asformat(self, format: Any) -> Any:
        return self if format in (None, self.format) else getattr(self, f"to{format}")()

    def tocsr(self, copy: bool = False) -> Any:
        return csr_matrix._of_host(self._host.tocsr())

    def tocsc(self, copy: bool = False) -> Any:
        return csc_matrix._of_host(self._host.tocsc())

    def toarray(self, order: Any = None, out: Any = None) -> ndarray:
        return wrapped(self._host.toarray(order or "C"))

    def __matmul__(self, other: Any) -> Any:
        if np.isscalar(other):
            raise ValueError("Scalar operands are not allowed, use '*' instead")
        self.sum_duplicates()
        if issparse(other):
            other.sum_duplicates()
            return csr_matrix._of_host((self._host @ other._host).tocsr())
        if not isinstance(other, ndarray):
            return NotImplemented
        # cuSPARSE writes by columns.
        product = self._host @ host_of(other)
        return wrapped(np.asfortranarray(product))

    def __rmatmul__(self, other: Any) -> Any:
        return NotImplemented if not hasattr(other, "T") else (self.T @ other.T).T

    __mul__, __rmul__ = __matmul__, __rmatmul__

    @staticmethod
    def _major(shape: Any) -> int:
        raise NotImplementedError


class csr_matrix(_Compressed):
    """Rows of stored entries."""

    format = "csr"

    @staticmethod
    def _major(shape: Any) -> int:
        return shape[0]

    def tocsr(self, copy: bool = False) -> Any:
        return self.copy() if copy else self

    def transpose(self, axes: Any = None, copy: bool = False) -> Any:
        parts = self.data, self.indices, self.indptr
        return csc_matrix._of(parts, self.shape[::-1], self)

    def multiply(self, other: Any) -> Any:
        if not issparse(other):
            raise NotImplementedError("the stand-in multiplies by matrices of rows")
        self.sum_duplicates()
        return csr_matrix._of_host(self._host.multiply(other._host).tocsr())

    def __getitem__(self, key: Any) -> Any:
        parts = list(key) if isinstance(key, tuple) else [key, slice(None)]
        if not all(isinstance(p, slice | np.ndarray | ndarray) for p in parts):
            raise NotImplementedError("the stand-in takes whole rows")
        rows, columns = (p._host if isinstance(p, ndarray) else p for p in parts)
        if columns != slice(None):
            raise NotImplementedError("the stand-in takes whole rows")
        return csr_matrix._of_host(self._host[rows])


class csc_matrix(_Compressed):
    """Columns of stored entries."""

    format = "csc"

    @staticmethod
    def _major(shape: Any) -> int:
        return shape[1]

    def tocsc(self, copy: bool = False) -> Any:
        return self.copy() if copy else self

    def transpose(self, axes: Any = None, copy: bool = False) -> Any:
        parts = self.data, self.indices, self.indptr
        return csr_matrix._of(parts, self.shape[::-1], self)


def vstack(blocks: Any, format: Any = None, dtype: Any = None) -> Any:
    """Stack rows."""
    if not all(issparse(block) for block in blocks):
        raise ValueError("the stand-in stacks its own matrices")
    host = scipy.sparse.vstack([block._host for block in blocks], "csr", dtype)
    return csr_matrix._of_host(host).asformat(format)
