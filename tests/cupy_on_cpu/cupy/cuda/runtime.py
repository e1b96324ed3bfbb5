"""What the runtime says of the device."""

from __future__ import annotations

from typing import Any


def getDeviceCount() -> int:
    return 1


def getDeviceProperties(device: int) -> dict[str, Any]:
    return {"name": b"CPU stand-in of CuPy"}


def runtimeGetVersion() -> int:
    return 0
