"""Rows of the host on their way to a device, a block ahead of the kernels."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from softreg._arrays import Array, is_cupy, is_sparse, moved

Arrival = Callable[[], Array]


class Sender(Protocol):
    """A way to a device."""

    def send(self, rows: Any) -> Arrival:
        """Send rows off; the result, once called, returns them on the device."""


class RowStream:
    """Blocks of a matrix on the host, on the device of an array when they are read.

    They are read in order, again and again: while one is computed with, the next is
    sent. A block may be overwritten once the next but one is asked for.

    Parameters
    ----------
    blocks : sequence
        Rows on the host, views of one matrix.
    reference : array
        Of the library and on the device that they go to.
    """

    def __init__(self, blocks: Sequence[Any], reference: Array) -> None:
        self.blocks = blocks
        self._sender = sender_to(reference, blocks)
        self._ahead: tuple[int, Arrival] | None = None

    def read(self, index: int) -> Array:
        """Return a block on the device, and send the next one off."""
        if self._ahead is not None and self._ahead[0] == index:
            arrival = self._ahead[1]
        else:
            arrival = self._sender.send(self.blocks[index])
        following = (index + 1) % len(self.blocks)
        self._ahead = None
        if following != index:
            self._ahead = following, self._sender.send(self.blocks[following])
        return arrival()


class PlainSender:
    """A copy when it is asked for."""

    def __init__(self, reference: Array) -> None:
        self._reference = reference

    def send(self, rows: Any) -> Arrival:
        """Return the copy to come."""
        return lambda: moved(rows, self._reference)


class PinnedSender:
    """Copies to a GPU through two pinned buffers, beside the kernels.

    Parameters
    ----------
    shape : (int, int)
        Of the largest block.
    dtype : dtype
    reference : CuPy array
    """

    def __init__(self, shape: tuple[int, int], dtype: Any, reference: Array) -> None:
        import cupy
        import cupyx

        self._device = reference.device
        with self._device:
            self._stream = cupy.cuda.Stream(non_blocking=True)
            self._arrived = [cupy.empty(shape, dtype) for _ in range(2)]
        self._pinned = [cupyx.empty_pinned(shape, dtype) for _ in range(2)]
        self._copied: list[Any] = [None, None]
        # The buffers must not go back to their pools with a copy on its way.
        weakref.finalize(self, self._stream.synchronize)
        self._turn = 0

    def send(self, rows: Any) -> Arrival:
        """Stage the rows and start their copy, once their buffers are free."""
        import cupy

        turn, n_rows = self._turn, rows.shape[0]
        self._turn = 1 - turn
        if self._copied[turn] is not None:
            self._copied[turn].synchronize()
        staged = self._pinned[turn][:n_rows]
        np.copyto(staged, rows)
        target = self._arrived[turn][:n_rows]
        with self._device:
            kernels = cupy.cuda.get_current_stream()
            # Whatever reads what lay there before has been launched by now.
            self._stream.wait_event(kernels.record())
            target.set(staged, stream=self._stream)
            self._copied[turn] = self._stream.record()

        def arrival() -> Array:
            cupy.cuda.get_current_stream().wait_event(self._copied[turn])
            return target

        return arrival


def sender_to(reference: Array, blocks: Sequence[Any]) -> Sender:
    """Return the fastest way of some rows to the device of an array."""
    if not is_cupy(reference) or is_sparse(blocks[0]):
        return PlainSender(reference)
    most = max(block.shape[0] for block in blocks)
    return PinnedSender((most, blocks[0].shape[1]), blocks[0].dtype, reference)
