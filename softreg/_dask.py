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
        if self.client.status == "closed":
            raise _deserted()
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
        sent = self.client.scatter(
            message,
            workers=[worker for worker in workers if worker in alive] or None,
            broadcast=len(workers) > 1,
            hash=False,
            asynchronous=True,
        )
        try:
            return self._waited(sent)
        except OSError as error:  # a worker was lost on the way
            raise _lost(error) from error

    def settle(self, futures: Sequence[Any]) -> None:
        """Wait until tasks are done, or failed; their results stay where they are."""

        async def done() -> None:
            for future in futures:
                while not future.done():
                    await asyncio.sleep(POLL_SECONDS / 100)

        self._waited(done())

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
        except Exception as error:
            failed = any(future.status == "error" for future in futures)
            # The client keeps a task's error, that this frame, and that its tasks.
            for future in futures:
                future.release()
            # A task's own error is the user's; else a worker was lost on the way.
            if isinstance(error, OSError) and not failed:
                raise _lost(error) from error
            raise

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


def each_partition(function: Callable[..., Any], X: Any, argument: Any) -> list[Any]:
    """Return the function of each partition, all columns of it, as delayed."""
    from dask import delayed

    # One task of the graph, which all partitions share.
    shared = delayed(argument, pure=False, traverse=False)
    if is_frame(X):
        lazy = delayed(function, pure=False, traverse=False)
        return [lazy(part, shared) for part in X.to_delayed()]
    # In one task with what makes the partition, where Dask can.
    whole = X.rechunk({1: -1})
    blocks = whole.map_blocks(function, shared, dtype=X.dtype, meta=np.empty((0, 0)))
    return np.ravel(blocks.to_delayed()).tolist()


def row_counts(X: Any) -> list[float]:
    """Return the rows of each partition; nan where that is not known."""
    if is_frame(X):
        return [np.nan] * X.npartitions
    return list(X.chunks[0])


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
    function: Callable[..., Any], X: Any, shape: tuple[int, ...], meta: Any, arg: Any
) -> Any:
    """Return the function of each partition as a lazy array.

    Its value has a row of this shape a row of X, and is of the kind of `meta`.
    """
    import dask.array

    blocks = [
        dask.array.from_delayed(part, (count, *shape), meta=meta)
        for part, count in zip(
            each_partition(function, X, arg), row_counts(X), strict=True
        )
    ]
    return dask.array.concatenate(blocks, allow_unknown_chunksizes=True)
