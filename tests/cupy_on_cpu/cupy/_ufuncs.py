"""Elementwise functions, and the operators of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from cupy._array import arrays_of, host_of, ndarray, product, rows_first, wrapped

NAMES = (
    "abs absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh "
    "bitwise_and bitwise_or bitwise_xor ceil conj conjugate copysign cos cosh divide "
    "equal exp expm1 floor floor_divide greater greater_equal hypot invert isfinite "
    "isinf isnan left_shift less less_equal log log10 log1p log2 logaddexp logical_and "
    "logical_not logical_or logical_xor maximum minimum multiply negative nextafter "
    "not_equal positive power reciprocal remainder right_shift sign signbit sin sinh "
    "sqrt square subtract tan tanh true_divide trunc"
).split()


class ufunc:
    """A function of each element: of arrays and numbers, into C order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._function = getattr(np, name)
        self.nin = self._function.nin

    def __repr__(self) -> str:
        return f"<ufunc 'cupy_{self.name}'>"

    def __call__(
        self, *args: Any, out: Any = None, casting="same_kind", dtype: Any = None
    ) -> ndarray:
        if len(args) == self.nin + 1 and out is None:
            *args, out = args  # type: ignore[assignment]
        if len(args) != self.nin:
            raise TypeError(f"{self.name} takes {self.nin} arguments, got {len(args)}")
        operands = [host_of(a) for a in args]
        with np.errstate(all="ignore"):
            if out is None:
                return rows_first(self._function(*operands, dtype=dtype))
            (target,) = arrays_of(out)
            shape = np.broadcast_shapes(*(np.shape(o) for o in operands))
            if target.shape != shape:
                raise ValueError("Out shape is mismatched")
            self._function(*operands, out=target, casting=casting, dtype=dtype)
        return out


UFUNCS = {name: ufunc(name) for name in NAMES}


def _defers(array: ndarray, other: Any) -> bool:
    """Return whether the other operand has the word (sparse matrices have)."""
    if isinstance(other, ndarray):
        return False
    if hasattr(other, "__array_ufunc__"):
        return other.__array_ufunc__ is None
    return array.__array_priority__ < getattr(other, "__array_priority__", 0)


def _arithmetic(name: str, function: Any) -> None:
    def forward(self: ndarray, other: Any) -> Any:
        return NotImplemented if _defers(self, other) else function(self, other)

    def reflected(self: ndarray, other: Any) -> Any:
        return function(other, self)

    setattr(ndarray, f"__{name}__", forward)
    setattr(ndarray, f"__r{name}__", reflected)


def _in_place(name: str, function: ufunc) -> None:
    def updated(self: ndarray, other: Any) -> ndarray:
        return function(self, other, out=self)

    setattr(ndarray, f"__i{name}__", updated)


def _comparison(name: str, function: ufunc) -> None:
    def compared(self: ndarray, other: Any) -> Any:
        if _defers(self, other):
            return NotImplemented
        if isinstance(other, np.ndarray) and other.ndim == 0:
            other = other.item()
        if other is None and name in ("eq", "ne"):
            return wrapped(np.full(self.shape, name == "ne"))
        return function(self, other)

    setattr(ndarray, f"__{name}__", compared)


ARITHMETIC = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide",
    "floordiv": "floor_divide", "mod": "remainder", "pow": "power",
    "lshift": "left_shift", "rshift": "right_shift", "and": "bitwise_and",
    "or": "bitwise_or", "xor": "bitwise_xor",
}  # fmt: skip
COMPARISONS = {
    "lt": "less", "le": "less_equal", "eq": "equal", "ne": "not_equal",
    "gt": "greater", "ge": "greater_equal",
}  # fmt: skip
UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}

for operator, called in ARITHMETIC.items():
    _arithmetic(operator, UFUNCS[called])
    _in_place(operator, UFUNCS[called])
for operator, called in COMPARISONS.items():
    _comparison(operator, UFUNCS[called])
for operator, called in UNARY.items():
    setattr(ndarray, f"__{operator}__", lambda self, f=UFUNCS[called]: f(self))
# There is no @=.
_arithmetic("matmul", product)
