"""Fitting rows that come in batches and are not kept: the state, and one epoch of it.

Each minibatch takes a Newton step on its own loss, held back by what the columns' Gram
matrix so far says of the Hessian of the rows before: an implicit step, so that no
batch, however small or odd, throws it far. Steps shrink slower than the share of the
rows, and the answer is their average (Polyak & Juditsky 1992).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from softreg._arrays import like, to_numpy
from softreg._blocks import LocalBlocks
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
GEOMETRY = [field.name for field in fields(Geometry)]


class Seen(NamedTuple):
    """What is known of all rows so far; plain arrays of the host.

    Parameters
    ----------
    weight : float
        Sum of their weights.
    mass : (K,) array
        What the classes weigh by the rows' weights alone.
    n_rows : int
        Those of positive weight.
    mean_target : (K,) array
        Frequencies of the classes.
    geometry : Geometry
        Of the columns.
    """

    weight: float
    mass: np.ndarray
    n_rows: int
    mean_target: np.ndarray
    geometry: Geometry

    def saved(self) -> dict[str, Any]:
        """Return it as an estimator keeps it: of no types but Python's and NumPy's."""
        columns = {name: getattr(self.geometry, name) for name in GEOMETRY}
        return self._asdict() | {"geometry": columns}

    @classmethod
    def loaded(cls, saved: dict[str, Any]) -> Seen:
        """Return what was saved."""
        return cls(**saved | {"geometry": Geometry(**saved["geometry"])})


class OnlineState(NamedTuple):
    """Where the steps stand, (k, P), and their average, which is the answer."""

    coef: np.ndarray
    average: np.ndarray
    seen: Seen | None = None
    n_steps: int = 0

    def saved(self) -> dict[str, Any]:
        """Return it as an estimator keeps it, once rows have been seen."""
        assert self.seen is not None
        return self._asdict() | {"seen": self.seen.saved()}

    @classmethod
    def loaded(cls, saved: dict[str, Any]) -> OnlineState:
        """Return what was saved."""
        return cls(**saved | {"seen": Seen.loaded(saved["seen"])})


def seen_of(data: Ingested) -> Seen:
    """Return what is known of the rows of a fit: of their columns not the products."""
    return _seen(data, data.problem.geometry.without_products())


def _seen(data: Ingested, geometry: Geometry) -> Seen:
    return Seen(
        float(data.weight.sum()),
        data.class_mass,
        int(np.count_nonzero(data.weight)),
        to_numpy(data.problem.moments.mean_target[0, :]),
        geometry.on_host(),
    )


def absorbed(state: OnlineState, data: Ingested, solver: MiniBatch) -> OnlineState:
    """Return the state after an epoch over new rows."""
    problem = data.problem
    weight = float(data.weight.sum())
    with problem.engine, np.errstate(all="ignore"):
        seen = _all_seen(state.seen, data)
        objective = _informed(seen, problem, data.weight_decay)
        preconditioner = objective.shared_preconditioner()
        coef = like(state.coef[None, ...], problem.weight)
        average = like(state.average[None, ...], problem.weight)
        total = 0.0 if state.seen is None else state.seen.weight
        n_steps = state.n_steps
        for batch, part in _batches(objective, solver, n_steps):
            total += part * weight
            share = part * weight / total
            # More than their share: steps forget where they began, averages settle.
            pull = share**0.5
            step = newton_step(batch, coef, preconditioner, pull, pull)
            coef = coef + step.up_to(1.0)
            average = average + min(1.0, EMPHASIS * share) * (coef - average)
            n_steps += 1
        return OnlineState(
            to_numpy(coef[0, ...]), to_numpy(average[0, ...]), seen, n_steps
        )


def _all_seen(before: Seen | None, data: Ingested) -> Seen:
    """Return what is known of all rows, with the new ones."""
    problem = data.problem
    mean_x = problem.moments.mean_x[0, :]
    wide = mean_x.shape[0] > MAX_GRAM_COLUMNS
    diagonal = wide or (before is not None and before.geometry.diagonal)
    geometry = geometry_of(problem.blocks, mean_x, problem.intercept, diagonal=diagonal)
    check_range(geometry)
    own = _seen(data, geometry)
    if before is None:
        return own
    share = own.weight / (before.weight + own.weight)
    return Seen(
        before.weight + own.weight,
        before.mass + own.mass,
        before.n_rows + own.n_rows,
        before.mean_target + share * (own.mean_target - before.mean_target),
        before.geometry.merged(own.geometry, share),
    )


def _informed(seen: Seen, problem: Problem, l2: float) -> Objective:
    """Return the objective of the new rows, with what is known of all so far."""
    place, known = problem.weight, seen.geometry
    mean_x, gram = like(known.mean_x, place), like(known.gram, place)
    geometry = Geometry(mean_x, gram, known.intercept)
    # Few rows leave directions that nothing but lambda would hold back.
    n_columns = mean_x.shape[0]
    geometry = geometry.shrunk(n_columns / (n_columns + seen.n_rows))
    objective = problem.objective(like(np.array([l2]), place), geometry)
    mean_target = like(seen.mean_target[None, :], place)
    moments = problem.moments._replace(mean_target=mean_target)
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
