"""Exact Newton: the whole Hessian, factorised at every iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from softreg._arrays import Array, namespace
from softreg.solvers._loop import Solver, inner
from softreg.solvers._newton_cg import NewtonState, advance, exhausted, searched
from softreg.solvers._protocols import Objective, Point

# Trial steps read no row where scores are kept; a Hessian saved is worth many.
FLATNESS = 0.1
MAX_CORRECTIONS = 7
# A smaller Hessian costs less than a correction does.
MIN_SIDE = 64


@dataclass(frozen=True)
class NewtonCholesky(Solver):
    """Newton's method with a Cholesky factor of the whole Hessian.

    For small K (d + 1): the Hessian takes `8 (K (d + 1))^2` bytes, and an iteration
    `n (K (d + 1))^2` operations. Few iterations whatever the scale of the columns.
    Scores and probabilities (n x K) are kept beside their rows while they take less
    than 64 MB (on a GPU a quarter of what is free). Three passes over X each iteration,
    the Hessian's included.

    Far from the optimum of nearly separable classes the Hessian misleads: it does not
    see the rows that a step will bring close. Where the line search leaves step 1, up
    to seven steps of nonlinear conjugate gradients (Polak & Ribiere 1969) with the same
    factor follow before the Hessian is made again: two passes each.

    References
    ----------
    Polak & Ribiere, "Note sur la convergence de methodes de directions conjuguees",
    Revue francaise d'informatique et de recherche operationnelle 3, 1969.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from softreg import SoftmaxRegression
    >>> from softreg.solvers import NewtonCholesky
    >>> X, y = load_wine(return_X_y=True)
    >>> model = SoftmaxRegression(C=1e-3, solver=NewtonCholesky()).fit(X, y)
    >>> model.converged_, model.solver_
    (True, 'newton-cholesky')
    """

    name = "newton-cholesky"

    def start(self, objective: Objective, coef: Array) -> NewtonState:
        """Evaluate the start."""
        point = objective.evaluate(coef, keep=True)
        return NewtonState(point, np.zeros(coef.shape[0], dtype=bool))

    def step(self, objective: Objective, state: NewtonState) -> NewtonState:
        """Solve the Newton system, search the line, and correct a step cut short."""
        hessian = objective.hessian_preconditioner(state.point)
        direction = -hessian.solve(state.point.gradient)
        point, lengths = advance(objective, state.point, direction, FLATNESS)
        stalled = lengths == 0
        decrease = -inner(state.point.gradient, direction) / 2
        stalled |= exhausted(objective, state.point, point, decrease)
        side = direction.shape[1] * direction.shape[2]
        if side >= MIN_SIDE and not (stalled | (lengths == 1)).any():
            point = corrected(objective, hessian, state.point, point, direction)
        return state._replace(point=point, stalled=stalled)


def corrected(
    objective: Objective, hessian: Any, old: Point, point: Point, direction: Array
) -> Point:
    """Return the point after conjugate steps that follow `direction` from `old`."""
    xp = namespace(direction)
    solved = -direction
    for _ in range(MAX_CORRECTIONS):
        last, solved_last = old.gradient, solved
        solved = hessian.solve(point.gradient)
        share = inner(point.gradient - last, solved) / inner(last, solved_last)
        share = xp.where(share > 0, share, xp.zeros_like(share))
        direction = share[:, None, None] * direction - solved
        uphill = inner(point.gradient, direction) >= 0
        direction = xp.where(uphill[:, None, None], -solved, direction)
        step = searched(objective, point, direction, FLATNESS)
        if not bool(xp.any(step.length > 0)):
            break
        moved = point.coef + step.length[:, None, None] * direction
        old, point = point, objective.evaluate(moved, keep=True)
    return point
