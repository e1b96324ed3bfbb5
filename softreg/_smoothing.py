"""Solving a loss that has kinks by smooth ones that tend to it.

At a kink no choice of a subgradient vanishes, so neither a solver nor the bound gets
anywhere. The smooth loss of a width lies above the exact one and its gradient p is an
eps-subgradient of that; so the bound of the smooth objective at a point, plus the mean
eps, bounds the exact gap there (docs/mathematics.md). Widths fall until that is tol.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from softreg._arrays import Array, like, namespace, to_numpy
from softreg._losses import Loss, Softmax, TopK
from softreg._objective import Objective
from softreg.solvers import LBFGS
from softreg.solvers._loop import Journal, Record, Result, Stop, Watcher

WIDTHS = tuple(10.0**-power for power in range(1, 9))
# How well the fit that only starts the next is solved: the softmax fit, and others.
START_TOL = 1e-2
LEAST_SCALE = 1e-4
TOL_OF_WIDTH = 0.1
# Without a penalty nothing is proven: the width at which to stop.
UNPROVEN_WIDTH = 1e-4


class Minimizer(Protocol):
    """A `Solver`, or solvers in turn."""

    @property
    def name(self) -> str:
        """Its name."""

    def minimize(
        self,
        objective: Objective,
        coef: Array,
        *,
        stop: Stop,
        watch: Sequence[Watcher] = (),
    ) -> Result:
        """Return the minimiser of each problem from coef (B, k, P)."""


class Annealed(NamedTuple):
    """A solver of the smooth objectives, from the softmax fit on.

    `from_near` where the start is an optimum but for rounding: it is then judged first,
    and left only if it need be.
    """

    solver: Minimizer
    from_near: bool = False

    @property
    def name(self) -> str:
        """Name of the solver."""
        return self.solver.name

    def minimize(
        self,
        objective: Objective,
        coef: Array,
        *,
        stop: Stop,
        watch: Sequence[Watcher] = (),
    ) -> Result:
        """Return the minimiser of each problem from coef (B, k, P)."""
        exact = objective.loss
        assert isinstance(exact, TopK)
        if self.from_near:
            return self._from_near(objective, exact, coef, stop, watch)
        softmax = replace(objective, loss=Softmax())
        near = stop._replace(tol=max(stop.tol, START_TOL))
        result = self.solver.minimize(softmax, coef, stop=near, watch=watch)
        # What is smoothed must be small beside the loss itself.
        scale = float(np.clip(result.value.max(), LEAST_SCALE, 1.0))
        widths = [scale * width for width in WIDTHS]
        return self._narrowed(objective, exact, result, stop, watch, widths)

    def _from_near(
        self,
        objective: Objective,
        exact: TopK,
        coef: Array,
        stop: Stop,
        watch: Sequence[Watcher],
    ) -> Result:
        journal = Journal(coef, stop)
        journal.record(objective, range(coef.shape[0]), objective.evaluate(coef))
        start = journal.result()
        nearest, first = start, 0
        for index, width in enumerate(WIDTHS):
            own = replace(objective, loss=exact.smoothed(width))
            judged = _judged(own, start, stop, width)
            if index == 0 or judged.reached.max() < nearest.reached.max():
                nearest, first = judged, index
            if judged.converged.all():
                return judged
        return self._narrowed(objective, exact, nearest, stop, watch, WIDTHS[first:])

    def _narrowed(
        self,
        objective: Objective,
        exact: TopK,
        result: Result,
        stop: Stop,
        watch: Sequence[Watcher],
        widths: Sequence[float],
    ) -> Result:
        """Solve the smooth objectives of falling widths until the exact one is."""
        best = result if self.from_near else None
        for width in widths:
            own = replace(objective, loss=exact.smoothed(width))
            near = stop._replace(tol=max(stop.tol / 2, TOL_OF_WIDTH * width))
            result = resumed(self.solver, own, result, result.coef, near, watch)
            if "stalled" in result.reason and self.solver.name != LBFGS.name:
                result = resumed(LBFGS(), own, result, result.coef, near, watch)
            judged = _judged(own, result, stop, width, watch)
            best = result = judged if best is None else _better(best, judged, stop)
            if result.converged.all() or (result.n_iter >= stop.max_iter).any():
                break
        return result


def _better(old: Result, new: Result, stop: Stop) -> Result:
    """Return the lower point of each problem, under the best bound that both prove."""
    lower = np.maximum(old.value - old.gap, new.value - new.gap)
    keep = old.value < new.value
    xp = namespace(new.coef)
    coef = xp.where(like(keep, new.coef)[:, None, None], old.coef, new.coef)
    value = np.minimum(old.value, new.value)
    gap = np.where(np.isfinite(lower), value - lower, new.gap)
    reached = np.where(np.isfinite(lower), gap / np.abs(value), new.reached)
    converged = new.converged | (np.isfinite(lower) & (reached <= stop.tol))
    reason = ["tol" if d else r for d, r in zip(converged, new.reason, strict=True)]
    last = [
        [*rows[:-1], rows[-1]._replace(objective=float(v), optimality_gap=float(g))]
        for rows, v, g in zip(new.history, value, gap, strict=True)
    ]
    return new._replace(
        coef=coef,
        value=value,
        gap=gap,
        reached=reached,
        converged=converged,
        reason=reason,
        history=last,
    )


def for_loss(solver: Minimizer, loss: Loss, *, from_near: bool = False) -> Minimizer:
    """Return a solver that can do with the loss."""
    return Annealed(solver, from_near) if isinstance(loss, TopK) else solver


def resumed(
    solver: Minimizer,
    objective: Objective,
    result: Result,
    coef: Array,
    stop: Stop,
    watch: Sequence[Watcher],
) -> Result:
    """Return a further stage, from coef, its history counted on."""
    left = stop._replace(max_iter=max(0, stop.max_iter - int(result.n_iter.max())))

    def later(row: Record) -> Record:
        last = result.history[row.problem][-1]
        return row._replace(
            iteration=row.iteration + last.iteration,
            seconds=row.seconds + last.seconds,
        )

    watchers = [lambda row, coef, w=w: w(later(row), coef) for w in watch]
    more = solver.minimize(objective, coef, stop=left, watch=watchers)
    rows = [[later(row) for row in own] for own in more.history]
    history = [old + new for old, new in zip(result.history, rows, strict=True)]
    return more._replace(n_iter=result.n_iter + more.n_iter, history=history)


def _judged(
    smooth: Objective,
    result: Result,
    stop: Stop,
    width: float,
    watch: Sequence[Watcher] = (),
) -> Result:
    """Return the result with the value and the gap of the exact objective."""
    since = time.perf_counter()
    precise = smooth.in_double() or smooth
    point = precise.evaluate(result.coef)
    if stop.wants_balance(point):
        point = precise.balance(point)
    above, eps = (to_numpy(sums) for sums in precise.slack(point.coef))
    value = to_numpy(point.value) - above
    gap = to_numpy(point.gap) + eps + to_numpy(point.rounding) * np.abs(value)
    slopes = precise.slopes(point)
    members = range(len(value))
    reached = np.array([stop.reached(value[b], gap[b], slopes[b], b) for b in members])
    proven = np.isfinite(gap)
    converged = (reached <= stop.tol) & (proven | (width <= UNPROVEN_WIDTH))
    spent = result.n_iter >= stop.max_iter
    reason = [
        "tol" if done else "max_iter" if out else "kinks"
        for done, out in zip(converged, spent, strict=True)
    ]
    history = []
    for b, rows in enumerate(result.history):
        row = rows[-1]._replace(
            objective=float(value[b]),
            gradient_norm=float(slopes[b, 0]),
            optimality_gap=float(gap[b]),
            passes=precise.passes,
            seconds=rows[-1].seconds + time.perf_counter() - since,
            precision="float64",
        )
        history.append([*rows, row])
        for watcher in watch:
            watcher(row, point.coef[b, ...])
    return result._replace(
        coef=point.coef,
        value=value,
        gap=gap,
        reached=reached,
        converged=converged,
        reason=reason,
        history=history,
    )
