"""Rows in pieces: every number about the data is a sum over blocks of rows.

`LocalBlocks.reduce` forms such a sum on threads. A kernel is a module-level pure
function `kernel(block, kept, *args) -> (summands, kept)`; what travels back is of the
size of the coefficients, what it keeps stays beside its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from softreg._arrays import Array, device_context, keep_freed_memory, namespace
from softreg._design import Operand, Rows, SampledDesign
from softreg._targets import Targets
from softreg._threads import SINGLE_BLAS_THREAD

Sums = tuple[Array, ...]
Kernel = Callable[..., tuple[Sums, object]]

# A block of X this large stays in the cache between its two products.
BLOCK_BYTES = 1 << 22
SPARSE_BLOCK_ENTRIES = 1 << 18
MAX_BLOCK_ROWS = 3 << 12
# On a GPU a block's launches must be few beside its work.
GPU_BLOCK_BYTES = 1 << 28
# Scores and probabilities are kept beside their rows up to this size, else recomputed.
KEPT_BYTES = 1 << 26
# From so many rows on there are at least two blocks.
MIN_SPLIT_ROWS = 1 << 12
# Partial sums are held once a lane: fewer lanes where a sum is large.
LANE_BYTES = 1 << 23
MAX_LANES = 16


class HeldOut(NamedTuple):
    """How the rows that each problem leaves out are to be scored.

    Parameters
    ----------
    weight : (B, n) array
        Weights of the held-out rows, each row of it summing to one.
    least_log_proba : float
        Log-probabilities below this, or above `log(1 - exp(this))`, count as that.
    """

    weight: Array
    least_log_proba: float

    def of_rows(self, rows: slice) -> HeldOut:
        """Take the weights of some rows."""
        return self._replace(weight=self.weight[:, rows])

    def take(self, members: Array) -> HeldOut:
        """Return those of fewer problems."""
        weight = namespace(self.weight).take(self.weight, members, axis=0)
        return self._replace(weight=weight)


class Block(NamedTuple):
    """Rows with their targets and weights.

    `weight` is (1, rows), or (B, rows) where the problems of a batch weigh rows
    differently; over all blocks it sums to one.
    """

    design: Rows
    targets: Targets
    weight: Array
    held_out: HeldOut | None = None

    def pooled(self) -> Block:
        """Return the block with the mean of the problems' weights, (1, rows)."""
        if self.weight.shape[0] == 1:
            return self
        xp = namespace(self.weight)
        return self._replace(weight=xp.mean(self.weight, axis=0, keepdims=True))


class Engine:
    """Threads for the blocks of one fit, and the count of reads of X.

    Inside the context BLAS is held to one thread in this process; the blocks run side
    by side instead, and the sums do not depend on how many do. With `n_threads=0` the
    blocks run one by one, each on the threads or the GPU that their library uses.

    Parameters
    ----------
    n_threads : int
    kept_bytes : int or None
        Most that scores and probabilities may take beside their rows.
    place : array or None
        Of the library and on the device that is computed with; None is NumPy.
    """

    def __init__(
        self,
        n_threads: int = 1,
        kept_bytes: int | None = None,
        place: Array | None = None,
    ) -> None:
        self.n_threads = n_threads
        self._device = nullcontext() if place is None else device_context(place)
        self.kept_bytes = KEPT_BYTES if kept_bytes is None else kept_bytes
        self.passes = 0.0
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Engine:
        if self.n_threads == 0:
            self._device.__enter__()
            return self
        keep_freed_memory()
        if self.n_threads > 1:
            self._pool = ThreadPoolExecutor(self.n_threads - 1)
        # At the end: what is interrupted in here is never left.
        SINGLE_BLAS_THREAD.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.n_threads == 0:
            self._device.__exit__(kind, error, trace)
            return
        SINGLE_BLAS_THREAD.__exit__(kind, error, trace)
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def map(self, function: Callable[[int], Any], count: int) -> list[Any]:
        """Return the function of 0, ..., count - 1, computed by all threads.

        The caller's is one of them: to wake another and wait for it takes longer than
        a small block.
        """
        results: list[Any] = [None] * count
        left = iter(range(count))

        def work() -> None:
            for index in left:
                results[index] = function(index)

        helpers = []
        if self._pool is not None:
            n_helpers = min(self.n_threads, count) - 1
            helpers = [self._pool.submit(work) for _ in range(n_helpers)]
        try:
            work()
        except BaseException:
            # An interrupt does not wait until the others have read all rows.
            for _ in left:
                pass
            raise
        for helper in helpers:
            helper.result()
        return results


class Blocks(Protocol):
    """The rows of a fit in pieces, wherever they lie."""

    @property
    def engine(self) -> Engine:
        """What computes with them."""

    @property
    def dtype(self) -> Any:
        """The dtype of the products."""

    @property
    def reference(self) -> Array:
        """An array of the place that sums come back to."""

    def operand(self, coef: Array) -> Operand:
        """Lay coefficients out for the products with every block."""

    def with_dtype(self, dtype: Any) -> Self:
        """Return the same rows with products in another dtype."""

    def take(self, members: Array) -> Self:
        """Return the same rows for fewer problems."""

    def sampled(self, step: int, least: int = 1) -> Self:
        """Return every step-th row, weighing step times as much."""

    def reduce(
        self,
        kernel: Kernel,
        *args: Any,
        summand_size: int,
        kept: Any = None,
        reads: float = 1.0,
    ) -> tuple[Sums, Any]:
        """Return the sums of the kernel over the blocks, and what it kept of each."""


@dataclass(frozen=True)
class LocalBlocks:
    """Blocks in this process's memory: all rows, or a share of them."""

    blocks: tuple[Block, ...]
    engine: Engine
    share: float = 1.0

    @property
    def dtype(self) -> Any:
        """Return the dtype of the products."""
        return self.blocks[0].design.dtype  # type: ignore[attr-defined]

    @property
    def reference(self) -> Array:
        """Return an array of the place that is computed in."""
        return self.blocks[0].weight

    def operand(self, coef: Array) -> Operand:
        """Lay coefficients out for the products with every block."""
        return self.blocks[0].design.operand(coef)

    def with_dtype(self, dtype: Any) -> LocalBlocks:
        """Return the same rows with products in another dtype."""
        if dtype == self.dtype:
            return self
        blocks = tuple(
            b._replace(design=b.design._replace(dtype=dtype))  # type: ignore[attr-defined]
            for b in self.blocks
        )
        return replace(self, blocks=blocks)

    def take(self, members: Array) -> LocalBlocks:
        """Return the same rows for fewer problems."""
        if self.blocks[0].weight.shape[0] == 1:
            return self
        blocks = tuple(
            b._replace(
                weight=namespace(b.weight).take(b.weight, members, axis=0),
                held_out=None if b.held_out is None else b.held_out.take(members),
            )
            for b in self.blocks
        )
        return replace(self, blocks=blocks)

    def sampled(self, step: int, least: int = 1) -> LocalBlocks:
        """Return every step-th row, weighing step times as much.

        Blocks are merged to at least `least` rows, since the sum of a block of (P, P)
        is worth about P rows, but to two at the fewest.
        """
        if step == 1:
            return self
        n_blocks, rows = len(self.blocks), self.blocks[0].weight.shape[1]
        width = min(-(-step * least // rows), -(-n_blocks // 2))
        starts = range(0, n_blocks, width)
        merged = [_merged(self.blocks[i : i + width], step) for i in starts]
        return replace(self, blocks=tuple(merged))

    def reduce(
        self,
        kernel: Kernel,
        *args: Any,
        summand_size: int,
        kept: list[Any] | None = None,
        reads: float = 1.0,
    ) -> tuple[Sums, list[Any]]:
        """Return the sums of the kernel over the blocks, and what it kept of each.

        Block i is added in lane `i mod L`, the lanes in order; L follows from shapes
        alone. So the bits of a sum are the same for any number of threads.
        """
        n_blocks = len(self.blocks)
        lanes = max(2, min(MAX_LANES, LANE_BYTES // (8 * summand_size)))
        # Without threads there is one, in the order that a stream sends them.
        lanes = min(lanes, n_blocks) if self.engine.n_threads else 1
        states: list[Any] = [None] * n_blocks

        def run_lane(lane: int) -> Sums:
            total: Sums = ()
            # What overflows is not finite, and is dealt with as that.
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                for index in range(lane, n_blocks, lanes):
                    state = None if kept is None else kept[index]
                    sums, states[index] = kernel(self.blocks[index], state, *args)
                    total = add(total, sums)
            return total

        self.engine.passes += reads * self.share
        total: Sums = ()
        for sums in self.engine.map(run_lane, lanes):
            total = add(total, sums)
        return total, states


def _merged(blocks: Sequence[Any], step: int) -> Block:
    """Return every step-th row of some blocks as one."""
    first = blocks[0].design
    parts = tuple(block.design.X for block in blocks)
    targets = [block.targets.of_rows(slice(None, None, step)) for block in blocks]
    weights = [block.weight[:, ::step] * step for block in blocks]
    return Block(
        SampledDesign(parts, step, first.dtype, first.has_intercept, weights[0]),
        targets[0].joined(targets[1:]),
        namespace(weights[0]).concat(weights, axis=1),
    )


def add(total: Sums, sums: Sums) -> Sums:
    """Return the sum, in place of the total where its library can."""
    if not total:
        return sums
    merged = []
    for old, new in zip(total, sums, strict=True):
        old += new
        merged.append(old)
    return tuple(merged)


def even_cuts(n_rows: int, most: int) -> list[tuple[int, int]]:
    """Return (start, stop) of blocks of at most so many rows, of about one size.

    Their number is even: two threads then share them without a rest.
    """
    n_blocks = -(-n_rows // most)
    if n_blocks > 1 or n_rows >= MIN_SPLIT_ROWS:
        n_blocks += n_blocks % 2
    size = -(-n_rows // n_blocks)
    return [(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def block_rows(n_features: int, n_classes: int, itemsize: int) -> int:
    """Return how many rows of a dense X make a block; from shapes only."""
    rows = BLOCK_BYTES // (itemsize * max(n_features, n_classes, 1))
    return max(64, min(MAX_BLOCK_ROWS, rows))


def gpu_block_rows(n_features: int, n_scores: int, itemsize: int) -> int:
    """Return how many rows make a block on a GPU; `n_scores` of all problems."""
    return max(1024, GPU_BLOCK_BYTES // (itemsize * max(n_features, n_scores)))


def sparse_block_rows(
    n_rows: int, n_features: int, n_classes: int, n_stored: int
) -> int:
    """Return how many rows of a sparse X make a block.

    The sum of a block is dense, (K, d): its entries must be worth that, and its scores
    may be as large.
    """
    entries = max(SPARSE_BLOCK_ENTRIES, 4 * n_features)
    by_entries = entries * n_rows // max(n_stored, 1)
    by_scores = max(BLOCK_BYTES // n_classes, n_features)
    return max(64, min(by_entries, by_scores))
