"""The device, its memory and its streams: none of it is there."""

from __future__ import annotations

from typing import Any

from cupy._streams import Event, Stream, get_current_stream
from cupy.cuda import device, memory, runtime
from cupy.cuda.device import Device
from cupy.cuda.memory import MemoryPool

_POOL = MemoryPool()


def get_device_id() -> int:
    return 0


def alloc_pinned_memory(size: int) -> Any:
    raise NotImplementedError("the stand-in has cupyx.empty_pinned")
