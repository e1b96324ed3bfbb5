"""Scores as the functions need them: checked, tempered, shifted."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np

from softreg._arrays import Array, as_floating, namespace


def shift_scores(z: Any, axis: int, temperature: float = 1.0) -> Array:
    """Return tempered scores less their largest along the axis."""
    temperature = within(
        temperature, "temperature", "(0, inf)", lambda value: 0 < value < np.inf
    )
    z = as_floating(z)
    shifted = z - namespace(z).max(z, axis=axis, keepdims=True)
    return shifted if temperature == 1 else shifted / temperature


def checked_alpha(alpha: Any) -> float:
    """Return the order of the entropy."""
    return within(alpha, "alpha", "(0, 2]", lambda value: 0 < value <= 2)


def within(
    value: Any, name: str, allowed: str, inside: Callable[[float], bool]
) -> float:
    """Return a number that lies in its interval."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number in {allowed}, got {value!r}.")
    if not inside(float(value)):
        raise ValueError(f"{name} must be in {allowed}, got {value!r}.")
    return float(value)
