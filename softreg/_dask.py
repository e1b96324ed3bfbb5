"""Dask: the only module that talks to it.

`Cluster` starts tasks on named workers and waits for their answers, watching that there
is still somebody to give them. Without a distributed client everything runs on Dask's
local scheduler.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from softreg._arrays import is_dask

# How long a cluster may be without workers, or silent, before a fit gives up.
GRACE_SECONDS = 30.0
# How often it is asked, while answers are awaited.
POLL_SECONDS = 0.5
# Larger messages go to the workers apart from their tasks, which the scheduler keeps.
MESSAGE_BYTES = 1 << 20
_SECEDED = threading.local()


class LostError(RuntimeError):
    """Something that was sent to the workers is gone with one of them."""


class Cluster:
    """The workers of a distributed client.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def threads(self) -> dict[str, int]:
        """Return the threads of each live worker, once there is one."""
        since = time.monotonic()
        while not (alive := self._alive()):
            if time.monotonic() - since > GRACE_SECONDS:
                raise _deserted()
            time.sleep(POLL_SECONDS)
        return alive

    def holders(self, futures: Sequence[Any]) -> list[str]:
        """Return the worker that holds each result, "" where it is being recomputed."""
        keys = [future.key for future in futures]
        held = self._asked(self.client.scheduler.who_has(keys=keys))
        return [min(held.get(key) or [""]) for key in keys]

    def start(self, function: Callable[..., Any], *args: Any, worker: str) -> Any:
        """Start a task, on a worker if it lives; its result stays on the cluster."""
        return self.client.submit(
            function, *args, workers=[worker], allow_other_workers=True, pure=False
        )

    def compute(self, collections: Sequence[Any]) -> list[Any]:
        """Start computing Dask collections; the results stay on the cluster."""
        return list(self.client.compute(list(collections)))

    def send(self, message: Any, size: int, workers: Sequence[str]) -> Any:
        """Return a message as an argument of tasks: itself, or where it was sent."""
        if size <= MESSAGE_BYTES:
            return message
        alive = self._alive()
        there = [worker for worker in workers if worker in alive]
        return self._waited(
            self.client.scatter(
                message,
                workers=there or None,
                broadcast=len(workers) > 1,
                hash=False,
                asynchronous=True,
            )
        )

    def answers(self, futures: Sequence[Any]) -> list[Any]:
        """Return the results of tasks.

        Raises
        ------
        LostError
            Where a task depends on what was sent to a worker that is gone.
        RuntimeError
            Where no worker is left, or tasks bring their workers down.
        """
        try:
            return list(self._waited(self.client.gather(futures, asynchronous=True)))
        except OSError as error:
            # A task's own error is the user's; else a worker was lost on the way.
            if any(future.status == "error" for future in futures):
                raise
            raise _lost(error) from error

    def _waited(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return a coroutine's result while there are workers to give it."""
        from distributed import CancelledError, KilledWorker

        pending = self._run(coroutine)
        since = time.monotonic()
        try:
            while True:
                try:
                    return pending.result(POLL_SECONDS)
                except TimeoutError:
                    if pending.done():
                        raise
                since = time.monotonic() if self._alive() else since
                if time.monotonic() - since > GRACE_SECONDS:
                    raise _deserted()
        except KilledWorker as error:
            raise RuntimeError(
                "The workers must survive their tasks, got several that died in one: "
                f"{error}. They probably ran out of memory: use more or larger workers."
            ) from error
        except CancelledError as error:
            if self.client.status == "closed":
                raise _deserted() from error
            raise _lost(error) from error
        finally:
            pending.cancel()
            # Its error holds this frame, and the frame would hold tasks.
            del pending

    def _alive(self) -> dict[str, int]:
        """Return the threads of each live worker; of none if nobody answers."""
        try:
            threads = self._asked(self.client.scheduler.ncores())
        except (TimeoutError, OSError):
            return {}
        return dict(sorted(threads.items()))

    def _asked(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return the scheduler's answer to a question, which it has at once."""
        pending = self._run(coroutine)
        try:
            return pending.result(GRACE_SECONDS / 2)
        finally:
            pending.cancel()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(
            coroutine, self.client.loop.asyncio_loop
        )


def _lost(error: BaseException) -> LostError:
    return LostError(
        "The rows of X must come from a source that workers can read again, got rows "
        f"that are gone with a worker: {error}. Make the Dask collection of files or "
        "arrays, not of scattered data."
    )


def _deserted() -> RuntimeError:
    return RuntimeError(
        f"The cluster must have a live worker, got none for {GRACE_SECONDS:g} s, or a "
        "scheduler that does not answer. The estimator is as it was before the fit. "
        "Start workers, and fit again."
    )


def cluster_of(collection: Any) -> Cluster | None:
    """Return the cluster that a collection would be computed on; None: this process."""
    from dask.base import get_scheduler

    scheduler = get_scheduler(collections=[collection])
    client = getattr(scheduler, "__self__", None)
    return Cluster(client) if hasattr(client, "scheduler_info") else None


def computed(values: Any) -> Any:
    """Return a Dask collection as what it holds, anything else as it is."""
    if not is_dask(values):
        return values
    cluster = cluster_of(values)
    if cluster is None:
        return values.compute()
    with seceded():
        return cluster.answers(cluster.compute([values]))[0]


@contextmanager
def seceded() -> Iterator[None]:
    """Leave the worker's pool where this runs in a task.

    The tasks that it waits for could else have no thread to run on.
    """
    if getattr(_SECEDED, "inside", False) or not _in_task():
        yield
        return
    from distributed import rejoin, secede

    secede()
    _SECEDED.inside = True
    try:
        yield
    finally:
        _SECEDED.inside = False
        rejoin()


def _in_task() -> bool:
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return False
    return True


def partitions_of(X: Any) -> list[Any]:
    """Return the partitions of an array or a frame, all columns each, as delayed."""
    if is_frame(X):
        return list(X.to_delayed())
    return np.ravel(X.rechunk({1: -1}).to_delayed()).tolist()


def each(function: Callable[..., Any], parts: Sequence[Any], *args: Any) -> list[Any]:
    """Return the function of every part, and of what else it takes, as delayed."""
    from dask import delayed

    lazy = delayed(function, pure=False, traverse=False)
    # One task of the graph each, which all parts share.
    shared = [delayed(value, pure=False, traverse=False) for value in args]
    return [lazy(part, *shared) for part in parts]


def computed_here(parts: Sequence[Any]) -> list[Any]:
    """Compute delayed values on Dask's local scheduler."""
    import dask

    return list(dask.compute(*parts))


def is_frame(X: Any) -> bool:
    """Return whether a collection is a frame rather than an array."""
    return hasattr(X, "dtypes")


def head_of(X: Any) -> Any:
    """Return a matrix of a collection's columns and no rows."""
    return X._meta if is_frame(X) else np.empty((0, X.shape[1]), X.dtype)


def applied(
    function: Callable[..., Any], X: Any, shape: tuple[int, ...], dtype: Any, *args: Any
) -> Any:
    """Return the function of each partition's rows as a lazy array.

    Its value has a row of this shape a row of X.
    """
    import dask.array

    parts = partitions_of(X)
    counts = [np.nan] * len(parts) if is_frame(X) else X.chunks[0]
    meta = np.empty((0,) * (1 + len(shape)), dtype)
    blocks = [
        dask.array.from_delayed(part, (count, *shape), meta=meta)
        for part, count in zip(each(function, parts, *args), counts, strict=True)
    ]
    return dask.array.concatenate(blocks, allow_unknown_chunksizes=True)
