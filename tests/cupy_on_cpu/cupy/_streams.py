"""Streams whose copies are made as late as the order that was asked for allows.

Kernels run at once, as on a device that is always idle. A copy on another stream than
the current one waits until something waits for it: who reads without waiting reads what
lay there before, and who overwrites what has yet to be copied sends that.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

_numbers = itertools.count()
_streams: weakref.WeakSet[Stream] = weakref.WeakSet()


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
        self._enqueue(event.synchronize)

    def synchronize(self) -> None:
        self._run_until(next(_numbers))

    @property
    def done(self) -> bool:
        return not self._queue

    def __enter__(self) -> Stream:
        raise NotImplementedError("the stand-in computes on the null stream")

    def __exit__(self, *args: Any) -> None:
        raise NotImplementedError

    def _enqueue(self, call: Callable[[], Any]) -> None:
        if self._null:
            call()
        else:
            self._queue.append((next(_numbers), call))

    def _waiting_until(self, number: int) -> bool:
        return bool(self._queue) and self._queue[0][0] < number

    def _run_until(self, number: int) -> None:
        while self._waiting_until(number):
            self._queue.popleft()[1]()


Stream.null = Stream(null=True)


def get_current_stream(device_id: int = -1) -> Stream:
    """Return the null stream: there is no way to leave it here."""
    return Stream.null


def enqueue(stream: Any, call: Callable[[], Any]) -> None:
    """Give a stream something to do."""
    (get_current_stream() if stream is None else stream)._enqueue(call)


def ordered_after(stream: Any) -> None:
    """Finish what a stream that is read from has to do."""
    if stream is not None:
        stream.synchronize()


def finish() -> None:
    """Finish what all streams have to do."""
    for stream in list(_streams):
        stream.synchronize()
