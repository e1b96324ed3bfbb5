"""Shuffled minibatches: short runs of consecutive rows from all over the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from softreg._arrays import namespace
from softreg._blocks import Block, LocalBlocks, even_cuts
from softreg._design import SampledDesign, rows_of

# A minibatch is gathered from about so many places: many enough to represent rows that
# are sorted by class, and few enough to be read at the speed of the disk.
RUNS = 256
# What a minibatch and its scores may take, each.
BATCH_BYTES = 1 << 26


class Run(NamedTuple):
    """Consecutive rows of one block."""

    block: int
    rows: slice


def minibatches(
    blocks: LocalBlocks, rng: np.random.Generator, n_rows: int
) -> Iterator[LocalBlocks]:
    """Yield all rows in a random order, about `n_rows` at a time.

    Each weighs as much as all of the data, so that its mean loss estimates theirs.
    """
    length = -(-n_rows // RUNS)
    counts = [block.weight.shape[1] for block in blocks.blocks]
    runs = [
        Run(index, slice(start, min(start + length, count)))
        for index, count in enumerate(counts)
        for start in range(0, count, length)
    ]
    order = rng.permutation(len(runs))
    for chosen in np.array_split(order, max(1, round(len(runs) * length / n_rows))):
        own = [runs[index] for index in sorted(chosen.tolist())]
        share = len(own) / len(runs)
        parts = [_gathered(blocks, own[slice(*cut)], share) for cut in halves(len(own))]
        yield replace(blocks, blocks=tuple(parts), share=share)


def evened(blocks: LocalBlocks) -> tuple[LocalBlocks, float]:
    """Return a minibatch whose weights sum to one, and its share of all weight."""
    total = sum(float(namespace(b.weight).sum(b.weight)) for b in blocks.blocks)
    parts = blocks.blocks
    if total > 0:
        parts = tuple(b._replace(weight=b.weight / total) for b in parts)
    return replace(blocks, blocks=parts), total * blocks.share


def halves(count: int) -> list[tuple[int, int]]:
    """Return (start, stop) of two parts: two threads share a minibatch."""
    return even_cuts(count, max(1, -(-count // 2)))


def _gathered(blocks: LocalBlocks, runs: Sequence[Run], share: float) -> Block:
    """Return some runs of rows as one block, read and cast."""
    pairs: list[Any] = [(blocks.blocks[run.block], run.rows) for run in runs]
    targets = [block.targets.of_rows(rows) for block, rows in pairs]
    weights = [block.weight[:, rows] for block, rows in pairs]
    X = [rows_of(block.design.X, rows.start, rows.stop) for block, rows in pairs]
    like = pairs[0][0].design
    design = SampledDesign(tuple(X), 1, like.dtype, like.has_intercept, weights[0])
    weight = namespace(weights[0]).concat(weights, axis=1) / share
    return Block(design.loaded(), targets[0].joined(targets[1:]), weight)


def default_rows(n_rows: int, shape: tuple[int, int], n_scores: int, width: int) -> int:
    """Return how many rows make a minibatch, of coefficients (k, P).

    About as many as there are coefficients: its Hessian then means something. At most a
    quarter of all rows, and what `BATCH_BYTES` hold.
    """
    held = BATCH_BYTES // (width * max(shape[1], n_scores))
    return max(1, min(max(shape[0] * shape[1], 1024), n_rows // 4, held))
