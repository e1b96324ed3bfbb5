"""Minibatch Newton steps on gradients that are corrected to those of all rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from softreg._arrays import Array, namespace, to_numpy
from softreg.solvers._conjugate_gradient import newton_direction
from softreg.solvers._line_search import FLATNESS, search
from softreg.solvers._loop import check_counts, inner
from softreg.solvers._newton_cg import (
    FinishedByNewton,
    exhausted,
    fewer,
    made,
    renewing,
    searched,
)
from softreg.solvers._protocols import Line, Objective, Point

# An epoch that gains less than this of what Newton's model promises had small batches.
EFFICIENCY = 0.5
# In the first epoch step t on uncorrected gradients is at most HEAD / (t + HEAD).
HEAD = 3.0
CG_TOL = 0.3
MAX_CG = 50


class EpochState(NamedTuple):
    """Where the solver stands after an epoch, and what it solves with."""

    point: Point
    stalled: np.ndarray
    batch_rows: int
    cold: bool  # whether the point is W = 0
    preconditioner: Any = None  # None: to be made before the next step
    thoroughness: int = 0
    spent: float = 0.0  # passes since the preconditioner was made
    epoch: int = 0

    def take(self, members: list[int]) -> EpochState:
        """Return the state of fewer problems."""
        return fewer(self, members)


@dataclass(frozen=True)
class MiniBatch(FinishedByNewton):
    """Minibatch descent that converges: no step size, columns of any scale.

    An epoch goes through all rows once, in random order. On each minibatch it takes
    Newton steps on that batch's loss, whose gradient is corrected by the difference of
    the gradients of all rows and of the batch at the epoch's start (variance
    reduction), and whose Hessian stands in for the batch's share of the rows; for the
    others stands a factorised Hessian of a sample. So the steps need no length, and die
    out at the optimum. A line search on all rows ends the epoch: the objective never
    rises. Where an epoch gains nothing the batches were too small, and are doubled; of
    one batch it is `NewtonCG`, which also finishes where rounding stops an epoch.

    Rows that are read are worth several products: an epoch reads X three times and
    computes about as much as twelve passes. Scores (n x K) are kept beside their rows
    while they take less than 64 MB, else recomputed.

    Parameters
    ----------
    batch_size : int, default=None
        Rows of a minibatch; None: as many as there are coefficients, from 1024 up to a
        quarter of all rows and to what 64 MB hold.
    steps : int, default=2
        Newton steps on each minibatch.
    seed : int, default=0
        Of the random order. The estimator's `random_state` takes its place.

    Raises
    ------
    ValueError
        For an option out of its range.

    References
    ----------
    Johnson & Zhang, "Accelerating stochastic gradient descent using predictive variance
    reduction", NeurIPS 2013; Frangella, Rathore, Zhao & Udell, "PROMISE: preconditioned
    stochastic optimization methods by incorporating scalable curvature estimates", JMLR
    25, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from softreg import SoftmaxRegression
    >>> from softreg.solvers import MiniBatch
    >>> X, y = load_wine(return_X_y=True)
    >>> model = SoftmaxRegression(C=1e-3, solver=MiniBatch(seed=1)).fit(X, y)
    >>> model.converged_, model.solver_
    (True, 'minibatch')
    """

    batch_size: int | None = None
    steps: int = 2
    seed: int = 0

    name = "minibatch"

    def __post_init__(self) -> None:
        check_counts(
            self, "steps", *([] if self.batch_size is None else ["batch_size"])
        )
        check_counts(self, "seed", least=0)

    def start(self, objective: Objective, coef: Array) -> EpochState:
        """Evaluate the start; away from W = 0 it has a Hessian of its own."""
        away = bool(namespace(coef).any(coef[..., :-1] != 0))
        return EpochState(
            objective.evaluate(coef, keep=True),
            np.zeros(coef.shape[0], dtype=bool),
            self.batch_size or objective.minibatch_rows(),
            cold=not away,
            thoroughness=int(away),
        )

    def step(self, objective: Objective, state: EpochState) -> EpochState:
        """Go through all rows once, and search the line to where that led."""
        if state.preconditioner is None:
            state = state._replace(preconditioner=made(objective, state))
        before, old = objective.passes, state.point
        direction = self._sweep(objective, state) - old.coef
        step = searched(objective, old, direction, FLATNESS)
        length = step.length[:, None, None]
        new = objective.evaluate(old.coef + length * direction, keep=True)
        decrease = inner(old.gradient, state.preconditioner.solve(old.gradient)) / 2
        stalled = exhausted(objective, old, new, decrease)
        if state.batch_rows >= objective.n_rows:
            stalled |= to_numpy(step.length) == 0
        small = old.value - new.value < EFFICIENCY * decrease
        growth = 2 if bool(namespace(small).any(small)) else 1
        return renewing(
            objective,
            state._replace(
                point=new,
                stalled=stalled,
                batch_rows=min(growth * state.batch_rows, objective.n_rows),
                cold=False,
                spent=state.spent + objective.passes - before,
                epoch=state.epoch + 1,
            ),
        )

    def _sweep(self, objective: Objective, state: EpochState) -> Array:
        """Return where the steps on all minibatches lead to."""
        anchor = state.point
        coef = anchor.coef
        seed = (self.seed, state.epoch)
        batches = objective.minibatches(seed, state.batch_rows)
        for number, batch in enumerate(batches):
            share = batch.n_rows / objective.n_rows
            tilt = anchor.gradient - batch.evaluate(anchor.coef).gradient
            reach = 1.0
            if state.cold:
                # Far from the optimum the correction would be noise; averages help.
                tilt, reach = 0 * tilt, HEAD / (number + HEAD)
            tilted = Tilted(batch, tilt)
            for _ in range(self.steps):
                step = newton_step(tilted, coef, state.preconditioner, share)
                # A batch alone would go further than all rows would.
                coef = coef + step.up_to(reach)
        return coef


class BatchStep(NamedTuple):
    """A direction (B, k, P), and how much of it is best for a minibatch, (B,)."""

    direction: Array
    length: Array

    def up_to(self, most: float) -> Array:
        """Return the step, at most so much of the direction."""
        length = namespace(self.length).clip(self.length, 0.0, most)
        return length[:, None, None] * self.direction


def newton_step(
    objective: Any, coef: Array, preconditioner: Any, share: float, pull: float = 1.0
) -> BatchStep:
    """Return a Newton step on the objective of a minibatch.

    Its Hessian is `share` of the batch's and, for the rest, what the preconditioner is
    the inverse of; its gradient is `pull` times the batch's.
    """
    point = objective.evaluate(coef, keep=True)
    newton = newton_direction(
        objective, point, preconditioner, tol=CG_TOL, max_steps=MAX_CG, share=share
    )
    direction = pull * newton.direction
    slope = inner(point.gradient, direction)
    length = search(objective.line(point, direction), point.value, slope).length
    return BatchStep(direction, length)


class Tilted(NamedTuple):
    """An objective plus a linear function: `F(coef) + <tilt, coef>`."""

    objective: Any
    tilt: Array

    def evaluate(self, coef: Array, *, keep: bool = False) -> Point:
        """Return value and gradient; the bound is not one of this."""
        point: Point = self.objective.evaluate(coef, keep=keep)
        return point._replace(
            value=point.value + inner(self.tilt, coef),
            gradient=point.gradient + self.tilt,
        )

    def hessian_product(self, point: Point, direction: Array) -> Array:
        """Return the Hessian at the point times direction."""
        product: Array = self.objective.hessian_product(point, direction)
        return product

    def line(self, point: Point, direction: Array) -> Callable[[Array], Line]:
        """Return the function of steps along a direction."""
        plain = self.objective.line(point, direction)
        start, slope = inner(self.tilt, point.coef), inner(self.tilt, direction)

        def at(steps: Array) -> Line:
            value, own_slope = plain(steps)
            return Line(value + start + steps * slope, own_slope + slope)

        return at
