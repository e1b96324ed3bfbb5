"""`LargeMarginSoftmaxRegression`: the angular margin of L-Softmax, annealed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.exceptions import ConvergenceWarning

from softreg._angular import AngularObjective, without_classes
from softreg._arrays import Array, like, namespace, rounded_to, to_numpy
from softreg._data import Ingested, ingest
from softreg._fitted import become
from softreg._losses import Loss, Softmax
from softreg._parameters import INF, Range, refusal
from softreg._prediction import LinearSoftmaxMixin
from softreg._problem import Problem
from softreg._progress import progress
from softreg._softmax import (
    SoftmaxRegression,
    attributes_of,
    linear_attributes,
    so_far,
)
from softreg._solve import Solution, solve
from softreg._status import StatusMixin
from softreg._targets import HardTargets
from softreg._watching import fit_task
from softreg.solvers import LBFGS
from softreg.solvers._loop import Halted, Record, Result, Stop, Watcher

# mu falls from the first by this factor until mu_min.
FIRST_MU = 100.0
ANNEALING = 10**-0.5
LAST_ABOVE_ZERO = 0.1
COLLAPSE = 0.05
SHRUNK = 1e-6
# At a kink: ways towards the softmax fit's coefficients, and what counts as lower.
TRIALS = (-1.0, -0.1, -0.01, -1e-3, 1e-3, 0.01, 0.1, 1.0)
FALL = 1e-9
MAX_ESCAPES = 5
RANGES = {
    "m": Range(1, INF, "an integer of at least 1", "1 is no margin.", whole=True),
    "mu_min": Range(
        0, INF, "a number in [0, inf)", "Larger eases the margin.", open_high=True
    ),
}


class LargeMarginSoftmaxRegression(
    StatusMixin,
    CallbackSupportMixin,
    LinearSoftmaxMixin,
    ClassifierMixin,
    BaseEstimator,
):
    """Softmax regression with the angular margin of L-Softmax.

    In training, the angle between a row and the coefficients of its own class is taken
    to be m times as wide: with `c` its cosine, the score of the own class is

        (mu w.x + ||w|| ||x|| psi(c)) / (1 + mu) + b,    psi(c) = cos(m angle),

    made monotone. The fit starts from the softmax fit and lowers mu from 100 to
    `mu_min`. The objective is not convex: the result is the optimum that this path
    leads to, with no proof. Each mu is minimised by `solvers.LBFGS`, whose vectors stay
    on a GPU where X is.

    The margin shrinks with the coefficients. With fixed features, whose classes do not
    lie apart in angle, the cheapest way to meet it is therefore to give up: keep
    `mu_min` at 10 or more, or prefer `SoftmaxRegression(margin=...)`, whose margin is
    added to scores, convex and proven. The angular one is for rows of which only the
    direction matters, as embeddings. Columns need one scale, as from
    `StandardScaler`: unlike all else here, angles change with units.

    Parameters
    ----------
    m : int, default=2
        Factor of the angle; 1 is the softmax fit.
    mu_min : float, default=10.0
        Least weight of the plain score. As it falls to 0 the margin is met in full.
    C : float, default=1.0
        Inverse of the regularisation strength, in (0, inf]; `inf` is unpenalised.
    weight_decay : float, default=None
        Lambda of the mean loss, 0 or more; overrides C.
    fit_intercept : bool, default=True
        Whether to fit b, which is outside the angle.
    penalize_intercept : bool, default=False
        Whether the penalty includes b.
    class_weight : None, "balanced" or dict, default=None
        Weights of the classes, as in `SoftmaxRegression`.
    tol : float, default=1e-4
        Stop at each mu once the gradient's largest entry is at most tol times that at
        W = 0, b = 0; or, where the coefficients of a class have shrunk to nothing and
        the objective has a kink, once no trial step off it lowers it. For m = 1, and
        for the start, as in `SoftmaxRegression`.
    max_iter : int, default=1000
        Most iterations at each mu.
    n_jobs : int, default=None
        Threads for blocks of rows, as in `SoftmaxRegression`.
    verbose : int, default=0
        1 shows the fits' progress, as `SoftmaxRegression` does.

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, n_features)
        W; two classes too have two rows.
    intercept_ : ndarray of shape (n_classes,)
        b, summing to zero.
    n_iter_ : int
        Iterations, over all mu.
    objective_ : float
        The objective at `mu_min`.
    optimality_gap_ : float
        `inf` for m > 1, where nothing is proven.
    history_ : dict of ndarray
        As in `SoftmaxRegression`, of the last mu.
    classes_, converged_, weight_decay_, solver_, n_features_in_, feature_names_in_
        As in `SoftmaxRegression`.

    References
    ----------
    Liu, Wen, Yu & Yang, "Large-margin softmax loss for convolutional neural networks",
    ICML 2016.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from softreg import LargeMarginSoftmaxRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LargeMarginSoftmaxRegression(m=2).fit(X, y)
    >>> model.score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        m: int = 2,
        *,
        mu_min: float = 10.0,
        C: float = 1.0,
        weight_decay: float | None = None,
        fit_intercept: bool = True,
        penalize_intercept: bool = False,
        class_weight: Any = None,
        tol: float = 1e-4,
        max_iter: int = 1000,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.m = m
        self.mu_min = mu_min
        self.C = C
        self.weight_decay = weight_decay
        self.fit_intercept = fit_intercept
        self.penalize_intercept = penalize_intercept
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.verbose = verbose

    @with_callbacks
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None
    ) -> LargeMarginSoftmaxRegression:
        """Fit the softmax model, then raise the margin.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
            Data.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows, 0 or more.

        Returns
        -------
        self : LargeMarginSoftmaxRegression
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            For bad input, before any computing; the estimator stays as it was.

        Warns
        -----
        ConvergenceWarning
            Once, where `max_iter` ends a fit before `tol`.
        UserWarning
            Where the coefficients shrink to nearly nothing.
        """
        task = fit_task(self, X, y, sample_weight)
        for name, allowed in RANGES.items():
            value = getattr(self, name)
            if not allowed.holds(value):
                raise refusal(value, f"{name} must be {allowed.text}", allowed.hint)
        data = ingest(
            _softmax_part(self), X, y, sample_weight, owner=self, in_parts=False
        )
        if not isinstance(data.problem.targets, HardTargets):
            raise ValueError(
                "y must be labels (n,), got soft targets. The margin is that of the "
                "true class; use SoftmaxRegression for soft targets."
            )

        def unfolded(rows: list[Record], coef: Array) -> dict[str, Any]:
            whole = _with_all_rows(data, coef[None, ...])[0, ...]
            return so_far(data, rows, whole) | linear_attributes(data, whole)

        with progress(self) as watch:
            watch = [*watch, *task.watchers(unfolded)]
            start = solution = _softmax_fit(self, data, watch)
            if self.m > 1 and start.reason[0] != "halted":
                solution = _annealed(self, data, start, watch)
        fitted = attributes_of(data, solution, data.weight_decay)
        become(self, fitted)
        task.ended(lambda: fitted)
        if solution.reason[0] != "halted":
            _warn(self, start, solution)
        return self

    @property
    def _loss(self) -> Loss:
        return Softmax()

    @property
    def _temperature(self) -> float:
        return 1.0


def _softmax_part(model: LargeMarginSoftmaxRegression) -> SoftmaxRegression:
    """Return the estimator of the start, whose checks are those of this one."""
    shared = (
        "C", "weight_decay", "fit_intercept", "penalize_intercept", "class_weight",
        "tol", "max_iter", "n_jobs", "verbose",
    )  # fmt: skip
    return SoftmaxRegression(**{name: getattr(model, name) for name in shared})


def _softmax_fit(
    model: LargeMarginSoftmaxRegression, data: Ingested, watch: Sequence[Watcher]
) -> Solution:
    """Return the softmax fit, with a row for each class."""
    solution = solve(
        data.problem,
        np.array([data.weight_decay]),
        None,
        tol=model.tol,
        max_iter=model.max_iter,
        dtype=data.dtype,
        watch=watch,
    )
    return solution._replace(coef=_with_all_rows(data, solution.coef))


def _with_all_rows(data: Ingested, coef: Array) -> Array:
    """Return coefficients (B, k, P) with a row for each of two classes, too."""
    form = data.problem.parametrisation
    return form.unfold(coef) if coef.shape[1] == form.n_rows else coef


def _annealed(
    model: LargeMarginSoftmaxRegression,
    data: Ingested,
    start: Solution,
    watch: Sequence[Watcher],
) -> Solution:
    """Return the fit at mu_min, by way of larger mu."""
    problem = _unfolded(data.problem)
    # One row with lambda is two rows with 2 lambda.
    decay = data.weight_decay * (2 if len(data.classes) == 2 else 1)
    coef, n_iter = start.coef, int(start.n_iter[0])
    with problem.engine, np.errstate(over="ignore", invalid="ignore"):
        objective = problem.objective(like(np.array([decay]), problem.weight))
        zero = objective.slopes(objective.evaluate(namespace(coef).zeros_like(coef)))
        stop = Stop(model.tol, model.max_iter, zero)
        angular = AngularObjective.of(objective, model.m, FIRST_MU)
        try:
            for mu in _schedule(model.mu_min):
                angular = replace(angular, mu=mu)
                result = _descended(angular, coef, start.coef, stop, watch)
                coef = result.coef
                n_iter += int(result.n_iter[0])
        except Halted as halted:
            result, n_iter = _halted(angular, halted)
        result = _rounded(angular, result, data.dtype)
    return _solution(result, n_iter)


def _halted(objective: AngularObjective, halted: Halted) -> tuple[Result, int]:
    """Return what a callback ended, and the iterations of all fits till then."""
    rows = halted.rows
    n_iter = sum(b.iteration not in (0, a.iteration) for a, b in pairwise(rows))
    last = max(index for index, row in enumerate(rows) if row.iteration == 0)
    point, unknown = objective.evaluate(halted.coef[None, ...]), np.array([np.inf])
    result = Result(
        coef=point.coef,
        value=to_numpy(point.value),
        gap=to_numpy(point.gap),
        reached=unknown,
        n_iter=np.array([n_iter]),
        converged=np.array([False]),
        reason=["halted"],
        history=[rows[last:]],
        held_out=np.full((1, 2), np.nan),
    )
    return result, n_iter


def _unfolded(problem: Problem) -> Problem:
    """Return the problem with a row for each class, and float64 products."""
    parametrisation = problem.parametrisation._replace(folds=False)
    dtype = namespace(problem.weight).float64
    return replace(problem, parametrisation=parametrisation, dtype=dtype)


def _schedule(mu_min: float) -> Iterator[float]:
    mu = FIRST_MU
    while mu > max(mu_min, LAST_ABOVE_ZERO):
        yield mu
        mu *= ANNEALING
    yield float(mu_min)


def _descended(
    objective: AngularObjective,
    coef: Array,
    softmax: Array,
    stop: Stop,
    watch: Sequence[Watcher],
) -> Result:
    """Minimise, and step off kinks where that helps.

    The objective has a kink where `w_y = 0`: there the gradient is that of one
    direction, and only trials tell whether the fit stands at a minimum.
    """
    n_iter, xp = np.zeros(1, dtype=int), namespace(coef)
    for _ in range(MAX_ESCAPES):
        result = LBFGS().minimize(objective, coef, stop=stop, watch=watch)
        n_iter = n_iter + result.n_iter
        shrunk = _shrunk(objective, result.coef, softmax)
        if not bool(xp.any(shrunk)) or result.reason[0] == "max_iter":
            break
        # At the kink of one class the others cannot move: hold it there.
        coef = without_classes(result.coef, shrunk, objective.n_features)
        held = replace(objective, held=shrunk)
        result = LBFGS().minimize(held, coef, stop=stop, watch=watch)
        n_iter = n_iter + result.n_iter
        lower = _lower_nearby(objective, result, softmax, shrunk)
        if lower is None:
            break
        coef = lower
    return result._replace(n_iter=n_iter)


def _shrunk(objective: AngularObjective, coef: Array, softmax: Array) -> Array:
    """Return whether a class's coefficients are nothing beside the softmax fit's."""
    xp = namespace(coef)
    norms, before = (
        xp.linalg.vector_norm(c[0, :, : objective.n_features], axis=1)
        for c in (coef, softmax)
    )
    return norms <= SHRUNK * xp.max(before)


def _lower_nearby(
    objective: AngularObjective, result: Result, softmax: Array, shrunk: Array
) -> Array | None:
    """Return a lower point, some way along the softmax fit's coefficients of a class.

    None where no trial is lower.
    """
    xp, own = namespace(softmax), slice(objective.n_features)
    trials = []
    for k in np.flatnonzero(to_numpy(shrunk)).tolist():
        for size in TRIALS:
            trial = xp.asarray(result.coef, copy=True)
            trial[0, k, own] += size * softmax[0, k, own]
            trials.append(trial)
    values = [float(objective.evaluate(trial).value[0]) for trial in trials]
    enough = float(result.value[0]) * (1 - FALL)
    if not values or min(values) >= enough:
        return None
    return trials[int(np.argmin(values))]


def _rounded(objective: AngularObjective, result: Result, dtype: str) -> Result:
    """Return the result as the user gets it: intercepts of sum zero, in a dtype."""
    coef, xp = result.coef, namespace(result.coef)
    if objective.intercept == "free":
        bias = coef[..., -1:]
        bias = bias - xp.mean(bias, axis=1, keepdims=True)
        coef = xp.concat([coef[..., :-1], bias], axis=2)
    coef = rounded_to(coef, dtype)
    return result._replace(coef=coef, value=to_numpy(objective.evaluate(coef).value))


def _solution(result: Result, n_iter: int) -> Solution:
    return Solution(
        result.coef,
        result.value,
        result.gap,
        result.reached,
        np.array([n_iter]),
        result.converged,
        result.reason,
        result.history,
        LBFGS.name,
        result.held_out,
    )


def _warn(
    model: LargeMarginSoftmaxRegression, start: Solution, solution: Solution
) -> None:
    if not model.converged_:
        warnings.warn(
            f"LargeMarginSoftmaxRegression stopped after {model.n_iter_} iterations of "
            "all its fits, with a gradient of "
            f"{float(solution.reached[0]):.1e} of that at zero, above tol = "
            f"{model.tol:.1e}. Increase max_iter or tol, or bring the columns to one "
            "scale, as by StandardScaler (angles of raw columns are those of the "
            "largest).",
            ConvergenceWarning,
            stacklevel=4,  # over that of scikit-learn's decorator
        )
    size, before = (
        float(namespace(s.coef).linalg.vector_norm(s.coef)) for s in (solution, start)
    )
    if size < COLLAPSE * before:
        warnings.warn(
            f"The margin has shrunk the coefficients to {size / before:.1%} of those "
            "of the softmax fit: the classes do not lie apart in angle. Increase "
            "mu_min, or use SoftmaxRegression(margin=...).",
            UserWarning,
            stacklevel=4,
        )
