"""Which precision products have."""

from __future__ import annotations

from typing import Any

import numpy as np

COMPUTE_TYPE_DEFAULT = 1
COMPUTE_TYPE_TF32 = 7

_types = dict.fromkeys("efFdD", COMPUTE_TYPE_DEFAULT)


def get_compute_type(dtype: Any) -> int:
    return _types[np.dtype(dtype).char]


def set_compute_type(dtype: Any, compute_type: int) -> None:
    if compute_type not in (COMPUTE_TYPE_DEFAULT, COMPUTE_TYPE_TF32):
        raise ValueError(f"Unknown compute type: {compute_type}")
    _types[np.dtype(dtype).char] = compute_type


def _rounded(factor: np.ndarray) -> np.ndarray:
    """Return a float32 factor as the tensor cores read it: TF32 has 10 bits."""
    if get_compute_type("f") != COMPUTE_TYPE_TF32:
        return factor
    bits = np.array(factor, order="K").view(np.uint32)
    bits += np.uint32(1 << 12)
    bits &= np.uint32(0xFFFFE000)
    return bits.view(np.float32)
