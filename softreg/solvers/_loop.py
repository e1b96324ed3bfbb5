"""The one loop of every solver: stopping, history, progress, dropping out.

A solver is a frozen dataclass of options with `start` and `step`; `Solver`, their base,
owns the rest.
Every array is problem first, so a batch sheds its finished members by one index.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from softreg._arrays import Array, namespace, to_numpy
from softreg.solvers._protocols import Objective, Point

# A problem that has not come nearer in so many iterations, by any measure, has stalled.
PATIENCE = 10
NEARER = 0.9
# The intercepts are balanced where the rest of the bound is at most this share of tol.
NEARLY = 0.8


class Stop(NamedTuple):
    """When to stop: gap at most tol times the value, or after max_iter iterations.

    Where nothing can be proven (gap inf) the largest entry of the gradient must fall to
    tol times that at zero, in the columns' own units and in units of their spread:
    `reference` (B, 2) has both. It is nan where only a gap will do, though that is inf
    where numbers overflow.
    """

    tol: float
    max_iter: int
    reference: np.ndarray

    def reached(
        self, value: float, gap: float, slopes: np.ndarray, member: int
    ) -> float:
        """Return what is compared with tol: the relative gap, or gradient."""
        if np.isfinite(gap):
            return gap / abs(value) if value else gap
        reference = self.reference[member]
        if np.isnan(reference).any():
            return np.inf
        return float((slopes / np.where(reference > 0, reference, 1)).max())

    def wants_balance(self, point: Point) -> bool:
        """Return whether only the intercepts keep a problem from being solved."""
        limit = self.tol * to_numpy(point.value)
        gap = to_numpy(point.gap)
        balanced = to_numpy(point.balanced_gap)
        return bool(
            np.any((gap > limit) & np.isfinite(gap) & (balanced <= NEARLY * limit))
        )


class Record(NamedTuple):
    """One row of a problem's history."""

    problem: int
    iteration: int
    objective: float
    gradient_norm: float
    optimality_gap: float
    passes: float
    seconds: float
    precision: str
    solver: str = ""


# Is told of every row, and of the best coefficients (k, P) so far.
Watcher = Callable[[Record, Array], None]


class Halted(Exception):  # noqa: N818
    """A watcher wants no more: it raises this through the solver.

    Parameters
    ----------
    coef : (k, P) array
        Of the answer.
    rows : list of Record
        The history so far.
    """

    def __init__(self, coef: Array, rows: list[Record]) -> None:
        super().__init__(coef, rows)
        self.coef, self.rows = coef, rows


class Result(NamedTuple):
    """What a solver returns, problem first."""

    coef: Array
    value: np.ndarray
    gap: np.ndarray
    reached: np.ndarray  # what was compared with tol
    n_iter: np.ndarray
    converged: np.ndarray
    reason: list[str]  # "tol", "max_iter" or "stalled"
    history: list[list[Record]]
    held_out: np.ndarray  # (B, 2) accuracy, log-probability of held-out rows; or nan


class Journal:
    """What happened to each problem: best point, proven bound, history."""

    def __init__(
        self,
        coef: Array,
        stop: Stop,
        watch: Sequence[Watcher] = (),
        solver: str = "",
    ) -> None:
        n_problems = coef.shape[0]
        self.stop, self.solver = stop, solver
        self.coef: list[Array] = [coef[b, ...] for b in range(n_problems)]
        self.value = np.full(n_problems, np.inf)
        self.rounding = np.zeros(n_problems)  # of the value, relatively
        self.gap = np.full(n_problems, np.inf)
        self.lower = np.full(n_problems, -np.inf)
        self.reached = np.full(n_problems, np.inf)
        self.idle = np.zeros(n_problems, dtype=int)  # iterations without progress
        self._nearest = np.full((n_problems, 3), np.inf)
        self.n_iter = np.zeros(n_problems, dtype=int)
        self.converged = np.zeros(n_problems, dtype=bool)
        self.reason = ["max_iter"] * n_problems
        self.history: list[list[Record]] = [[] for _ in range(n_problems)]
        self.held_out = np.full((n_problems, 2), np.nan)
        self._watch = tuple(watch)
        self._start = time.perf_counter()

    def forget_bounds(self, members: Sequence[int]) -> None:
        """Start proofs afresh: those so far were made with coarser products."""
        self.value[members] = np.inf
        self.lower[members] = -np.inf
        self.idle[members] = 0
        self._nearest[members] = np.inf

    def record(
        self, objective: Objective, members: Sequence[int], point: Point
    ) -> None:
        """Take note of the point of each member; never loses a better one."""
        values, gaps = to_numpy(point.value), to_numpy(point.gap)
        roundings = to_numpy(point.rounding)
        slopes = objective.slopes(point)
        for position, member in enumerate(members):
            value, own_gap = float(values[position]), float(gaps[position])
            rounding = float(roundings[position])
            # No bound or difference of values is known better than their rounding.
            lower = value - own_gap - rounding * (abs(value) + own_gap)
            self.lower[member] = max(self.lower[member], lower)
            # Of values that differ by rounding only, the latest has the better proof,
            # unless it is known to fewer digits: classes may have drifted together.
            known = self.value[member] * (1 + self.rounding[member])
            if value * (1 + rounding) <= known + 1e-15 * abs(value):
                self.value[member], self.rounding[member] = value, rounding
                # A solver may go on to write to its own.
                own = point.coef[position, ...]
                self.coef[member] = namespace(own).asarray(own, copy=True)
                if point.held_out is not None:
                    self.held_out[member] = to_numpy(point.held_out[position, :])
            floor = self.rounding[member] * abs(self.value[member])
            gap = max(self.value[member] - self.lower[member], floor)
            self.gap[member] = gap
            self._count_idle(member, gap, float(slopes[position].max()), floor)
            reached = self.stop.reached(
                self.value[member], gap, slopes[position], member
            )
            solved = bool(reached <= self.stop.tol and np.isfinite(self.value[member]))
            self.reached[member] = reached
            self.converged[member] = solved
            self.reason[member] = "tol" if solved else "max_iter"
            row = Record(
                member,
                int(self.n_iter[member]),
                float(self.value[member]),
                float(slopes[position, 0]),
                gap,
                objective.passes,
                time.perf_counter() - self._start,
                "float64" if objective.eps < 1e-10 else "float32",
                self.solver,
            )
            self.history[member].append(row)
            for watcher in self._watch:
                watcher(row, self.coef[member])

    def _count_idle(self, member: int, gap: float, slope: float, floor: float) -> None:
        """Count iterations in which neither value, gap nor slope came nearer."""
        value, old_gap, old_slope = self._nearest[member]
        nearer = (
            self.value[member] < value - floor
            or gap < NEARER * old_gap
            or slope < NEARER * old_slope
        )
        self.idle[member] = 0 if nearer else self.idle[member] + 1
        if nearer:
            best = (self.value[member], min(gap, old_gap), min(slope, old_slope))
            self._nearest[member] = best

    def exhausted(self, member: int) -> bool:
        """Return whether a problem has used its iterations."""
        return bool(self.n_iter[member] >= self.stop.max_iter)

    def best(self, members: Sequence[int]) -> Array:
        """Return the best coefficients of some problems, (B, k, P)."""
        return namespace(self.coef[0]).stack([self.coef[b] for b in members])

    def result(self) -> Result:
        """Return what is known of every problem."""
        return Result(
            self.best(range(len(self.coef))),
            self.value,
            self.gap,
            self.reached,
            self.n_iter,
            self.converged,
            self.reason,
            self.history,
            self.held_out,
        )


class Solver(ABC):
    """A way to minimise: how it starts, and one iteration.

    A subclass says both; pass an object of it as `solver=` of an estimator. The loop
    around them is the library's: it judges every point by its proven gap, keeps the
    history and the best point, tells callbacks, stops at `tol`, at `max_iter` or where
    nothing is gained in ten iterations, and goes on with float64 products where those
    of the data are coarser. So a solver that passes on the points it gets cannot return
    what is not proven, and one that comes to nothing ends in the one warning.

    Every array is a batch of problems, problem first, as the folds of a
    cross-validation are: a single fit is a batch of one. Objects should be unchangeable
    and without state of their own, as those of a frozen dataclass of options are: they
    are copied with the estimator.

    Attributes
    ----------
    name : str
        What `solver_` says; by default the name of the class.

    See Also
    --------
    Objective : What a solver may ask.
    Point : Where it stands.

    Examples
    --------
    Steps of length 1 in the metric of the Hessian at W = 0; docs/extending.md has a
    better one.

    >>> from typing import Any, NamedTuple
    >>> import numpy as np
    >>> from sklearn.datasets import load_wine
    >>> from softreg import SoftmaxRegression
    >>> from softreg.solvers import Point, Solver
    >>> class State(NamedTuple):
    ...     point: Point
    ...     stalled: np.ndarray
    ...     metric: Any
    ...
    ...     def take(self, members):
    ...         return State(self.point.take(members), self.stalled[members],
    ...                      self.metric.take(members))
    >>> class Plain(Solver):
    ...     def start(self, objective, coef):
    ...         metric = objective.shared_preconditioner()
    ...         stalled = np.zeros(len(coef), dtype=bool)
    ...         return State(objective.evaluate(coef), stalled, metric)
    ...
    ...     def step(self, objective, state):
    ...         step = state.metric.solve(state.point.gradient)
    ...         return state._replace(point=objective.evaluate(state.point.coef - step))
    >>> X, y = load_wine(return_X_y=True)
    >>> model = SoftmaxRegression(C=1e-3, solver=Plain()).fit(X, y)
    >>> model.solver_, model.converged_
    ('Plain', True)
    """

    @property
    def name(self) -> str:
        """What `solver_` says: the name of the class."""
        return type(self).__name__

    @abstractmethod
    def start(self, objective: Any, coef: Array) -> Any:
        """Return the state at the coefficients to start from.

        Parameters
        ----------
        objective : Objective
            Of the batch.
        coef : array of shape (B, k, P)
            Coefficients, the intercept in the last column: `k` is K, or 1 for two
            classes.

        Returns
        -------
        state : NamedTuple
            With `point`, the `Point` at coef; `stalled`, an ndarray of B bools, where
            no more progress is to be had; `take(members)`, the state of fewer problems;
            and whatever else the solver needs to remember, problem first.
        """

    @abstractmethod
    def step(self, objective: Any, state: Any) -> Any:
        """Return the state after one iteration of every problem.

        Parameters
        ----------
        objective : Objective
            Of the problems that are left of the batch.
        state : NamedTuple
            The state of these.

        Returns
        -------
        state : NamedTuple
            The next. Its point may be worse: the best is kept.
        """

    def minimize(
        self,
        objective: Any,
        coef: Array,
        *,
        stop: Stop,
        watch: Sequence[Watcher] = (),
    ) -> Result:
        """Run the loop: called by the library, not by users.

        Parameters
        ----------
        objective : Objective
            Of the batch.
        coef : array of shape (B, k, P)
            Where to start.
        stop : Stop
            When to stop.
        watch : sequence of callable
            Are told of every iteration.

        Returns
        -------
        result : Result
            The minimiser of each problem, and what is proven of it.
        """
        journal = Journal(coef, stop, watch, self.name)
        run_stages(self, objective, journal, list(range(coef.shape[0])))
        return journal.result()


def run_stages(
    solver: Solver, objective: Objective, journal: Journal, members: list[int]
) -> None:
    """Run some problems in every precision.

    Where the products are coarser than float64 the problems are solved in them first,
    and then in float64: only that proves anything, and it mends what rounding left.
    """
    run_stage(solver, objective, journal, members)
    double = objective.in_double()
    if double is not None:
        journal.forget_bounds(members)
        run_stage(solver, double, journal, members)


def run_stage(
    solver: Solver, objective: Objective, journal: Journal, members: list[int]
) -> None:
    """Run some problems from their best points, in one precision."""
    alive = members
    journal.idle[members] = 0
    state = solver.start(objective, journal.best(members))
    lacking = [n for n in ("point", "stalled", "take") if not hasattr(state, n)]
    if lacking:
        raise TypeError(
            f"{type(solver).__name__}.start must return a state with point, stalled "
            f"and take, got a {type(state).__name__} without {', '.join(lacking)}. "
            "softreg.solvers.Solver.start says what they are."
        )
    while True:
        if journal.stop.wants_balance(state.point):
            state = state._replace(point=objective.balance(state.point))
        journal.record(objective, alive, state.point)
        going = []
        for position, member in enumerate(alive):
            stalled = state.stalled[position] or journal.idle[member] >= PATIENCE
            if stalled and not journal.converged[member]:
                journal.reason[member] = "stalled"
            elif not journal.converged[member] and not journal.exhausted(member):
                going.append(position)
        if not going:
            return
        if len(going) < len(alive):
            objective, state = objective.take(going), state.take(going)
            alive = [alive[position] for position in going]
        state = solver.step(objective, state)
        journal.n_iter[alive] += 1


def check_counts(options: Any, *names: str, least: int = 1) -> None:
    """Raise where an option of a solver is not a whole number of at least so much."""
    for name in names:
        value = getattr(options, name)
        whole = isinstance(value, Integral) and type(value) is not bool
        if not whole or value < least:
            raise ValueError(
                f"{name} must be an integer of at least {least}, got {value!r}. Leave "
                "it out for the default."
            )


def largest_entry(gradient: Array) -> np.ndarray:
    """Return the largest absolute entry of each problem's gradient, (B,)."""
    xp = namespace(gradient)
    highest, lowest = xp.max(gradient, axis=(1, 2)), xp.min(gradient, axis=(1, 2))
    return to_numpy(xp.maximum(highest, -lowest))


def inner(left: Array, right: Array) -> Array:
    """Return the inner product of each problem, (B,)."""
    xp = namespace(left)
    n_problems = left.shape[0]
    return xp.vecdot(
        xp.reshape(left, (n_problems, -1)), xp.reshape(right, (n_problems, -1))
    )
