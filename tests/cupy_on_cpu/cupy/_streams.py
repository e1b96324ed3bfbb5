"""Streams whose copies are made as late as the order that was asked for allows.

Kernels run at once, as on a device that is always idle. A copy on another stream than
the current one waits until something waits for it: who reads without waiting reads what
lay there before. What is copied must stay as it is until the host has waited: that a
kernel waits is no wait of the host. Who overwrites it earlier is told so.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_numbers = itertools.count()
_streams: weakref.WeakSet[Stream] = weakref.WeakSet()


class InFlight(NamedTuple):
    """A copy that may still read its source, for all that the host knows."""

    number: int
    source: np.ndarray
    kept: np.ndarray


_in_flight: list[InFlight] = []


class Event:
    """A place in the queue of a stream."""

    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess=False
    ) -> None:
        self._stream: Stream | None = None
        self._number = -1

    def record(self, stream: Any = None) -> None:
        self._stream = get_current_stream() if stream is None else stream
        self._number = next(_numbers)

    def synchronize(self) -> None:
        self._reach()
        if self._stream is not None and not self._stream._null:
            _landed(self._number)

    def _reach(self) -> None:
        if self._stream is not None:
            self._stream._run_until(self._number)

    @property
    def done(self) -> bool:
        return self._stream is None or not self._stream._waiting_until(self._number)


class Stream:
    """A queue of copies; the null stream has none, since kernels run at once."""

    null: Stream

    def __init__(
        self, null=False, non_blocking=False, ptds=False, priority: Any = None
    ) -> None:
        self._null = null or ptds
        self._queue: deque[tuple[int, Callable[[], Any]]] = deque()
        _streams.add(self)

    def record(self, event: Any = None) -> Event:
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        # Of a stream with a queue the wait has its place in it.
        self._enqueue(event._reach)

    def synchronize(self) -> None:
        number = next(_numbers)
        self._run_until(number)
        if not self._null:
            _landed(number)

    @property
    def done(self) -> bool:
        return not self._queue

    def __enter__(self) -> Stream:
        raise NotImplementedError("the stand-in computes on the null stream")

    def __exit__(self, *args: Any) -> None:
        raise NotImplementedError

    def _enqueue(self, call: Callable[[], Any]) -> int:
        number = next(_numbers)
        if self._null:
            call()
        else:
            self._queue.append((number, call))
        return number

    def _waiting_until(self, number: int) -> bool:
        return bool(self._queue) and self._queue[0][0] < number

    def _run_until(self, number: int) -> None:
        while self._waiting_until(number):
            self._queue.popleft()[1]()


Stream.null = Stream(null=True)


def get_current_stream(device_id: int = -1) -> Stream:
    """Return the null stream: there is no way to leave it here."""
    return Stream.null


def copy_from_host(stream: Any, target: np.ndarray, source: np.ndarray) -> None:
    """Copy on a stream, once what it reads before is known to be as it was."""
    for copied in _in_flight:
        if not np.array_equal(copied.source, copied.kept, equal_nan=True):
            raise RuntimeError("memory was overwritten that a copy may still read")
    stream = get_current_stream() if stream is None else stream
    number = stream._enqueue(lambda: np.copyto(target, source))
    if not stream._null:
        _in_flight.append(InFlight(number, source, source.copy()))


def _landed(number: int) -> None:
    """Forget the copies before a moment that the host has waited for."""
    _in_flight[:] = [copied for copied in _in_flight if copied.number > number]


def ordered_after(stream: Any) -> None:
    """Finish what a stream has to do that the host reads by."""
    if stream is not None:
        stream.synchronize()
    queued = {number for s in list(_streams) for number, _ in s._queue}
    # The current stream has waited for what is in no queue any more.
    _in_flight[:] = [copied for copied in _in_flight if copied.number in queued]


def finish() -> None:
    """Finish what all streams have to do."""
    for stream in list(_streams):
        stream.synchronize()
