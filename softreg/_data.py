"""The edge: what `fit` was given is checked here, and never again behind it.

`ingest` turns it into a `Problem`.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_consistent_length

from softreg._arrays import (
    Array,
    free_gpu_bytes,
    home_of,
    is_dask,
    is_foreign,
    is_on_gpu,
    like,
    place_of,
)
from softreg._blocks import Engine
from softreg._design import Parametrisation
from softreg._labels import Known, check_given, row_weights, targets_of
from softreg._losses import Loss, TopK, breach_of, loss_of
from softreg._parameters import (
    INF,
    advising,
    check_parameters,
    check_top_k,
    intercept_of,
    n_threads,
)
from softreg._partitions import parted_rows
from softreg._problem import Problem
from softreg._rows import (
    answer_dtype,
    checked_rows,
    in_memory,
    placed,
    product_dtype,
)
from softreg._sharded import ShardedRows
from softreg._targets import HardTargets, Targets
from softreg.solvers import SOLVERS, MiniBatch

MAX_HESSIAN_SIDE = 20_000
# Of a GPU's free memory, the share that scores and probabilities may take.
KEPT_SHARE = 0.25


class Stream(NamedTuple):
    """What rows that come in batches have to agree with.

    Parameters
    ----------
    known : Known
        The classes, and their weights so far.
    weight : float
        Sum of the weights of all rows before, times those of their classes.
    is_new : bool
        Whether there were none.
    """

    known: Known
    weight: float
    is_new: bool


class Ingested(NamedTuple):
    """A problem, and what the estimator remembers of its data.

    `X` are the rows where they came from. On the host: their weights `row_weight` (n,),
    those times the weights of their classes, `weight` (n,), and their `targets`.
    """

    problem: Problem
    X: Any
    classes: np.ndarray
    targets: Targets
    row_weight: np.ndarray
    weight: np.ndarray
    weight_decay: float
    dtype: str  # of the coefficients
    n_features_in: int
    feature_names_in: np.ndarray | None

    @property
    def class_mass(self) -> np.ndarray:
        """What the rows of each class weigh, before the weights of the classes."""
        if isinstance(self.targets, HardTargets):
            n_classes = len(self.classes)
            return np.bincount(self.targets.codes, self.row_weight, n_classes)
        return self.row_weight @ self.targets.rows  # type: ignore[attr-defined]

    @property
    def home(self) -> Array:
        """An array of the library and on the device that answers are given in."""
        return home_of(self.X)


def ingest(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    owner: Any = None,
    *,
    stream: Stream | None = None,
    in_parts: bool = True,
) -> Ingested:
    """Check everything `fit` was given and return it as a problem.

    The estimator is not touched: checks that set attributes see a copy of it. Where it
    is part of another, `owner`, messages are that one's. Rows of a `stream` have its
    classes, and are weighed against all that came before. `in_parts` says whether it
    can do with rows that are not in this process.
    """
    owner = estimator if owner is None else owner
    check_parameters(estimator)
    check_given(owner, y)
    scratch = copy.copy(owner)
    if in_parts and is_dask(X):
        X = _parted(scratch, estimator, X)
    else:
        X = checked_rows(scratch, X, reset=stream is None or stream.is_new)
    y, sample_weight = in_memory(y), in_memory(sample_weight)
    with advising("Pass one target, or one row of soft targets, for each row of X."):
        check_consistent_length(X, y)
    row_weight = row_weights(sample_weight, X.shape[0])
    known = None if stream is None else stream.known
    classes, targets, weight = targets_of(estimator, y, row_weight, known)
    check_top_k(estimator.loss, len(classes))
    total = float(weight.sum())
    decay = estimator.weight_decay
    if decay is None:
        all_weight = total + (0.0 if stream is None else stream.weight)
        if not np.isfinite(all_weight):
            raise ValueError(
                f"The weights of all rows must have a finite sum, got {all_weight}. "
                "Divide sample_weight down."
            )
        scale = estimator.C * all_weight
        decay = 1.0 / scale if scale > 0 else INF
    _check_scale(estimator, targets, weight, float(decay), known)
    held, place = placed(estimator.device, X)
    problem = Problem(
        held,
        targets.on(place),
        like(weight / total, place)[None, :],
        product_dtype(X, place),
        loss_of(estimator.loss, len(classes)),
        Parametrisation(len(classes), float(estimator.temperature)),
        intercept_of(estimator),
        _engine(estimator, X, place),
    )
    _check_solver_fits(estimator, problem)
    if isinstance(estimator.loss, Loss) and (stream is None or stream.is_new):
        _check_contract(estimator.loss, problem)
    return Ingested(
        problem,
        X,
        classes,
        targets,
        row_weight,
        weight,
        float(decay),
        answer_dtype(X),
        scratch.n_features_in_,
        getattr(scratch, "feature_names_in_", None),
    )


def _parted(scratch: Any, estimator: Any, X: Any) -> Any:
    """Return a Dask collection checked, in parts."""
    if estimator.device not in (None, "cpu"):
        raise ValueError(
            f"device={estimator.device!r} places NumPy and SciPy input, got X of Dask. "
            "Use device=None: each worker computes with its own rows."
        )
    most = estimator.n_jobs
    return parted_rows(scratch, X, most if most is not None and most > 0 else None)


def _engine(estimator: Any, X: Any, place: Array) -> Engine:
    """Return the threads of a fit, and what it may keep beside its rows."""
    if isinstance(X, ShardedRows):
        return X.engine
    if not is_foreign(place):
        return Engine(n_threads(estimator.n_jobs))
    if not is_on_gpu(place):
        return Engine(0, place=place)
    return Engine(0, int(KEPT_SHARE * free_gpu_bytes(place)), place)


def _check_solver_fits(estimator: Any, problem: Problem) -> None:
    """Refuse a solver that these data cannot have."""
    rough = isinstance(estimator.solver, SOLVERS["newton-cg"])
    if rough and estimator.solver.tensor_float and not is_on_gpu(problem.weight):
        raise ValueError(
            "NewtonCG(tensor_float=True) needs data on a GPU, got "
            f"{place_of(problem.weight)}. Use device='cuda', or leave it out."
        )
    visits = estimator.solver == "minibatch" or isinstance(estimator.solver, MiniBatch)
    if visits and isinstance(problem.X, ShardedRows):
        raise ValueError(
            "solver='minibatch' needs rows in this process, got X on the workers of a "
            "cluster. Use solver='auto', or partial_fit on one partition after another."
        )
    side = problem.shape[0] * problem.shape[1]
    exact = SOLVERS["newton-cholesky"]
    chosen = estimator.solver == "newton-cholesky" or isinstance(
        estimator.solver, exact
    )
    if chosen and isinstance(problem.loss, TopK):
        raise ValueError(
            f"solver='newton-cholesky' needs a loss without kinks, got "
            f"loss={estimator.loss!r}. Use solver='auto', 'newton-cg' or 'lbfgs'."
        )
    if chosen and side > MAX_HESSIAN_SIDE:
        raise ValueError(
            f"solver='newton-cholesky' factorises a Hessian of K (d + 1) = {side} rows "
            f"({8 * side**2 / 1e9:.0f} GB); at most {MAX_HESSIAN_SIDE} are allowed. "
            "Use solver='newton-cg' or 'auto'."
        )


def _check_contract(loss: Loss, problem: Problem) -> None:
    """Refuse a loss that the proof does not hold for."""
    with problem.engine, np.errstate(all="ignore"):
        breach = breach_of(loss, problem.parametrisation.n_classes, problem.weight)
    if breach is not None:
        raise ValueError(
            f"loss={loss!r} does not keep to what softreg.losses.Loss asks: {breach}. "
            "docs/extending.md has a function that checks a loss."
        )


def _check_scale(
    estimator: Any,
    targets: Targets,
    weight: np.ndarray,
    decay: float,
    known: Known | None,
) -> None:
    """Refuse weights and penalties that no float64 can hold beside each other."""
    if not 0 < float(estimator.temperature) ** 2 < INF:
        raise ValueError(
            "temperature must have a square that float64 can hold, got "
            f"{estimator.temperature}. 1 is the plain softmax."
        )
    if not np.isfinite(decay):
        raise ValueError(
            f"C times the sum of weights must not underflow, got C={estimator.C} and "
            f"{weight.sum()}. Use a larger C, or weight_decay."
        )
    if isinstance(targets, HardTargets) and known is None:
        mass = np.bincount(targets.codes, weight / weight.sum())
        if (mass < np.finfo(np.float64).tiny).any():
            raise ValueError(
                "The weights of the classes must lie within 300 orders of magnitude, "
                f"got shares from {mass.min()} to {mass.max()}. Leave out classes that "
                "weigh nothing."
            )
