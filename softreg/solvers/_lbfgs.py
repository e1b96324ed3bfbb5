"""SciPy's L-BFGS-B, in coordinates in which the Hessian at W = 0 is the identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize

from softreg._arrays import Array, is_on_gpu, like, to_numpy
from softreg.solvers._loop import (
    PATIENCE,
    Journal,
    Result,
    Stop,
    Watcher,
    check_counts,
    run_stage,
)
from softreg.solvers._newton_cg import FinishedByNewton, NewtonCG
from softreg.solvers._protocols import Objective, Point
from softreg.solvers._two_loop import MemoryState, TwoLoop


@dataclass(frozen=True)
class LBFGS(FinishedByNewton):
    """Limited-memory BFGS, whitened: SciPy's, or the same in the library of the data.

    With `M = a X'X + lambda I = L L'` SciPy's routine minimises over `v = L' W'`, on
    the host, a problem of a batch after the other. Data on a GPU are solved there, all
    problems of a batch at once, and only scalars visit the host. Nothing of size n x K
    is kept. One pass over X each evaluation, about one an iteration.

    SciPy's line search compares values, so it ends where they differ by their rounding
    only. Where that is short of `tol`, `NewtonCG`, which goes by slopes, finishes a
    convex objective.

    Parameters
    ----------
    memory : int, default=10
        Pairs of steps and gradients kept (`maxcor`).
    max_line_search : int, default=50
        Most evaluations in a line search of SciPy's (`maxls`).
    on_host : bool or None, default=None
        Whether to run SciPy's routine; None: unless the data lie on a GPU.

    Raises
    ------
    ValueError
        For an option out of its range.

    References
    ----------
    Liu & Nocedal, "On the limited memory BFGS method", Math. Programming 45, 1989.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from softreg import SoftmaxRegression
    >>> from softreg.solvers import LBFGS
    >>> X, y = load_wine(return_X_y=True)
    >>> model = SoftmaxRegression(C=1e-3, solver=LBFGS(memory=30)).fit(X, y)
    >>> model.converged_, model.solver_
    (True, 'lbfgs')
    """

    memory: int = 10
    max_line_search: int = 50
    on_host: bool | None = None

    name = "lbfgs"

    def __post_init__(self) -> None:
        check_counts(self, "memory", "max_line_search")
        if self.on_host is not None and not isinstance(self.on_host, bool):
            raise ValueError(
                f"on_host must be None, True or False, got {self.on_host!r}. None is "
                "SciPy's routine unless the data lie on a GPU."
            )

    def minimize(
        self,
        objective: Objective,
        coef: Array,
        *,
        stop: Stop,
        watch: Sequence[Watcher] = (),
    ) -> Result:
        """Return the minimiser of each problem from coef (B, k, P)."""
        on_host = not is_on_gpu(coef) if self.on_host is None else self.on_host
        if not on_host:
            return super().minimize(objective, coef, stop=stop, watch=watch)
        journal = Journal(coef, stop, watch, self.name)
        for member in range(coef.shape[0]):
            own = objective.take([member]) if coef.shape[0] > 1 else objective
            self._minimize_one(own, journal, member)
            double = own.in_double()
            if double is not None:
                own = double
                journal.forget_bounds([member])
                self._minimize_one(own, journal, member)
            if journal.reason[member] == "stalled" and own.convex:
                run_stage(NewtonCG(), own, journal, [member])
        return journal.result()

    def start(self, objective: Objective, coef: Array) -> MemoryState:
        """Evaluate the start, in the library of the data."""
        return TwoLoop(self.memory).start(objective, coef)

    def step(self, objective: Objective, state: MemoryState) -> MemoryState:
        """Step along the two-loop recursion's direction."""
        return TwoLoop(self.memory).step(objective, state)

    def _minimize_one(
        self, objective: Objective, journal: Journal, member: int
    ) -> None:
        """Run SciPy's routine, afresh where its line search gave up too early."""
        watchdog = _Watchdog(objective, journal, member)
        watchdog.take_note(objective.evaluate(journal.coef[member][None, ...]))
        while not watchdog.finished:
            before = journal.value[member]
            scipy.optimize.minimize(
                watchdog.value_and_gradient,
                watchdog.depart(),
                jac=True,
                method="L-BFGS-B",
                callback=watchdog,
                options={
                    "maxcor": self.memory,
                    "maxls": self.max_line_search,
                    "maxiter": journal.stop.max_iter,
                    "maxfun": np.iinfo(np.int32).max,
                    "ftol": 0.0,
                    "gtol": 0.0,
                },
            )
            fall = before - journal.value[member]
            # Of values that are no numbers nothing falls.
            if not watchdog.finished and not fall > objective.eps * abs(before):
                journal.reason[member] = "stalled"
                return


class _Watchdog:
    """Value and gradient for SciPy, and its callback: stop, history, balance."""

    def __init__(self, objective: Objective, journal: Journal, member: int) -> None:
        self.objective, self.journal, self.member = objective, journal, member
        self.whitening = objective.shared_preconditioner()
        self.finished = False
        self.origin: Array
        self.last: Point

    def depart(self) -> np.ndarray:
        """Return the origin of whitened coordinates: the best point so far."""
        self.origin = self.journal.coef[self.member][None, ...]
        return np.zeros(self.origin.shape).ravel()

    def value_and_gradient(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Evaluate at whitened coordinates."""
        vector = like(flat.reshape(self.origin.shape), self.origin)
        coef = self.origin + self.whitening.unwhiten(vector)
        self.last = self.objective.evaluate(coef)
        gradient = self.whitening.whiten(self.last.gradient)
        return float(self.last.value[0]), to_numpy(gradient).ravel()

    def __call__(self, intermediate_result: Any) -> None:
        """Record the accepted point, which is the last evaluated; stop when done."""
        self.journal.n_iter[self.member] += 1
        self.take_note(self.last)
        if self.finished:
            raise StopIteration

    def take_note(self, point: Point) -> None:
        """Record a point, with balanced intercepts where only they are in the way."""
        journal, member = self.journal, self.member
        if journal.stop.wants_balance(point):
            point = self.objective.balance(point)
        journal.record(self.objective, [member], point)
        stalled = journal.idle[member] >= PATIENCE
        if stalled and not journal.converged[member]:
            journal.reason[member] = "stalled"
        self.finished = bool(
            stalled or journal.converged[member] or journal.exhausted(member)
        )
