"""Truncated Newton with a factorised preconditioner that is renewed when it tires."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, TypeVar

import numpy as np

from softreg._arrays import Array, namespace, to_numpy
from softreg.solvers._conjugate_gradient import newton_direction
from softreg.solvers._line_search import FLATNESS, Step, search
from softreg.solvers._loop import (
    Journal,
    Result,
    Solver,
    Stop,
    Watcher,
    check_counts,
    inner,
    largest_entry,
    run_stage,
    run_stages,
)
from softreg.solvers._protocols import Objective, Point

State = TypeVar("State", bound=Any)


class NewtonState(NamedTuple):
    """Where the solver stands, what it solves with, and when to renew that."""

    point: Point
    stalled: np.ndarray
    preconditioner: Any = None  # None: to be made before the next step
    thoroughness: int = 0
    spent: float = 0.0  # passes since the preconditioner was made

    def take(self, members: list[int]) -> NewtonState:
        """Return the state of fewer problems."""
        return fewer(self, members)


@dataclass(frozen=True)
class NewtonCG(Solver):
    """Newton's method with conjugate gradients, preconditioned by a factorised Hessian.

    It starts with the Hessian's shape at W = 0, one Cholesky factor for every class.
    Where CG needs many steps or the line search leaves step 1, the Hessian at the
    current point is factorised instead (all of it, or one block for the classes and all
    of it along the leading axes of the data), from a sample of rows, once as many
    passes have been spent as it costs.

    Scores and probabilities (n x K) are kept beside their rows while they take less
    than 64 MB (on a GPU a quarter of what is free), else recomputed. One pass over X
    each CG step, two each iteration.

    Parameters
    ----------
    cg_tol : float, default=0.3
        CG ends after step j once that step's share of the model's decrease is at most
        `cg_tol / j`.
    max_cg : int, default=200
        Most CG steps in an iteration.
    patience : int, default=6
        CG steps in an iteration above which the preconditioner counts as tired.
    tensor_float : bool, default=False
        Whether Hessian products of float32 on a GPU may round their factors to
        TensorFloat-32 (10 bits), which its tensor cores multiply several times faster.
        Only the steps become rougher: gradients, and so the optimum and its proof, are
        exact. Refused where the data lie on no GPU.

    Raises
    ------
    ValueError
        For an option out of its range.

    References
    ----------
    Galli & Lin, "Truncated Newton methods for linear classification", 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from softreg import SoftmaxRegression
    >>> from softreg.solvers import NewtonCG
    >>> X, y = load_wine(return_X_y=True)
    >>> model = SoftmaxRegression(C=1e-3, solver=NewtonCG(max_cg=50)).fit(X, y)
    >>> model.converged_, model.solver_
    (True, 'newton-cg')
    """

    cg_tol: float = 0.3
    max_cg: int = 200
    patience: int = 6
    tensor_float: bool = False

    name = "newton-cg"

    def __post_init__(self) -> None:
        share: Any = self.cg_tol
        if not (isinstance(share, Real) and 0 < float(share) < 1):
            raise ValueError(
                f"cg_tol must be a number in (0, 1), got {self.cg_tol!r}. The default "
                "is 0.3."
            )
        check_counts(self, "max_cg", "patience")
        if not isinstance(self.tensor_float, bool):
            raise ValueError(
                f"tensor_float must be True or False, got {self.tensor_float!r}. True "
                "needs data on a GPU."
            )

    def start(self, objective: Objective, coef: Array) -> NewtonState:
        """Evaluate the start; away from W = 0 it has a Hessian of its own."""
        point = objective.evaluate(coef, keep=True)
        away = bool(namespace(coef).any(coef[..., :-1] != 0))
        stalled = np.zeros(coef.shape[0], dtype=bool)
        return NewtonState(point, stalled, thoroughness=int(away))

    def step(self, objective: Objective, state: NewtonState) -> NewtonState:
        """Solve the Newton system roughly, search the line, renew if tired."""
        if state.preconditioner is None:
            state = state._replace(preconditioner=made(objective, state))
        newton = newton_direction(
            objective,
            state.point,
            state.preconditioner,
            tol=self.cg_tol,
            max_steps=self.max_cg,
            tensor_float=self.tensor_float,
        )
        point, lengths = advance(objective, state.point, newton.direction)
        stalled = lengths == 0
        stalled |= exhausted(objective, state.point, point, newton.decrease)
        state = state._replace(
            point=point, stalled=stalled, spent=state.spent + newton.n_steps + 1
        )
        tired = newton.n_steps > self.patience or bool((lengths != 1).any())
        return renewing(objective, state) if tired else state


class FinishedByNewton(Solver):
    """A solver that, where it stalls short of `tol`, is finished by Newton's method.

    That goes by slopes and sees the curvature where it stands: a step of it proves what
    steps of rougher kinds can only come near.
    """

    def minimize(
        self,
        objective: Objective,
        coef: Array,
        *,
        stop: Stop,
        watch: Sequence[Watcher] = (),
    ) -> Result:
        """Return the minimiser of each problem from coef (B, k, P)."""
        journal = Journal(coef, stop, watch, self.name)
        members = list(range(coef.shape[0]))
        run_stages(self, objective, journal, members)
        stalled = [b for b in members if journal.reason[b] == "stalled"]
        if stalled and objective.convex:
            double = (objective.in_double() or objective).take(stalled)
            run_stage(NewtonCG(), double, journal, stalled)
        return journal.result()


def fewer(state: State, members: list[int]) -> State:
    """Return the state of fewer problems, of a solver with a preconditioner."""
    kept = state.preconditioner
    return state._replace(
        point=state.point.take(members),
        stalled=state.stalled[members],
        preconditioner=None if kept is None else kept.take(members),
    )


def renewing(objective: Objective, state: State) -> State:
    """Return the state without its preconditioner, where a better one has been earned.

    It is dropped here and made in the next step, so that two are never held at once.
    """
    thoroughness = max(1, 2 * state.thoroughness)
    if state.spent < objective.curvature_cost(thoroughness):
        return state
    return state._replace(preconditioner=None, thoroughness=thoroughness, spent=0.0)


def made(objective: Objective, state: Any) -> Any:
    """Return the preconditioner of a state that has none."""
    if state.thoroughness == 0:
        return objective.shared_preconditioner()
    return objective.curvature_preconditioner(state.point, state.thoroughness)


def advance(
    objective: Objective, point: Point, direction: Array, flatness: float = FLATNESS
) -> tuple[Point, np.ndarray]:
    """Return the point of the line search and the steps, 0 where it found none.

    Where there is no step along a direction, which rounding or a Hessian without
    curvature can bring about, that of the Hessian at W = 0 is tried.
    """
    xp = namespace(direction)
    step = searched(objective, point, direction, flatness)
    failed = step.length == 0
    if bool(xp.any(failed)):
        plain = -objective.shared_preconditioner().solve(point.gradient)
        direction = xp.where(failed[:, None, None], plain, direction)
        step = searched(objective, point, direction, flatness)
    moved = objective.evaluate(
        point.coef + step.length[:, None, None] * direction, keep=True
    )
    return moved, to_numpy(step.length)


def searched(
    objective: Objective, point: Point, direction: Array, flatness: float
) -> Step:
    """Return the line search's step along a direction."""
    slope = inner(point.gradient, direction)
    return search(objective.line(point, direction), point.value, slope, flatness)


def exhausted(
    objective: Objective, old: Point, new: Point, decrease: Array
) -> np.ndarray:
    """Return where rounding ends all progress, (B,).

    Below the rounding of the value the gradient can still fall, since the line search
    goes by slopes; a problem is exhausted once it no longer does.
    """
    tiny = to_numpy(decrease) <= objective.eps * np.abs(to_numpy(old.value))
    return tiny & (largest_entry(new.gradient) > largest_entry(old.gradient) / 2)
