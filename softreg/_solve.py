"""Fits as batches: which solver, which reduction, and back to the user's columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from softreg._arrays import Array, like, namespace, rounded_to, to_numpy, zeros
from softreg._geometry import Geometry
from softreg._losses import TopK
from softreg._objective import Objective
from softreg._problem import Problem, RowSpace, row_space_pays, to_row_space
from softreg._smoothing import for_loss, resumed
from softreg.solvers import NewtonCG, NewtonCholesky, Solver
from softreg.solvers._loop import Halted, Record, Result, Stop, Watcher

# docs/how-to-choose.md has the measurements behind this.
EXACT_NEWTON_OPERATIONS = 5e6
# A share of the objective that is no rounding.
SHIFTED = 1e-12


class Solution(NamedTuple):
    """The end of a batch of fits, problem first."""

    coef: Array  # (B, k, P)
    value: np.ndarray
    gap: np.ndarray
    reached: np.ndarray  # what was compared with tol
    n_iter: np.ndarray
    converged: np.ndarray
    reason: list[str]  # "tol", "max_iter", "stalled", "kinks", "separated", "halted"
    history: list[list[Record]]
    solver: str
    held_out: np.ndarray  # (B, 2) accuracy, log-probability of held-out rows; or nan


def choose_solver(problem: Problem) -> Solver:
    """Return the solver of `solver="auto"`."""
    side = problem.shape[0] * problem.shape[1]
    small = problem.X.shape[0] * side**2 <= EXACT_NEWTON_OPERATIONS
    smooth = not isinstance(problem.loss, TopK)
    return NewtonCholesky() if small and smooth else NewtonCG()


def solve(
    problem: Problem,
    l2: np.ndarray,
    solver: Solver | None,
    *,
    tol: float,
    max_iter: int,
    coef: Array | None = None,
    dtype: str = "float64",
    watch: Sequence[Watcher] = (),
) -> Solution:
    """Fit the model of a problem at each penalty of l2 (B,), all in one batch.

    `coef` (B, k, P) is where to start, `dtype` that of the answer: value and gap are
    those of the rounded coefficients.
    """
    path = solve_path(
        problem, [l2], solver, tol=tol, max_iter=max_iter, dtype=dtype, watch=watch,
        starts=None if coef is None else [coef],
    )  # fmt: skip
    return next(path)


def solve_path(
    problem: Problem,
    penalties: Sequence[np.ndarray],
    solver: Solver | None,
    *,
    tol: float,
    max_iter: int,
    dtype: str = "float64",
    starts: Sequence[Array] | None = None,
    watch: Sequence[Watcher] = (),
) -> Iterator[Solution]:
    """Yield the fits at each of a sequence of penalties (B,), from strong to weak.

    Each starts from the last solution, whose objective is at most that of W = 0 where
    the penalty is weaker, or where the last two lead to if that is better: solutions go
    nearly straight in the logarithm of the penalty once classes are nearly separated.
    `starts` has other points to start from. What is known of X, and its reduction,
    serve all penalties. Where a watcher halts a fit, it is the last.
    """
    reduced = None
    with problem.engine, np.errstate(over="ignore", invalid="ignore"):
        if starts is None and problem.whole and row_space_pays(problem.X):
            reduced = to_row_space(problem)
    small = problem if reduced is None else reduced.problem
    fit = Fit(small, reduced, solver or choose_solver(small), tol, max_iter, dtype)
    trail = None
    for index, l2 in enumerate(penalties):
        # What is not finite is dealt with as that.
        try:
            with problem.engine, np.errstate(all="ignore"):
                other = None if starts is None else starts[index]
                solution, trail = fit.at(l2, trail, other, watch)
        except Halted as halted:
            there = evaluated(problem, l2, halted.coef[None, ...], dtype)
            yield _where_halted(there, halted.rows, fit)
            return
        yield solution


def _where_halted(there: Solution, rows: Sequence[Record], fit: Fit) -> Solution:
    """Return where a watcher halted a fit as its end, under the best bound proven."""
    last, value, gap = rows[-1], there.value, there.gap
    # Smooth relatives, coarser products and other columns prove nothing of F.
    exact = last.precision == "float64" and not isinstance(fit.problem.loss, TopK)
    if exact and fit.reduced is None and np.isfinite(gap).all():
        lower = last.objective - last.optimality_gap
        gap = np.minimum(gap, np.maximum(value - lower, 0.0))
    proven = np.isfinite(gap) & (value != 0)
    reached = np.where(proven, gap / np.abs(np.where(proven, value, 1)), there.reached)
    end = there.history[0][-1]._replace(
        iteration=last.iteration,
        objective=float(value[0]),
        optimality_gap=float(gap[0]),
        seconds=last.seconds + there.history[0][-1].seconds,
        solver=fit.solver.name,
    )
    return there._replace(
        gap=gap,
        reached=reached,
        n_iter=np.array([last.iteration]),
        converged=(reached <= fit.tol) & (np.array(there.reason) != "separated"),
        reason=["halted"],
        history=[[*rows[:-1], end]],
        solver=fit.solver.name,
    )


def evaluated(problem: Problem, l2: np.ndarray, coef: Array, dtype: str) -> Solution:
    """Return a point as if a fit had ended there: its value and its proven gap."""
    fit = Fit(problem, None, NewtonCG(), tol=0.0, max_iter=0, dtype=dtype)
    unknown = like(np.full_like(l2, np.inf), problem.weight)
    there = Trail(like(coef, problem.weight), unknown, unknown)
    with problem.engine, np.errstate(over="ignore", invalid="ignore"):
        return fit.at(l2, there, None, ())[0]


class Trail(NamedTuple):
    """The last solution of a path, in the reduced columns, and where it came from."""

    coef: Array  # (B, k, P)
    value: Array  # (B,)
    l2: Array  # (B,)
    before: Trail | None = None

    def start(self, objective: Objective) -> Array:
        """Return the better of the last solution and where the last two lead to."""
        if self.before is None:
            return self.coef
        xp, l2 = namespace(self.coef), objective.l2
        ratio = xp.log(self.l2 / l2) / xp.log(self.before.l2 / self.l2)
        ahead = self.coef + ratio[:, None, None] * (self.coef - self.before.coef)
        # The loss of the last solution is known: only its penalty has changed.
        value = self.value + objective.penalty(self.coef) * (1 - self.l2 / l2)
        better = objective.evaluate(ahead).value < value
        return xp.where(better[:, None, None], ahead, self.coef)

    def then(self, coef: Array, value: Array, l2: Array) -> Trail:
        """Return the trail to the next solution."""
        return Trail(coef, value, l2, self._replace(before=None))


@dataclass(frozen=True)
class Fit:
    """What the fits at all penalties have in common."""

    problem: Problem
    reduced: RowSpace | None
    solver: Solver
    tol: float
    max_iter: int
    dtype: str

    def at(
        self,
        l2: np.ndarray,
        trail: Trail | None,
        other: Array | None,
        watch: Sequence[Watcher],
    ) -> tuple[Solution, Trail]:
        """Return the solution at penalties l2 (B,), and the trail that leads there."""
        problem, reduced = self.problem, self.reduced
        penalties = like(l2, problem.weight)
        objective = in_fit_precision(problem.objective(penalties))
        check_range(objective.geometry)
        stop = Stop(self.tol, self.max_iter, _reference(objective, l2))
        start = problem.start(len(l2)) if trail is None else trail.start(objective)
        if other is not None:
            start = _better_start(objective, like(other, start), start)
        able = for_loss(self.solver, objective.loss)
        lifting = watch if reduced is None else [lifted_for(w, reduced) for w in watch]
        result = able.minimize(objective, start, stop=stop, watch=lifting)
        end = result.coef, like(result.value, result.coef), penalties
        trail = Trail(*end) if trail is None else trail.then(*end)
        if reduced is not None:
            objective = reduced.original.objective(penalties)
            lifted = reduced.lift(result.coef)
            result = _settled(objective, lifted, result, stop, watch)
        return _finished(objective, result, stop, self.solver.name, self.dtype), trail


def lifted_for(watcher: Watcher, reduced: RowSpace) -> Watcher:
    """Return a watcher of the reduced problem, told of the original coefficients."""
    return lambda row, coef: watcher(row, reduced.lift(coef[None, ...])[0, ...])


def _reference(objective: Objective, l2: np.ndarray) -> np.ndarray:
    """Return the slopes at zero, (B, 2); nan where a penalty lets a gap be proven."""
    if np.all(l2 > 0):
        return np.full((len(l2), 2), np.nan)
    n_rows = objective.parametrisation.n_rows
    shape = (len(l2), n_rows, objective.moments.mean_x.shape[-1])
    slopes = objective.slopes(objective.evaluate(zeros(shape, objective.l2)))
    return np.where(l2[:, None] > 0, np.nan, slopes)


def _settled(
    objective: Objective,
    coef: Array,
    result: Result,
    stop: Stop,
    watch: Sequence[Watcher],
) -> Result:
    """Prove a lifted solution on the original columns, and polish it where need be.

    A reduction may then be slow, but never wrong.
    """
    precise = objective.in_double() or objective
    unpenalised = bool(namespace(objective.l2).any(objective.l2 == 0))
    if unpenalised:
        if precise.separated(coef).any():
            # No optimum to polish for; off the row space coefficients would drift.
            return result._replace(coef=coef)
        stop = stop._replace(reference=_reference(precise, to_numpy(objective.l2)))
    solver = for_loss(NewtonCG(), precise.loss, from_near=True)
    return resumed(solver, precise, result, coef, stop, watch)


def check_range(geometry: Geometry) -> None:
    """Refuse columns whose squares overflow: nothing could be computed of them."""
    squares = geometry.squares
    if not bool(namespace(squares).all(namespace(squares).isfinite(squares))):
        raise ValueError(
            "X must have columns whose squares are finite, got values so large that "
            "they overflow. Divide the columns down."
        )


def in_fit_precision(objective: Objective) -> Objective:
    """Return the objective in float64 where float32 products would be all rounding."""
    double = objective.in_double()
    if double is not None and objective.geometry.wants_double:
        return double
    return objective


def _better_start(objective: Objective, coef: Array, start: Array) -> Array:
    """Return the better of a last solution and a cold start, for each problem.

    A start far from the optimum would only cost digits and iterations.
    """
    xp = namespace(start)
    coef = objective.without_idle_columns(coef)
    warm, cold = objective.evaluate(coef).value, objective.evaluate(start).value
    return xp.where((warm <= cold)[:, None, None], coef, start)


def _finished(
    objective: Objective, result: Result, stop: Stop, name: str, dtype: str
) -> Solution:
    """Centre over the classes, round to the answer's dtype, and say how it ended."""
    precise = objective.in_double() or objective
    coef = result.coef
    value, gap, reached = result.value, result.gap, result.reached.copy()
    if not objective.parametrisation.folded:
        coef = coef - namespace(coef).mean(coef, axis=1, keepdims=True)
        # Losses see no shift of all classes; only a solver of a user's leaves one.
        excess = objective.penalty(result.coef) - objective.penalty(coef)
        fall = np.where(to_numpy(excess) > SHIFTED * value, to_numpy(excess), 0.0)
        value, gap = value - fall, gap - fall
    converged, reason = result.converged.copy(), list(result.reason)
    held_out = result.held_out
    if dtype != "float64":
        coef = rounded_to(coef, dtype)
        lower = value - gap
        point = precise.evaluate(coef)
        if precise.intercept == "free":
            # Rounded weights of columns with large means shift the scores.
            balanced = precise.balance(point).coef
            coef = rounded_to(balanced, dtype)
            point = precise.evaluate(coef)
        if point.held_out is not None:
            held_out = to_numpy(point.held_out)
        value = to_numpy(point.value)
        gap = np.minimum(value - lower, to_numpy(point.gap))
        gap = np.maximum(gap, to_numpy(point.rounding) * np.abs(value))
        for i in np.flatnonzero(np.isfinite(gap)).tolist():
            reached[i] = gap[i] / abs(value[i])
            if converged[i] and reached[i] > stop.tol:
                converged[i], reason[i] = False, "stalled"
    unpenalised = to_numpy(objective.l2) == 0
    if unpenalised.any():
        for i in np.flatnonzero(unpenalised & precise.separated(coef)).tolist():
            converged[i], reason[i] = False, "separated"
    return Solution(
        coef,
        value,
        gap,
        reached,
        result.n_iter,
        converged,
        reason,
        result.history,
        name,
        held_out,
    )
