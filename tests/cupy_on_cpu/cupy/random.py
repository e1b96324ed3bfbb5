"""Generators: the few methods that CuPy's have."""

from __future__ import annotations

from typing import Any

import numpy as np

from cupy._array import ndarray, wrapped


class Generator:
    """Random arrays of the device; the bits are NumPy's."""

    def __init__(self, seed: Any) -> None:
        self._rng = np.random.default_rng(seed)

    def random(self, size=None, dtype=np.float64, out=None) -> ndarray:
        return self._drawn(self._rng.random, size, dtype, out)

    def standard_normal(self, size=None, dtype=np.float64, out=None) -> ndarray:
        return self._drawn(self._rng.standard_normal, size, dtype, out)

    def integers(
        self, low, high=None, size=None, dtype=np.int64, endpoint=False
    ) -> ndarray:
        return wrapped(self._rng.integers(low, high, size, dtype, endpoint))

    @staticmethod
    def _drawn(draw: Any, size: Any, dtype: Any, out: Any) -> ndarray:
        if out is not None:
            raise NotImplementedError("the stand-in draws into new memory")
        if np.dtype(dtype).char not in "fd":
            raise TypeError(f"Unsupported dtype {dtype}")
        return wrapped(draw(size, dtype))


def default_rng(seed=None) -> Generator:
    return Generator(seed)
