"""Limited-memory BFGS in the library of the data: only scalars leave a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from softreg._arrays import Array, like, namespace
from softreg.solvers._loop import inner
from softreg.solvers._newton_cg import advance, exhausted
from softreg.solvers._protocols import Objective, Point

# Wolfe's conditions: of sufficient decrease, and on the slope.
DECREASE = 1e-4
FLATNESS = 0.9


class Pair(NamedTuple):
    """A step, the change of the gradient along it, and 1 over their product (B,)."""

    step: Array
    change: Array
    inverse: Array  # 0 where the pair is of no use

    def take(self, index: Array) -> Pair:
        """Return that of fewer problems."""
        return Pair(*(namespace(a).take(a, index, axis=0) for a in self))


class MemoryState(NamedTuple):
    """Where the solver stands, and the last pairs, oldest first."""

    point: Point
    stalled: np.ndarray
    preconditioner: Any
    pairs: tuple[Pair, ...] = ()

    def take(self, members: list[int]) -> MemoryState:
        """Return the state of fewer problems."""
        index = like(np.asarray(members), self.point.coef)
        return MemoryState(
            self.point.take(members),
            self.stalled[members],
            self.preconditioner.take(members),
            tuple(pair.take(index) for pair in self.pairs),
        )


@dataclass(frozen=True)
class TwoLoop:
    """The two-loop recursion (Nocedal & Wright 2006, algorithm 7.4) on a batch.

    Its initial inverse Hessian is that of W = 0, scaled by the latest pair: the same
    method as SciPy's in whitened coordinates.
    """

    memory: int

    def start(self, objective: Objective, coef: Array) -> MemoryState:
        """Evaluate the start."""
        return MemoryState(
            objective.evaluate(coef),
            np.zeros(coef.shape[0], dtype=bool),
            objective.shared_preconditioner(),
        )

    def step(self, objective: Objective, state: MemoryState) -> MemoryState:
        """Step along the recursion's direction, and remember the pair."""
        old = state.point
        direction = -solved(state, old.gradient)
        decrease = -inner(old.gradient, direction) / 2
        new = objective.evaluate(old.coef + direction)
        lengths = np.ones(direction.shape[0])
        if not accepted(old, new, direction):
            new, lengths = advance(objective, old, direction, FLATNESS)
        stalled = lengths == 0
        stalled |= exhausted(objective, old, new, decrease)
        pairs = (*state.pairs, pair_of(old, new))[-self.memory :]
        if stalled.any() and state.pairs:
            # The memory may be what misleads: begin it anew before giving up.
            stalled, pairs = np.zeros_like(stalled), ()
        return state._replace(point=new, stalled=stalled, pairs=pairs)


def accepted(old: Point, new: Point, direction: Array) -> bool:
    """Return whether step 1 meets Wolfe's strong conditions in every problem."""
    xp = namespace(direction)
    slope, after = inner(old.gradient, direction), inner(new.gradient, direction)
    slack = new.rounding * xp.abs(old.value)
    fine = new.value <= old.value + DECREASE * slope + slack
    return bool(xp.all(fine & (xp.abs(after) <= FLATNESS * xp.abs(slope))))


def pair_of(old: Point, new: Point) -> Pair:
    """Return the pair of a step; of no use where there is no curvature along it."""
    xp = namespace(new.coef)
    step, change = new.coef - old.coef, new.gradient - old.gradient
    curvature = inner(step, change)
    least = float(xp.finfo(step.dtype).eps) * inner(change, change)
    useful = curvature > least
    safe = xp.where(useful, curvature, xp.ones_like(curvature))
    return Pair(step, change, xp.where(useful, 1 / safe, xp.zeros_like(curvature)))


def solved(state: MemoryState, gradient: Array) -> Array:
    """Return about the inverse Hessian times the gradient."""
    xp = namespace(gradient)
    shares = []
    vector = gradient
    for pair in reversed(state.pairs):
        share = pair.inverse * inner(pair.step, vector)
        vector = vector - share[:, None, None] * pair.change
        shares.append(share)
    vector = state.preconditioner.solve(vector)
    if state.pairs:
        last = state.pairs[-1]
        size = inner(last.change, state.preconditioner.solve(last.change))
        scaled = last.inverse * size
        usable = scaled > 0
        scale = 1 / xp.where(usable, scaled, xp.ones_like(scaled))
        vector = scale[:, None, None] * vector
    for pair, share in zip(state.pairs, reversed(shares), strict=True):
        back = share - pair.inverse * inner(pair.change, vector)
        vector = vector + back[:, None, None] * pair.step
    return vector
