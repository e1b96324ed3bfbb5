"""`cupy.RawKernel`: the CUDA source as C++, its threads one after the other.

A kernel reads raw memory, and the real launch checks nothing: an argument of another
type, a missing one, or an array with gaps in it makes wrong numbers, not an error. All
of these are errors here.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cupy._array import ndarray

SHIM = """
#include <cmath>
#define __device__ static
#define __global__
struct Index { unsigned int x, y, z; };
static Index blockIdx, blockDim, threadIdx, gridDim;
"""
LOOP = """
extern "C" void launch_{name}(unsigned int grid, unsigned int block, {parameters}) {{
    gridDim = {{grid, 1, 1}};
    blockDim = {{block, 1, 1}};
    for (unsigned int b = 0; b < grid; ++b)
        for (unsigned int t = 0; t < block; ++t) {{
            blockIdx = {{b, 0, 0}};
            threadIdx = {{t, 0, 0}};
            {name}({names});
        }}
}}
"""
TYPES = {
    "float": np.float32,
    "double": np.float64,
    "int": np.int32,
    "long long": np.int64,
}
HEAD = r'extern "C" __global__ void (\w+)\(([^)]*)\)'


class Parameter(NamedTuple):
    """A parameter of a kernel."""

    name: str
    dtype: np.dtype
    is_pointer: bool


def parameters_of(code: str, text: str) -> list[Parameter]:
    """Return the parameters of a kernel, from its head."""
    names = dict(re.findall(r"#define (\w+) (\w+)", code))
    names |= {new: old for old, new in re.findall(r"typedef ([\w ]+) (\w+);", code)}
    found = []
    for part in text.split(","):
        kind, pointer, name = re.fullmatch(
            r"\s*(?:const )?([\w ]+?)(\s*\*\s*|\s+)(\w+)\s*", part
        ).groups()
        kind = names.get(kind, kind)
        found.append(Parameter(name, np.dtype(TYPES[kind]), "*" in pointer))
    return found


@cache
def _compiled(code: str) -> tuple[Any, dict[str, list[Parameter]]]:
    """Return the library of a source, and the parameters of its kernels."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise RuntimeError("the stand-in of RawKernel needs a C++ compiler")
    kernels, source = {}, SHIM + code
    for name, text in re.findall(HEAD, code):
        kernels[name] = parameters_of(code, text)
        names = ", ".join(p.name for p in kernels[name])
        source += LOOP.format(name=name, parameters=text, names=names)
    with tempfile.TemporaryDirectory() as folder:
        file, library = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
        file.write_text(source)
        command = [compiler, "-O2", "-shared", "-fPIC", str(file), "-o", str(library)]
        subprocess.run(command, check=True)
        return ctypes.CDLL(str(library)), kernels


class RawKernel:
    """A kernel of a CUDA source."""

    def __init__(
        self,
        code: str,
        name: str,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        *,
        enable_cooperative_groups: bool = False,
        jitify: Any = None,
    ) -> None:
        self.code, self.name = code, name

    def __call__(self, grid: Any, block: Any, args: Any, **kwargs: Any) -> None:
        library, kernels = _compiled(self.code)
        parameters = kernels[self.name]
        if len(args) != len(parameters):
            raise TypeError(
                f"{self.name} has {len(parameters)} parameters, got {len(args)}"
            )
        for sizes, most in ((grid, 2**31 - 1), (block, 1024)):
            if not isinstance(sizes, tuple) or not 0 < sizes[0] <= most:
                raise ValueError(f"no launch of {grid} blocks of {block} threads")
        (n_blocks,), (n_threads,) = grid, block
        passed = map(_passed, parameters, args)
        launch = getattr(library, f"launch_{self.name}")
        launch(ctypes.c_uint(n_blocks), ctypes.c_uint(n_threads), *passed)


def _passed(parameter: Parameter, value: Any) -> Any:
    """Return an argument as C takes it, checked as CUDA never does."""
    name, dtype, is_pointer = parameter
    if is_pointer:
        if not isinstance(value, ndarray) or value.dtype != dtype:
            raise TypeError(f"{name} must be a cupy.ndarray of {dtype}, got {value!r}")
        if not value.flags.c_contiguous:
            raise ValueError(f"{name} has gaps or another order: the kernel sees none")
        return ctypes.c_void_p(value._host.ctypes.data)
    if type(value) in (int, float):
        value = np.int64(value) if type(value) is int else np.float64(value)
    if not isinstance(value, np.generic) or value.dtype != dtype:
        raise TypeError(f"{name} must be a number of {dtype}, got {value!r}")
    return np.ctypeslib.as_ctypes(np.asarray(value))
