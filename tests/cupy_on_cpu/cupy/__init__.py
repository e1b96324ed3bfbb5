"""A stand-in of CuPy on the CPU, for tests: see ../README.md. It is no GPU."""

import numpy as _numpy

from cupy import _array, _core, _functions, _ufuncs, cuda, fft, linalg, random
from cupy._array import ndarray
from cupy._functions import *
from cupy._functions import all, any, max, min, round, sum
from cupy._raw import RawKernel
from cupy._ufuncs import ufunc

__version__ = "14.2.0+cpu.stand.in"

globals().update(_ufuncs.UFUNCS)
for _name in (
    "bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 "
    "complex64 complex128 intp int_ integer floating complexfloating number generic "
    "signedinteger unsignedinteger inexact dtype finfo iinfo issubdtype promote_types "
    "can_cast broadcast_shapes newaxis nan inf pi e"
).split():
    globals()[_name] = getattr(_numpy, _name)
del _name
bool = _numpy.bool_


def get_default_memory_pool() -> "cuda.MemoryPool":
    """Return the pool: it holds nothing back here."""
    return cuda._POOL
