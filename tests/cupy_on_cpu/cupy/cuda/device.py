"""One device, which is this machine."""

from __future__ import annotations

from typing import Any

from cupy import _streams

MEMORY = 8 << 30


class Device:
    """The device of a number: there is but 0."""

    def __init__(self, device: Any = None) -> None:
        self.id = 0 if device is None else int(device)
        if self.id != 0:
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

    def __int__(self) -> int:
        return self.id

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *args: Any) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CPU stand-in of CuPy, device {self.id}>"

    def use(self) -> None:
        pass

    def synchronize(self) -> None:
        _streams.finish()

    @property
    def mem_info(self) -> tuple[int, int]:
        """Return what is free and what there is, in bytes: made up."""
        return MEMORY, MEMORY
