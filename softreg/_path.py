"""`softmax_path`: the coefficients along a grid of C."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from softreg._arrays import Array, namespace
from softreg._data import Ingested, ingest
from softreg._parameters import grid_of, solver_of
from softreg._progress import progress
from softreg._softmax import (
    SoftmaxRegression,
    attributes_of,
    explanation,
    linear_attributes,
)
from softreg._solve import Solution, solve_path


class Path(NamedTuple):
    """The fits at each value of C.

    Attributes
    ----------
    Cs : ndarray of shape (n_Cs,)
        In the order they were given.
    coefs : ndarray of shape (n_Cs, n_classes, n_features) or (n_Cs, 1, n_features)
        W at each C; one row for two classes.
    intercepts : ndarray of shape (n_Cs, n_classes) or (n_Cs, 1)
        b at each C.
    objectives : ndarray of shape (n_Cs,)
        F at each solution.
    optimality_gaps : ndarray of shape (n_Cs,)
        Proven upper bounds of `F - min F`.
    n_iter : ndarray of shape (n_Cs,)
        Iterations of each fit.
    """

    Cs: np.ndarray
    coefs: Array
    intercepts: Array
    objectives: np.ndarray
    optimality_gaps: np.ndarray
    n_iter: np.ndarray


def softmax_path(
    X: Any, y: Any, *, Cs: Any = 10, sample_weight: Any = None, **params: Any
) -> Path:
    """Fit the model at each C of a grid, each fit from the solution of the last.

    From strong to weak regularisation, whatever their order in `Cs`; what is known of X
    is computed once.

    Parameters
    ----------
    X : {array-like, sparse matrix, dataframe} of shape (n_samples, n_features)
        Data, in any units; a Dask array or frame is fitted where it lies.
    y : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels of any kind, or soft targets.
    Cs : int or array-like of shape (n_Cs,), default=10
        Values of C, finite and above 0; an integer is so many from 1e-4 to 1e4, evenly
        in the logarithm.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, 0 or more.
    **params
        Parameters of `SoftmaxRegression` but C, weight_decay and warm_start.

    Returns
    -------
    path : Path
        Named tuple of `Cs` (n_Cs,), in the order they were given; `coefs` (n_Cs,
        n_classes, n_features), 1 in place of n_classes for two; `intercepts` (n_Cs,
        n_classes); and for each C, (n_Cs,), `objectives`, `optimality_gaps`, which are
        proven, and `n_iter`.

    Raises
    ------
    ValueError, TypeError
        For bad input, before any computing.

    Warns
    -----
    ConvergenceWarning
        Once, where fits stop before `tol`.

    See Also
    --------
    SoftmaxRegressionCV : Chooses C by cross-validation.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from softreg import softmax_path
    >>> path = softmax_path(*load_iris(return_X_y=True), Cs=[0.01, 1, 100])
    >>> path.coefs.shape, path.intercepts.shape
    ((3, 3, 4), (3, 3))
    >>> bool((path.optimality_gaps <= 1e-4 * path.objectives).all())
    True
    """
    own = {"C", "weight_decay", "warm_start"}
    known = SoftmaxRegression().get_params().keys() - own
    refused = sorted(params.keys() - known)
    if refused:
        raise TypeError(
            f"softmax_path takes the parameters of SoftmaxRegression but C, "
            f"weight_decay and warm_start, got {refused}. Pass the values of C as Cs."
        )
    values = grid_of(Cs)
    estimator = SoftmaxRegression(**params)
    data = ingest(estimator, X, y, sample_weight)
    order = np.argsort(values, kind="stable")
    decays = decays_of(values, data.weight.sum())
    fits: list[Any] = [None] * len(values)
    stopped = Stopped(estimator, len(values))
    with progress(estimator) as watch:
        path = solve_path(
            data.problem,
            [decays[[index]] for index in order],
            solver_of(estimator),
            tol=estimator.tol,
            max_iter=estimator.max_iter,
            dtype=data.dtype,
            watch=watch,
        )
        for index, solution in zip(order, path, strict=True):
            fits[index], decay = solution, float(decays[index])
            stopped.note(data, solution, [decay], [f"C={values[index]:g}"])
    stopped.warn(stacklevel=3)
    linear = [linear_attributes(data, fit.coef[0, ...]) for fit in fits]
    xp = namespace(linear[0]["coef_"])
    return Path(
        values,
        xp.stack([of["coef_"] for of in linear]),
        xp.stack([of["intercept_"] for of in linear]),
        np.concatenate([fit.value for fit in fits]),
        np.concatenate([fit.gap for fit in fits]),
        np.concatenate([fit.n_iter for fit in fits]),
    )


def decays_of(C: Any, total: Any) -> Any:
    """Return lambda at C for weights of this sum; refuse what underflows."""
    with np.errstate(all="ignore"):
        decays = 1 / (C * total)
    if not np.isfinite(decays).all():
        raise ValueError(
            "Cs times the sum of weights must not underflow, got C="
            f"{np.min(C):g} and {np.min(total):g}. Use larger values of C."
        )
    return decays


class Stopped:
    """The fits of a search that stopped before tol, for one warning."""

    def __init__(self, estimator: SoftmaxRegression, n_fits: int) -> None:
        self._estimator, self._n_fits = estimator, n_fits
        self._count, self._worst, self._text = 0, -1.0, ""

    def note(
        self,
        data: Ingested,
        solution: Solution,
        decays: Iterable[float],
        names: Iterable[str],
    ) -> None:
        """Take note of the fits of a batch that stopped early."""
        for member, (decay, name) in enumerate(zip(decays, names, strict=True)):
            reached = float(np.nan_to_num(solution.reached[member], nan=np.inf))
            if solution.converged[member] or solution.reason[member] == "halted":
                continue
            self._count += 1
            if reached > self._worst:
                fitted = SoftmaxRegression(**self._estimator.get_params())
                fitted.__dict__.update(attributes_of(data, solution, decay, member))
                reason = solution.reason[member]
                text = explanation(fitted, reason, reached)
                self._worst, self._text = reached, f"{name}: {text}"

    def warn(self, stacklevel: int) -> None:
        """Give the warning, where there is cause for one."""
        if self._count:
            warnings.warn(
                f"{self._count} of {self._n_fits} fits stopped before tol. The worst, "
                f"at {self._text}",
                ConvergenceWarning,
                stacklevel=stacklevel,
            )
