"""What a worker does: it holds rows as blocks, and answers rounds.

A shard is `LocalBlocks` of a list of parts; a round is one `reduce` of it, and a pure
function of its message, so it can be repeated wherever the rows are. What it keeps
beside its rows is a cache: a shard that moved lacks it, and says so.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from softreg._arrays import stored_bytes
from softreg._blocks import Engine, Kernel, LocalBlocks, Sums, add
from softreg._parts import Facts, Layout, blocks_of, facts_of, joined


class View(NamedTuple):
    """Which problems of the batch, which rows, in which precision."""

    dtype: Any
    members: tuple[Any, ...] = ()
    step: int = 1
    least: int = 1

    def of(self, blocks: LocalBlocks) -> LocalBlocks:
        """Return these blocks as the view has them."""
        blocks = blocks.with_dtype(self.dtype)
        for members in self.members:
            blocks = blocks.take(members)
        return blocks.sampled(self.step, self.least)


class Round(NamedTuple):
    """One reduction, as every shard is asked for it.

    Parameters
    ----------
    kernel : callable
    args : tuple
    summand_size : int
    view : View
    given : str or None
        Name of what the kernel is given of an earlier round.
    keep : str
        Name of what it keeps.
    forgotten : tuple of str
        Names of what nobody will ask for again.
    """

    kernel: Kernel
    args: tuple[Any, ...]
    summand_size: int
    view: View
    given: str | None
    keep: str
    forgotten: tuple[str, ...] = ()


class ForgottenError(Exception):
    """The shard does not have what the round builds on: it was made anew."""


@dataclass
class Shard:
    """Rows on a worker, with what rounds kept beside them."""

    blocks: LocalBlocks
    n_bytes: int
    kept: dict[str, list[Any]] = field(default_factory=dict)

    def __sizeof__(self) -> int:
        # Else the scheduler would think nothing of moving it.
        return self.n_bytes

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels: not the cache."""
        return self.__dict__ | {"kept": {}}

    def run(self, asked: Round) -> Sums:
        """Return the sums over these rows."""
        for name in asked.forgotten:
            self.kept.pop(name, None)
        if asked.given is not None and asked.given not in self.kept:
            raise ForgottenError
        with self.blocks.engine, np.errstate(over="ignore", invalid="ignore"):
            sums, states = asked.view.of(self.blocks).reduce(
                asked.kernel,
                *asked.args,
                summand_size=asked.summand_size,
                kept=None if asked.given is None else self.kept[asked.given],
            )
        if any(state is not None for state in states):
            self.kept[asked.keep] = states
        return sums


@dataclass(frozen=True)
class Pile:
    """The parts of a shard: of no size to the scheduler, as a shard has their size."""

    parts: tuple[Any, ...]
    facts: list[Facts | Exception]


def make_pile(*parts: Any) -> Pile:
    """Return parts, or errors in their place, in order; small ones are joined."""
    sound = [p for p in parts if not isinstance(p, Exception) and p.shape[0]]
    return Pile(joined(sound), [facts_of(part) for part in parts])


def facts_in(pile: Pile) -> list[Facts | Exception]:
    """Return what is known of each part, or the error in its place."""
    return pile.facts


def make_shard(pile: Pile, message: bytes, layout: Layout, n_threads: int) -> Shard:
    """Return the rows of a pile as blocks; the message is their `RowData`."""
    rows = pickle.loads(message)
    blocks = blocks_of(pile.parts, rows, layout)
    n_bytes = sum(stored_bytes(part) for part in pile.parts) + len(message)
    return Shard(LocalBlocks(blocks, Engine(n_threads)), n_bytes)


def answer(shard: Shard, message: bytes) -> Sums | Exception:
    """Return a shard's sums; an error is a value, which nobody tries again."""
    try:
        return shard.run(pickle.loads(message))
    except Exception as error:  # whatever it is, the client raises it
        return error


def added(*answers: Any) -> Sums | Exception:
    """Return the sum of answers in their order, or the first error among them."""
    for given in answers:
        if isinstance(given, Exception):
            return given
    return total_of(answers)


def total_of(answers: Sequence[Sums]) -> Sums:
    """Return the sum of answers in their order; they are left as they are."""
    total = tuple(np.array(part) for part in answers[0])
    for given in answers[1:]:
        total = add(total, given)
    return total
