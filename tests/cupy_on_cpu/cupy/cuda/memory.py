"""The pool of the device's memory."""

from __future__ import annotations


class OutOfMemoryError(MemoryError):
    """There is no memory left on the device."""


class MemoryPool:
    """A pool that holds nothing back."""

    def free_bytes(self) -> int:
        return 0

    def used_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return 0

    def free_all_blocks(self, stream: object = None) -> None:
        pass
