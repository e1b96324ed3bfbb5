"""Exact Newton: the whole Hessian, factorised at every iteration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from softreg._arrays import Array
from softreg.solvers._loop import Objective, Result, Stop, Watcher, inner, run
from softreg.solvers._newton_cg import NewtonState, advance, exhausted


@dataclass(frozen=True)
class NewtonCholesky:
    """Newton's method with a Cholesky factor of the whole Hessian.

    For small K (d + 1): the Hessian takes `8 (K (d + 1))^2` bytes, and an iteration
    `n (K (d + 1))^2` operations. Few iterations whatever the scale of the columns.
    Scores and probabilities (n x K) are kept beside their rows while they take less
    than 64 MB. Three passes over X each iteration, the Hessian's included.
    """

    name = "newton-cholesky"

    def minimize(
        self,
        objective: Objective,
        coef: Array,
        *,
        stop: Stop,
        watch: Sequence[Watcher] = (),
    ) -> Result:
        """Return the minimiser of each problem from coef (B, k, P)."""
        return run(self, objective, coef, stop=stop, watch=watch)

    def start(self, objective: Objective, coef: Array) -> NewtonState:
        """Evaluate the start."""
        point = objective.evaluate(coef, keep=True)
        return NewtonState(point, np.zeros(coef.shape[0], dtype=bool))

    def step(self, objective: Objective, state: NewtonState) -> NewtonState:
        """Solve the Newton system and search the line."""
        hessian = objective.hessian_preconditioner(state.point)
        direction = -hessian.solve(state.point.gradient)
        point, stalled, _ = advance(objective, state.point, direction)
        decrease = -inner(state.point.gradient, direction) / 2
        stalled |= exhausted(objective, state.point, point, decrease)
        return state._replace(point=point, stalled=stalled)
