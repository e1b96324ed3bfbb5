"""Steepest descent in the coordinates in which the Hessian at W = 0 is the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from softreg._arrays import Array
from softreg.solvers._loop import inner
from softreg.solvers._newton_cg import FinishedByNewton, advance, exhausted, fewer
from softreg.solvers._protocols import Objective, Point


class DescentState(NamedTuple):
    """Where the solver stands, and what it divides gradients by."""

    point: Point
    stalled: np.ndarray
    preconditioner: Any

    def take(self, members: list[int]) -> DescentState:
        """Return the state of fewer problems."""
        return fewer(self, members)


@dataclass(frozen=True)
class GradientDescent(FinishedByNewton):
    """Gradient descent on all rows, with a line search.

    With `M = a X'X + lambda I`, the Hessian's shape at W = 0, its direction is
    `-M^-1 gradient`, the steepest in coordinates in which that Hessian is the identity:
    columns of any scale do. It converges linearly, in many more passes than the solvers
    that see the curvature elsewhere: it is here to be compared with, and for teaching.
    Where rounding ends its progress short of `tol`, `NewtonCG` finishes.

    Scores (n x K) are kept beside their rows while they take less than 64 MB (on a GPU
    a quarter of what is free), else recomputed. Two passes over X an iteration.

    References
    ----------
    Boehning & Lindsay, "Monotonicity of quadratic-approximation algorithms", Annals of
    the Institute of Statistical Mathematics 40, 1988, for M.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from softreg import SoftmaxRegression
    >>> from softreg.solvers import GradientDescent
    >>> X, y = load_wine(return_X_y=True)
    >>> model = SoftmaxRegression(C=1e-3, solver=GradientDescent()).fit(X, y)
    >>> model.converged_, model.solver_
    (True, 'gd')
    """

    name = "gd"

    def start(self, objective: Objective, coef: Array) -> DescentState:
        """Evaluate the start."""
        return DescentState(
            objective.evaluate(coef, keep=True),
            np.zeros(coef.shape[0], dtype=bool),
            objective.shared_preconditioner(),
        )

    def step(self, objective: Objective, state: DescentState) -> DescentState:
        """Step to the minimum along the steepest direction."""
        old = state.point
        direction = -state.preconditioner.solve(old.gradient)
        decrease = -inner(old.gradient, direction) / 2
        new, lengths = advance(objective, old, direction)
        stalled = lengths == 0
        stalled |= exhausted(objective, old, new, decrease)
        return state._replace(point=new, stalled=stalled)
