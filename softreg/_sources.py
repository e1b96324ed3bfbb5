"""Rows of what can only be sliced: HDF5 and zarr arrays, read when they are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np

from softreg._arrays import Array, device_context, empty, is_array, like

# Rows are searched, gathered and sent so many bytes at a time.
PIECE_BYTES = 1 << 23


@dataclass(frozen=True)
class RowSource:
    """Consecutive rows of a source, with the shape and the dtype of an array.

    To index reads: `X[start:stop, :]`, `X[::step, :]` and `X[numbers]` are arrays, as
    is `np.asarray(X)`. One read at a time, since few sources bear two threads.

    Parameters
    ----------
    source : object
        With `shape`, `dtype`, and `source[start:stop:step]`.
    start, stop : int
        Which of its rows.
    """

    source: Any
    start: int
    stop: int
    lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Return the shape of the rows."""
        return self.stop - self.start, int(self.source.shape[1])

    @property
    def dtype(self) -> np.dtype:
        """Return the dtype that rows are read in: booleans as bytes."""
        dtype = np.dtype(self.source.dtype)
        if dtype.kind == "b":
            return np.dtype(np.uint8)
        wide = dtype.kind == "f" and dtype.itemsize > 8
        return np.dtype(np.float64) if wide else dtype.newbyteorder("=")

    @property
    def nbytes(self) -> int:
        """Return what the rows would take in memory."""
        n_rows, n_columns = self.shape
        return n_rows * n_columns * self.dtype.itemsize

    def view(self, start: int, stop: int) -> RowSource:
        """Return some of the rows, not yet read."""
        return replace(self, start=self.start + start, stop=self.start + stop)

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, *rest = key if isinstance(key, tuple) else (key,)
        read = self._sliced(rows) if isinstance(rows, slice) else self._gathered(rows)
        return read[(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._sliced(slice(None)), dtype=dtype)

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Yield (start, stop) of rows that take little memory."""
        n_rows, n_columns = self.shape
        size = max(1, PIECE_BYTES // (n_columns * self.dtype.itemsize))
        for start in range(0, n_rows, size):
            yield start, min(start + size, n_rows)

    def _sliced(self, rows: slice) -> np.ndarray:
        own = range(self.start, self.stop)[rows]
        # A step of 1 is left out: not every source knows steps.
        step = None if own.step == 1 else own.step
        with self.lock:
            read = np.asarray(self.source[own.start : own.stop : step])
        shape = len(own), self.shape[1]
        if read.shape != shape:
            raise ValueError(
                f"X must give dense rows of its own shape where it is sliced, got "
                f"{read.shape} in place of {shape}. Pass an array, or SciPy's CSR."
            )
        return read.astype(self.dtype, copy=False)

    def _gathered(self, numbers: np.ndarray) -> np.ndarray:
        """Read rows by their numbers, in any order: whole pieces, from first to last.

        Few sources can do that, and those are slow at it.
        """
        rows = np.empty((len(numbers), self.shape[1]), self.dtype)
        order = np.argsort(numbers, kind="stable")
        for piece in self.pieces():
            span = slice(*np.searchsorted(numbers, piece, sorter=order))
            places = order[span]
            if len(places):
                first, last = numbers[places[0]], numbers[places[-1]]
                read = self._sliced(slice(first, last + 1))
                rows[places] = read[numbers[places] - first]
        return rows


def is_source(X: Any) -> bool:
    """Return whether this is no array, but gives rows of one where it is sliced."""
    if is_array(X) or hasattr(X, "iloc") or hasattr(X, "__dask_graph__"):
        return False
    shape, dtype = getattr(X, "shape", None), getattr(X, "dtype", None)
    scalar = isinstance(dtype, type) and issubclass(dtype, np.generic)
    return (
        (scalar or isinstance(dtype, np.dtype))
        and isinstance(shape, tuple)
        and len(shape) == 2
        and hasattr(X, "__getitem__")
    )


def rows_read(X: RowSource, reference: Array) -> Array:
    """Return all rows in the place of an array, sent there a piece at a time."""
    with device_context(reference):
        rows = empty(X.shape, reference, X.dtype.name)
        for start, stop in X.pieces():
            rows[start:stop, :] = like(X[start:stop, :], reference)
    return rows
