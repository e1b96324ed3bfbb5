"""Rows in several arrays, one below another, as blocks: never one array."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from softreg._arrays import (
    Array,
    Described,
    is_sparse,
    namespace,
    stacked_rows,
    stored_bytes,
)
from softreg._blocks import (
    BLOCK_BYTES,
    Block,
    Blocks,
    Engine,
    HeldOut,
    LocalBlocks,
    even_cuts,
)
from softreg._design import design, rows_of
from softreg._targets import Targets


class RowData(NamedTuple):
    """What a fit knows of each row beside X."""

    targets: Targets
    weight: Array  # (W, n)
    held_out: HeldOut | None

    def at(self, rows: Array) -> RowData:
        """Return that of rows by their numbers."""
        xp, held_out = namespace(self.weight), self.held_out
        if held_out is not None:
            own = xp.take(held_out.weight, rows, axis=1)
            held_out = held_out._replace(weight=own)
        weight = xp.take(self.weight, rows, axis=1)
        return RowData(self.targets.at(rows), weight, held_out)


class Layout(NamedTuple):
    """How rows become blocks."""

    size: int  # rows of a block, at most
    dtype: Any  # of the products
    has_intercept: bool


class Parted(Described):
    """A matrix in parts, which says itself how it is reduced."""

    @abstractmethod
    def blocks(self, rows: RowData, layout: Layout, engine: Engine) -> Blocks:
        """Return the rows in pieces."""


@dataclass(frozen=True)
class LocalParts(Parted):
    """Parts in this process."""

    parts: tuple[Any, ...]

    def blocks(self, rows: RowData, layout: Layout, engine: Engine) -> LocalBlocks:
        """Return blocks of all parts."""
        return LocalBlocks(blocks_of(self.parts, rows, layout), engine)


class Facts(NamedTuple):
    """What is known of a part without its entries."""

    shape: tuple[int, int]
    dtype: Any
    nbytes: int
    nnz: int | None


def facts_of(part: Any) -> Facts | Exception:
    """Return what is known of a part, or the error in its place."""
    if isinstance(part, Exception):
        return part
    nnz = int(part.nnz) if is_sparse(part) else None
    return Facts(tuple(part.shape), part.dtype, stored_bytes(part), nnz)


def surfaced(answers: list[Any]) -> list[Any]:
    """Return answers, or raise the first error among them.

    An error holds the frames that it passes, and with them tasks on the cluster: they
    must not hold the error, too.
    """
    for given in answers:
        if isinstance(given, Exception):
            answers.clear()
            try:
                raise given
            finally:
                del given
    return answers


def blocks_of(parts: Sequence[Any], rows: RowData, layout: Layout) -> tuple[Block, ...]:
    """Return parts as blocks, views of them."""
    blocks, first = [], 0
    for part in parts:
        for start, stop in even_cuts(part.shape[0], layout.size):
            own = slice(first + start, first + stop)
            held_out = rows.held_out
            blocks.append(
                Block(
                    design(
                        rows_of(part, start, stop),
                        layout.dtype,
                        has_intercept=layout.has_intercept,
                    ),
                    rows.targets.of_rows(own),
                    rows.weight[:, own],
                    None if held_out is None else held_out.of_rows(own),
                )
            )
        first += part.shape[0]
    return tuple(blocks)


def joined(parts: Sequence[Any]) -> tuple[Any, ...]:
    """Return the parts, those that follow each other joined while they fit a block.

    A kernel's call costs as much as many rows: parts of few must not be blocks.
    """
    return tuple(
        group[0] if len(group) == 1 else stacked_rows(group) for group in _runs(parts)
    )


def _runs(parts: Sequence[Any]) -> Iterator[list[Any]]:
    group: list[Any] = []
    size = 0
    for part in parts:
        own = stored_bytes(part)
        kin = not group or is_sparse(group[0]) == is_sparse(part)
        if group and (size + own > BLOCK_BYTES or not kin):
            yield group
            group, size = [], 0
        group.append(part)
        size += own
    if group:
        yield group
