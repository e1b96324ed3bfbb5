"""Fitting rows that come in batches and are not kept: the state, and one epoch of it.

Each minibatch takes a Newton step on its own loss, held back by what the columns' Gram
matrix so far says of the Hessian of the rows before: an implicit step, so that no
batch, however small or odd, throws it far. Steps shrink slower than the share of the
rows, and the answer is their average (Polyak & Juditsky 1992).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from softreg._arrays import like, to_numpy
from softreg._blocks import LocalBlocks
from softreg._certificate import Moments
from softreg._data import Ingested
from softreg._geometry import Geometry, geometry_of
from softreg._minibatches import evened
from softreg._objective import Objective
from softreg._problem import Problem
from softreg._solve import check_range, in_fit_precision
from softreg.solvers import MiniBatch
from softreg.solvers._minibatch import newton_step

# The average weighs the latest rows so many times as much as an even one.
EMPHASIS = 4.0
# Of wider rows only the diagonal of the Gram matrix is kept.
MAX_GRAM_COLUMNS = 1000
LEAST_BATCH = 1024


class OnlineState(NamedTuple):
    """What is known of the rows so far; plain arrays of the host.

    Parameters
    ----------
    coef, average : (k, P) array
        Where the steps stand, and their average, which is the answer.
    weight : float
        Sum of the rows' weights.
    mass : (K,) array
        What the classes weigh by the rows' weights alone.
    n_steps : int
    moments, geometry
        Of all rows so far; None where they are not known.
    """

    coef: np.ndarray
    average: np.ndarray
    weight: float = 0.0
    mass: np.ndarray | float = 0.0
    n_steps: int = 0
    moments: Moments | None = None
    geometry: Geometry | None = None


def absorbed(state: OnlineState, data: Ingested, solver: MiniBatch) -> OnlineState:
    """Return the state after an epoch over new rows."""
    problem, mass, weight = data.problem, data.class_mass, float(data.weight.sum())
    with problem.engine, np.errstate(all="ignore"):
        objective = _informed(state, problem, weight, data.weight_decay)
        check_range(objective)
        preconditioner = objective.shared_preconditioner()
        coef = like(state.coef[None, ...], problem.weight)
        average = like(state.average[None, ...], problem.weight)
        seen, n_steps = state.weight, state.n_steps
        for batch, part in _batches(objective, solver, n_steps):
            seen += part * weight
            share = part * weight / seen
            # More than their share: steps forget where they began, averages settle.
            pull = share**0.5
            step = newton_step(batch, coef, preconditioner, pull, pull)
            coef = coef + step.up_to(1.0)
            average = average + min(1.0, EMPHASIS * share) * (coef - average)
            n_steps += 1
        geometry = objective.geometry
        return OnlineState(
            to_numpy(coef[0, ...]),
            to_numpy(average[0, ...]),
            state.weight + weight,
            state.mass + mass,
            n_steps,
            Moments(*(to_numpy(values) for values in objective.moments)),
            replace(
                geometry,
                mean_x=to_numpy(geometry.mean_x),
                gram=to_numpy(geometry.gram),
            ),
        )


def _informed(
    state: OnlineState, problem: Problem, weight: float, l2: float
) -> Objective:
    """Return the objective of the new rows, with what is known of all so far."""
    place, moments = problem.weight, problem.moments
    mean_x = moments.mean_x[0, :]
    diagonal = mean_x.shape[0] > MAX_GRAM_COLUMNS
    geometry = geometry_of(problem.blocks, mean_x, problem.intercept, diagonal=diagonal)
    if state.moments is not None and state.geometry is not None:
        share = weight / (state.weight + weight)
        before = [like(values, place) for values in state.moments]
        pairs = zip(before, moments, strict=True)
        moments = Moments(*(old + share * (new - old) for old, new in pairs))
        mean_x, gram, intercept = (
            like(state.geometry.mean_x, place),
            like(state.geometry.gram, place),
            state.geometry.intercept,
        )
        geometry = Geometry(mean_x, gram, intercept).merged(geometry, share)
    objective = problem.objective(like(np.array([l2]), place), geometry)
    return in_fit_precision(replace(objective, moments=moments))


def _batches(
    objective: Objective, solver: MiniBatch, epoch: int
) -> Iterator[tuple[Objective, float]]:
    """Yield minibatches whose weights sum to one, and their shares of the weight."""
    size = solver.batch_size or max(LEAST_BATCH, objective.moments.mean_x.shape[-1])
    if objective.n_rows <= size:
        yield objective, 1.0
        return
    for batch in objective.minibatches((solver.seed, epoch), size):
        assert isinstance(batch.blocks, LocalBlocks)
        blocks, share = evened(batch.blocks)
        if share > 0:
            yield replace(batch, blocks=blocks), share
