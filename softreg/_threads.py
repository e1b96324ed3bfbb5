"""BLAS held to one thread while blocks of rows run side by side."""

from __future__ import annotations

import os
from functools import cache
from threading import Lock
from types import TracebackType
from typing import Any

from threadpoolctl import ThreadpoolController


class SingleBlasThread:
    """A limit on this process's BLAS libraries that any thread may enter.

    The first to enter sets it and the last to leave lifts it. threadpoolctl alone does
    not serve here: its limits are a stack of one thread, so fits that overlap would
    restore each other's, and OpenBLAS obeys only the first thread that ever set one.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._limit: Any = None
        self._before = 1

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = _blas_threads()
                _take_control()
                self._limit = _blas().limit(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                _take_control()
                self._limit.restore_original_limits()
                _take_control()

    def n_usable_threads(self) -> int:
        """Return the threads this process may use: its cores, or its BLAS's if fewer.

        joblib and OMP_NUM_THREADS give a process its share by the BLAS limit.
        """
        with self._lock:
            allowed = self._before if self._inside else _blas_threads()
        return min(_cores(), allowed)


SINGLE_BLAS_THREAD = SingleBlasThread()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _blas() -> ThreadpoolController:
    """Return the one controller of this process's BLAS libraries."""
    return ThreadpoolController().select(user_api="blas")


def _blas_threads() -> int:
    """Return the fewest threads a BLAS library may use; without one, all cores."""
    threads = [library["num_threads"] for library in _blas().info()]
    return max(1, min(threads, default=_cores()))


def _take_control() -> None:
    """Let the calling thread set OpenBLAS's limit, whoever set it last."""
    for library in _blas().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)
