"""The edge: everything a user passes is checked here, and never again behind it.

`ingest` turns what `fit` was given into a `Problem`; `apply_rows` maps a function of
the scores over the rows of what `predict` was given. All messages about input live
here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_consistent_length, validate_data

from softreg._blocks import Engine, block_rows
from softreg._design import Parametrisation, csr_view
from softreg._labels import row_weights, targets_of
from softreg._losses import TopK, loss_of
from softreg._parameters import (
    INF,
    advising,
    check_parameters,
    check_top_k,
    intercept_of,
    n_threads,
)
from softreg._problem import Problem
from softreg._targets import HardTargets, Targets
from softreg.solvers import SOLVERS

# Read as they are; anything else is converted to float64 whole.
DTYPES = [
    np.float64, np.float32, np.uint8, np.int8, np.int16, np.float16, np.bool_,
    np.int32, np.int64, np.uint16, np.uint32, np.uint64,
]  # fmt: skip
READ_AS_SINGLE = {np.dtype(t) for t in ("f4", "u1", "i1", "i2", "f2")}
# Products with fewer entries of X are made in float64: the cast costs nothing there.
SMALL_ENTRIES = 1 << 20
MAX_HESSIAN_SIDE = 20_000


class Ingested(NamedTuple):
    """A problem, and what the estimator remembers of its data.

    `row_weight` (n,) are the weights of the rows, `weight` (n,) those times the weights
    of their classes.
    """

    problem: Problem
    classes: np.ndarray
    row_weight: np.ndarray
    weight: np.ndarray
    weight_decay: float
    dtype: Any  # of the coefficients
    n_features_in: int
    feature_names_in: np.ndarray | None


def ingest(estimator: Any, X: Any, y: Any, sample_weight: Any) -> Ingested:
    """Check everything `fit` was given and return it as a problem.

    The estimator is not touched: checks that set attributes see a copy of it.
    """
    check_parameters(estimator)
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is "
            "None. Pass labels (n,) or soft targets (n, K)."
        )
    scratch = copy.copy(estimator)
    X = checked_rows(scratch, X, reset=True)
    with advising("Pass one target, or one row of soft targets, for each row of X."):
        check_consistent_length(X, y)
    row_weight = row_weights(sample_weight, X.shape[0])
    classes, targets, weight = targets_of(estimator, y, row_weight)
    check_top_k(estimator.loss, len(classes))
    total = float(weight.sum())
    decay = estimator.weight_decay
    if decay is None:
        scale = estimator.C * total
        decay = 1.0 / scale if scale > 0 else INF
    _check_scale(estimator, targets, weight, float(decay))
    problem = Problem(
        X,
        targets,
        (weight / total)[None, :],
        product_dtype(X),
        loss_of(estimator.loss, len(classes)),
        Parametrisation(len(classes), float(estimator.temperature)),
        intercept_of(estimator),
        Engine(n_threads(estimator.n_jobs)),
    )
    _check_solver_fits(estimator, problem)
    return Ingested(
        problem,
        classes,
        row_weight,
        weight,
        float(decay),
        np.float32 if X.dtype in READ_AS_SINGLE else np.float64,
        scratch.n_features_in_,
        getattr(scratch, "feature_names_in_", None),
    )


def _check_solver_fits(estimator: Any, problem: Problem) -> None:
    """Refuse an exact Newton method whose Hessian would not fit."""
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


def _check_scale(
    estimator: Any, targets: Targets, weight: np.ndarray, decay: float
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
    if isinstance(targets, HardTargets):
        mass = np.bincount(targets.codes, weight / weight.sum())
        if (mass < np.finfo(np.float64).tiny).any():
            raise ValueError(
                "The weights of the classes must lie within 300 orders of magnitude, "
                f"got shares from {mass.min()} to {mass.max()}. Leave out classes that "
                "weigh nothing."
            )


def checked_rows(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Return X as scikit-learn's checks pass it: any layout, no copy."""
    columns = "" if reset else " Its columns are those of the fit, in that order."
    with advising(f"X must hold finite numbers, a row a sample.{columns}"):
        X = validate_data(
            estimator,
            X,
            reset=reset,
            accept_sparse="csr",
            accept_large_sparse=True,
            dtype=DTYPES,
        )
    return _as_rows(X)


def _as_rows(X: Any) -> Any:
    """Return X with booleans as uint8; copied only where entries are stored twice."""
    if X.dtype != np.bool_:
        return X
    if not scipy.sparse.issparse(X):
        return X.view(np.uint8)
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return csr_view(X, X.data.view(np.uint8))


def product_dtype(X: Any) -> Any:
    """Return the dtype of the first products with X."""
    if X.dtype not in READ_AS_SINGLE:
        return np.float64
    entries = X.nnz if scipy.sparse.issparse(X) else X.size
    return np.float64 if entries <= SMALL_ENTRIES else np.float32


class LinearMap(NamedTuple):
    """Coefficients of rows of one dtype."""

    coef: Any  # (k, d), dense or sparse
    intercept: np.ndarray  # (k,)

    def of(self, X: Any) -> LinearMap:
        """Return the map in the dtype of its products with X."""
        coef, intercept = self
        single = X.dtype in READ_AS_SINGLE
        dtype = coef.dtype if single else np.result_type(coef, np.float64)
        coef = coef.astype(dtype, copy=False)
        if scipy.sparse.issparse(X) and not scipy.sparse.issparse(coef):
            # Else SciPy's product lays them out so for every block.
            coef = np.asfortranarray(coef)
        return LinearMap(coef, intercept.astype(dtype))

    def block_rows(self, X: Any) -> int:
        """Return how many rows of X to take at a time."""
        n_scores, n_entries = self.coef.shape
        if scipy.sparse.issparse(X):
            n_entries = 2 * X.nnz // max(1, X.shape[0])
        return block_rows(n_entries, n_scores, self.coef.dtype.itemsize)

    def scores(self, rows: Any) -> np.ndarray:
        """Return `coef @ rows' + intercept`, (k, rows): class-major, as in the fit."""
        rows = rows.astype(self.coef.dtype, copy=False)
        scores = safe_sparse_dot(self.coef, rows.T, dense_output=True)
        scores += self.intercept[:, None]
        return scores


def apply_rows(
    estimator: Any, X: Any, function: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return a function of the scores (k, rows), block by block of rows.

    Its value has a row a row of X.
    """
    X = checked_rows(estimator, X, reset=False)
    linear = LinearMap(estimator.coef_, np.asarray(estimator.intercept_)).of(X)
    size = linear.block_rows(X)
    return map_rows(X, size, lambda rows: function(linear.scores(rows)))


def map_rows(X: Any, size: int, function: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Return a function of the rows of X, so many at a time, in one array."""
    n_rows = X.shape[0]
    first = function(X[:size])
    if n_rows <= size:
        return np.ascontiguousarray(first)
    out = np.empty((n_rows, *first.shape[1:]), dtype=first.dtype)
    out[:size] = first
    for start in range(size, n_rows, size):
        out[start : start + size] = function(X[start : start + size])
    return out
