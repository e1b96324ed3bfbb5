"""Rows on the workers of a cluster: every reduction is a round, one task a shard.

The optimiser runs in this process; workers hold rows and answer. So every point of a
fit is a checkpoint: where a worker is lost, its rows are made again from their source
and the round is repeated.
"""

from __future__ import annotations

import pickle
import uuid
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from softreg._arrays import Array
from softreg._blocks import KEPT_BYTES, Engine, Kernel, Sums
from softreg._dask import Cluster, LostError, seceded
from softreg._design import Operand, design
from softreg._parts import Layout, Parted, RowData, surfaced
from softreg._shards import (
    ForgottenError,
    Round,
    View,
    added,
    answer,
    make_shard,
    total_of,
)

# A round that failed is repeated so often; each time what was lost is made anew.
ATTEMPTS = 5
# Answers of more than this, of all shards, are first added up among the workers.
GATHERED_BYTES = 1 << 25
FAN_IN = 4


class RoundEngine(Engine):
    """The client's part of a fit: one thread, for what is of the coefficients' size."""

    def __init__(self, n_shards: int) -> None:
        super().__init__(1, KEPT_BYTES * n_shards)
        self._outside = ExitStack()

    def __enter__(self) -> RoundEngine:
        self._outside.enter_context(seceded())
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self._outside.close()


class Group(NamedTuple):
    """The parts that one worker is to hold."""

    worker: str
    n_threads: int
    rows: np.ndarray  # their numbers in X
    pile: Any  # future


@dataclass(frozen=True)
class ShardedRows(Parted):
    """A matrix whose parts lie on the workers of a cluster."""

    cluster: Cluster
    groups: tuple[Group, ...]

    @property
    def engine(self) -> RoundEngine:
        """Return the client's part; the threads are the workers'."""
        return RoundEngine(len(self.groups))

    def blocks(self, rows: RowData, layout: Layout, engine: Engine) -> ShardedBlocks:
        """Return the rows in shards, one a worker."""
        kind = np.empty if self.nnz is None else scipy.sparse.csr_array
        like_parts = kind((0, self.shape[1]))
        shards = Shards(self, rows, layout)
        return ShardedBlocks(
            shards, View(layout.dtype), like_parts, layout, rows.weight, engine
        )


class Shards:
    """The shards of a fit, and how to have them again."""

    def __init__(self, source: ShardedRows, rows: RowData, layout: Layout) -> None:
        self._source, self._rows, self._layout = source, rows, layout
        self._forgotten: list[str] = []
        self._futures: list[Any] = []

    def _made(self) -> list[Any]:
        """Have every worker make its shard of the rows that it holds."""
        cluster, futures = self._source.cluster, []
        for group in self._source.groups:
            message = pickle.dumps(self._rows.at(group.rows), protocol=5)
            sent = cluster.send(message, len(message), [group.worker])
            futures.append(
                cluster.start(
                    make_shard, group.pile, sent, self._layout, group.n_threads,
                    worker=group.worker,
                )
            )  # fmt: skip
        return futures

    def drop(self) -> None:
        """Have the shards made anew by the next round."""
        self._futures = []

    def run(self, asked: Round) -> Sums:
        """Return the sums of a round over all shards, which are added in order."""
        cluster, groups = self._source.cluster, self._source.groups
        self._futures = self._futures or self._made()
        asked = asked._replace(forgotten=tuple(self._forgotten))
        message = pickle.dumps(asked, protocol=5)
        workers = [group.worker for group in groups]
        sent = cluster.send(message, len(message), workers)
        tasks = [
            cluster.start(answer, shard, sent, worker=worker)
            for shard, worker in zip(self._futures, workers, strict=True)
        ]
        if 8 * asked.summand_size * len(tasks) > GATHERED_BYTES:
            while len(tasks) > 1:
                tasks, workers = self._fewer(tasks, workers)
        answers = surfaced(cluster.answers(tasks))
        del self._forgotten[: len(asked.forgotten)]
        return total_of(answers)

    def _fewer(
        self, tasks: list[Any], workers: list[str]
    ) -> tuple[list[Any], list[str]]:
        """Have neighbouring answers added up on the first one's worker."""
        starts = range(0, len(tasks), FAN_IN)
        start = self._source.cluster.start
        sums = [start(added, *tasks[i : i + FAN_IN], worker=workers[i]) for i in starts]
        return sums, workers[::FAN_IN]

    def forget(self, name: str) -> None:
        """Let the workers drop what a round kept, when they are next asked."""
        self._forgotten.append(name)


class Keepsake:
    """What a round kept beside the rows, by its name, and how to have it again."""

    def __init__(self, asked: Round, source: Keepsake | None, shards: Shards) -> None:
        self.asked, self.source = asked, source
        weakref.finalize(self, shards.forget, asked.keep)


@dataclass(frozen=True)
class ShardedBlocks:
    """Blocks on the workers of a cluster, under a view that they apply."""

    shards: Shards
    view: View
    like_parts: Any  # a matrix without rows, of the parts' kind and columns
    layout: Layout
    weight: Array
    engine: Engine

    @property
    def dtype(self) -> Any:
        """Return the dtype of the products."""
        return self.view.dtype

    @property
    def reference(self) -> Array:
        """Return an array of the place that sums come back to."""
        return self.weight

    def operand(self, coef: Array) -> Operand:
        """Lay coefficients out for the products with every block."""
        has_intercept = self.layout.has_intercept
        kind = design(self.like_parts, self.dtype, has_intercept=has_intercept)
        return kind.operand(coef)

    def with_dtype(self, dtype: Any) -> ShardedBlocks:
        """Return the same rows with products in another dtype."""
        return replace(self, view=self.view._replace(dtype=dtype))

    def take(self, members: Array) -> ShardedBlocks:
        """Return the same rows for fewer problems."""
        if self.weight.shape[0] == 1:
            return self
        taken = (*self.view.members, members)
        return replace(self, view=self.view._replace(members=taken))

    def sampled(self, step: int, least: int = 1) -> ShardedBlocks:
        """Return every step-th row, weighing step times as much."""
        return replace(self, view=self.view._replace(step=step, least=least))

    def reduce(
        self,
        kernel: Kernel,
        *args: Any,
        summand_size: int,
        kept: Keepsake | None = None,
        reads: float = 1.0,
    ) -> tuple[Sums, Keepsake]:
        """Return the sums of the kernel over all rows, and what was kept of them."""
        self.engine.passes += reads
        given = None if kept is None else kept.asked.keep
        name = uuid.uuid4().hex
        asked = Round(kernel, args, summand_size, self.view, given, name)
        sums = self._answered(asked, kept)
        return sums, Keepsake(asked, kept, self.shards)

    def _answered(self, asked: Round, source: Keepsake | None) -> Sums:
        """Return the sums of a round, repeated after a loss."""
        for _ in range(ATTEMPTS):
            try:
                return self.shards.run(asked)
            except ForgottenError:
                assert source is not None
                self._answered(source.asked, source.source)
            except LostError:
                self.shards.drop()
        return self.shards.run(asked)


def dealt(
    holders: Sequence[str], n_rows: Sequence[float], threads: dict[str, int]
) -> dict[str, list[int]]:
    """Return the numbers of the parts that each worker is to hold.

    Those it has, up to its share of the rows by threads; the rest go where there is
    most room. A worker without parts is left out.
    """
    share = sum(n_rows) / sum(threads.values())
    room = {worker: share * count for worker, count in threads.items()}
    own: dict[str, list[int]] = {worker: [] for worker in threads}
    rest = []
    for part, (worker, rows) in enumerate(zip(holders, n_rows, strict=True)):
        if not rows:
            continue
        if room.get(worker, 0) >= rows / 2:
            own[worker].append(part)
            room[worker] -= rows
        else:
            rest.append(part)
    for part in rest:
        worker = max(room, key=lambda name: room[name])
        own[worker].append(part)
        room[worker] -= n_rows[part]
    return {worker: sorted(parts) for worker, parts in own.items() if parts}
