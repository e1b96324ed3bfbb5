"""The part of cupyx that is used; see ../README.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from cupyx import scipy

_settings: dict[str, Any] = {
    "divide": None, "over": None, "under": None, "invalid": None, "linalg": "ignore",
}  # fmt: skip


def geterr() -> dict[str, Any]:
    return dict(_settings)


def seterr(
    *, divide=None, over=None, under=None, invalid=None, linalg=None
) -> dict[str, Any]:
    before = geterr()
    if any(value is not None for value in (divide, over, under, invalid)):
        raise NotImplementedError
    if linalg not in (None, "ignore", "raise"):
        raise NotImplementedError
    _settings["linalg"] = linalg or _settings["linalg"]
    return before


@contextmanager
def errstate(
    *, divide=None, over=None, under=None, invalid=None, linalg=None
) -> Iterator[None]:
    before = seterr(
        divide=divide, over=over, under=under, invalid=invalid, linalg=linalg
    )
    try:
        yield
    finally:
        seterr(**before)


def empty_pinned(shape, dtype=float, order="C") -> np.ndarray:
    return np.empty(shape, dtype, order)
