"""The edge: everything a user passes is checked here, and never again behind it.

`ingest` turns what `fit` was given into a `Problem`; `apply_rows` maps a function of
the scores over the rows of what `predict` was given. All messages about input live
here.
"""

from __future__ import annotations

import copy
import numbers
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from joblib import effective_n_jobs
from sklearn.utils import check_array, check_random_state
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import (
    check_consistent_length,
    column_or_1d,
    validate_data,
)

from softreg._blocks import Engine, block_rows
from softreg._design import Parametrisation, csr_view
from softreg._losses import LOSSES
from softreg._problem import Problem
from softreg._solve import Solver
from softreg._targets import HardTargets, SoftTargets, Targets
from softreg._threads import SINGLE_BLAS_THREAD
from softreg.solvers import SOLVERS

# Read as they are; anything else is converted to float64 whole.
DTYPES = [
    np.float64, np.float32, np.uint8, np.int8, np.int16, np.float16, np.bool_,
    np.int32, np.int64, np.uint16, np.uint32, np.uint64,
]  # fmt: skip
READ_AS_SINGLE = {np.dtype(t) for t in ("f4", "u1", "i1", "i2", "f2")}
# Products with fewer entries of X are made in float64: the cast costs nothing there.
SMALL_ENTRIES = 1 << 20
# Rows of soft targets may be off one by this, times sqrt(eps) of their dtype.
SIMPLEX_SLACK = 8.0
MAX_HESSIAN_SIDE = 20_000


class Ingested(NamedTuple):
    """A problem, and what the estimator remembers of its data."""

    problem: Problem
    classes: np.ndarray
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
    X = _checked_rows(scratch, X, reset=True)
    with advising("Pass one target, or one row of soft targets, for each row of X."):
        check_consistent_length(X, y)
    weight = _row_weights(sample_weight, X.shape[0])
    classes, targets, weight = _targets(estimator, y, weight)
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
        LOSSES[estimator.loss],
        Parametrisation(len(classes), float(estimator.temperature)),
        _intercept(estimator),
        Engine(n_threads(estimator.n_jobs)),
    )
    _check_solver_fits(estimator, problem)
    return Ingested(
        problem,
        classes,
        float(decay),
        np.float32 if X.dtype in READ_AS_SINGLE else np.float64,
        scratch.n_features_in_,
        getattr(scratch, "feature_names_in_", None),
    )


# -- parameters -----------------------------------------------------------------------


class Range(NamedTuple):
    """An interval that a real or whole parameter must lie in."""

    low: float
    high: float
    text: str
    hint: str
    open_low: bool = False
    open_high: bool = False
    whole: bool = False

    def holds(self, value: Any) -> bool:
        """Return whether a value is a number of the kind and in the interval."""
        if not (is_whole(value) if self.whole else is_real(value)):
            return False
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return bool(above and below)


def is_real(value: Any) -> bool:
    """Return whether a value is a real number, not a bool."""
    return isinstance(value, numbers.Real) and not is_flag(value)


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number, not a bool."""
    return isinstance(value, numbers.Integral) and not is_flag(value)


def is_flag(value: Any) -> bool:
    """Return whether a value is a bool."""
    return isinstance(value, bool | np.bool_)


INF = float("inf")
RANGES = {
    "C": Range(
        0, INF, "a number in (0, inf]", "Larger C means weaker regularisation.", True
    ),
    "temperature": Range(
        0, INF, "a number in (0, inf)", "1 is the plain softmax.", True, True
    ),
    "label_smoothing": Range(
        0, 1, "a number in [0, 1)", "0 leaves the labels as they are.", open_high=True
    ),
    "tol": Range(
        0,
        INF,
        "a number in [0, inf)",
        "It is the largest relative gap to the optimum that may remain.",
        open_high=True,
    ),
    "max_iter": Range(
        1, INF, "an integer of at least 1", "The default is 1000.", whole=True
    ),
    "verbose": Range(
        0, INF, "an integer of at least 0", "1 prints a line an iteration.", whole=True
    ),
}
FLAGS = ("fit_intercept", "penalize_intercept", "warm_start")


def check_parameters(estimator: Any) -> None:
    """Raise where a parameter is out of its range."""
    for name, allowed in RANGES.items():
        value = getattr(estimator, name)
        if name == "verbose" and is_flag(value):
            continue
        if not allowed.holds(value):
            raise _error(value, f"{name} must be {allowed.text}", allowed.hint)
    decay = estimator.weight_decay
    if decay is not None and not Range(0, INF, "", "", open_high=True).holds(decay):
        raise _error(
            decay,
            "weight_decay must be None or a number in [0, inf)",
            "It is lambda of the mean loss; None takes 1 / (C * sum of weights).",
        )
    for name in FLAGS:
        value = getattr(estimator, name)
        if not is_flag(value):
            raise _error(value, f"{name} must be True or False", "Pass a bool.")
    if not isinstance(estimator.loss, str) or estimator.loss not in LOSSES:
        raise _error(
            estimator.loss,
            f"loss must be one of {sorted(LOSSES)}",
            "Other losses are not there yet.",
        )
    _check_choices(estimator)


def _check_choices(estimator: Any) -> None:
    solver = estimator.solver
    names = ["auto", *sorted(SOLVERS)]
    known = isinstance(solver, str) and solver in names
    if not known and not isinstance(solver, tuple(SOLVERS.values())):
        raise _error(
            solver,
            f"solver must be one of {names} or an object of softreg.solvers",
            "'auto' chooses by the size of the problem.",
        )
    weight = estimator.class_weight
    if not (
        weight is None
        or isinstance(weight, Mapping)
        or (isinstance(weight, str) and weight == "balanced")
    ):
        raise _error(
            weight,
            "class_weight must be None, 'balanced' or a dict",
            "A dict maps labels to weights; labels it lacks weigh 1.",
        )
    n_jobs = estimator.n_jobs
    if n_jobs is not None and (
        not Range(-INF, INF, "", "", whole=True).holds(n_jobs) or n_jobs == 0
    ):
        raise _error(
            n_jobs,
            "n_jobs must be None or an integer other than 0",
            "None uses all that the process may use, -1 every core.",
        )
    state = estimator.random_state
    with advising(
        f"random_state must be None, an integer of 0 or more or a RandomState, got "
        f"{state!r}."
    ):
        check_random_state(state)
    _check_device(estimator.device)


def _check_device(device: Any) -> None:
    if device is None or device == "cpu":
        return
    kind, _, index = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind != "cuda" or not (index == "" or index.isdigit()):
        raise _error(
            device,
            "device must be None, 'cpu', 'cuda' or 'cuda:<index>'",
            "None computes where X lives.",
        )
    raise ValueError(
        f"device={device!r} needs CuPy and a CUDA GPU, and this version of softreg "
        "computes on the CPU only. Use device=None or device='cpu'."
    )


def _check_solver_fits(estimator: Any, problem: Problem) -> None:
    """Refuse an exact Newton method whose Hessian would not fit."""
    side = problem.shape[0] * problem.shape[1]
    exact = SOLVERS["newton-cholesky"]
    chosen = estimator.solver == "newton-cholesky" or isinstance(
        estimator.solver, exact
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


def solver_of(estimator: Any) -> Solver | None:
    """Return the solver asked for, or None for "auto"."""
    if not isinstance(estimator.solver, str):
        return estimator.solver
    return None if estimator.solver == "auto" else SOLVERS[estimator.solver]()


def n_threads(n_jobs: int | None) -> int:
    """Return the threads to use; within a joblib worker, its share."""
    allowed = effective_n_jobs(-1)
    if n_jobs is None:
        return min(allowed, SINGLE_BLAS_THREAD.n_usable_threads())
    return min(effective_n_jobs(n_jobs), allowed)


def _intercept(estimator: Any) -> str:
    if not estimator.fit_intercept:
        return "none"
    return "penalised" if estimator.penalize_intercept else "free"


def _error(value: Any, must: str, hint: str) -> Exception:
    """Return the error for a parameter: TypeError where its kind is wrong."""
    wrong_kind = not isinstance(value, numbers.Real | str)
    kind = TypeError if wrong_kind else ValueError
    return kind(f"{must}, got {value!r}. {hint}")


# -- X --------------------------------------------------------------------------------


@contextmanager
def advising(advice: str) -> Iterator[None]:
    """Add what to do to the errors of scikit-learn's checks."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} {advice}") from error


def _checked_rows(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Return X as scikit-learn's checks pass it: any layout, no copy."""
    with advising("X must hold finite numbers, a row a sample."):
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


# -- y and weights --------------------------------------------------------------------


def _row_weights(sample_weight: Any, n_rows: int) -> np.ndarray:
    if sample_weight is None:
        return np.ones(n_rows)
    if is_real(sample_weight):
        sample_weight = np.full(n_rows, float(sample_weight))
    with advising("sample_weight must hold a finite number of 0 or more a row."):
        weight = check_array(
            sample_weight,
            ensure_2d=False,
            dtype=np.float64,
            input_name="sample_weight",
            ensure_min_samples=0,
        )
    if weight.shape != (n_rows,):
        raise ValueError(
            f"sample_weight must have one entry a row of X, shape ({n_rows},), got "
            f"shape {weight.shape}. Pass a vector as long as X."
        )
    return weight


def _check_weights(weight: np.ndarray, name: str) -> None:
    if (weight < 0).any():
        raise ValueError(
            f"{name} must not be negative, got {weight.min()}. Use 0 to leave out."
        )
    with np.errstate(over="ignore"):
        total = weight.sum()
    if total <= 0:
        raise ValueError(
            f"{name} must not be all zero, got {weight.size} zeros. Give at least two "
            "classes a positive weight."
        )
    if not np.isfinite(total):
        raise ValueError(f"{name} must have a finite sum, got {total}. Divide it down.")


def _targets(
    estimator: Any, y: Any, weight: np.ndarray
) -> tuple[np.ndarray, Targets, np.ndarray]:
    """Return the classes, the targets of the rows, and the rows' final weights."""
    _check_weights(weight, "sample_weight")
    rows = np.asarray(y) if not hasattr(y, "toarray") else y
    if scipy.sparse.issparse(rows) or (rows.ndim == 2 and rows.shape[1] > 1):
        return _soft_targets(estimator, rows, weight)
    with advising("y must hold one label a row, all of one kind (numbers or str)."):
        labels = column_or_1d(y, warn=True)
        labels = check_array(labels, ensure_2d=False, dtype=None, input_name="y")
        check_classification_targets(labels)
        classes, codes = np.unique(labels, return_inverse=True)
    weight = (
        weight * _class_weights(estimator.class_weight, classes, codes, weight)[codes]
    )
    _check_weights(weight, "sample_weight times class_weight")
    present = np.bincount(codes, weight, minlength=len(classes)) > 0
    # A weight of 0 removes a row, and with all its rows a class.
    if not present.all():
        codes = (np.cumsum(present) - 1)[codes]
        codes[codes < 0] = 0
        classes = classes[present]
    if len(classes) < 2:
        raise ValueError(
            "y must have at least two classes, got one class only: "
            f"{classes.tolist()[0]!r}. Check the labels and the weights."
        )
    cost = _cost_matrix(estimator.margin, len(classes))
    smoothing = float(estimator.label_smoothing)
    return classes, HardTargets(codes, len(classes), smoothing, cost), weight


def _class_weights(
    class_weight: Any, classes: np.ndarray, codes: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Return a weight for each class; "balanced" counts by sample weight."""
    if class_weight is None:
        return np.ones(len(classes))
    if isinstance(class_weight, str):
        mass = np.bincount(codes, weight, minlength=len(classes))
        present = mass > 0
        balanced = weight.sum() / (present.sum() * np.where(present, mass, 1.0))
        return np.where(present, balanced, 0.0)
    known = classes.tolist()
    strangers = [label for label in class_weight if label not in known]
    # As scikit-learn: labels that a fold lacks are of no account, a typing error is.
    if strangers and any(label not in class_weight for label in known):
        raise ValueError(
            f"class_weight must map labels of y, got {strangers} which y lacks, and no "
            f"weight for others. The classes of y are {known}."
        )
    given = [class_weight.get(label, 1.0) for label in known]
    if not all(is_real(value) and np.isfinite(value) for value in given):
        raise ValueError(
            f"class_weight must map labels to finite numbers, got {class_weight}. Use "
            "numbers of 0 or more."
        )
    values = np.asarray(given, dtype=np.float64)
    _check_weights(values, "class_weight")
    return values


def _soft_targets(
    estimator: Any, y: Any, weight: np.ndarray
) -> tuple[np.ndarray, Targets, np.ndarray]:
    if scipy.sparse.issparse(y) or y.dtype.kind != "f":
        raise ValueError(
            "y must be labels (n,) or soft targets, a float array (n, K), got "
            f"{_kind(y)} of shape {y.shape}. Classes exclude each other here: for "
            "multilabel targets wrap the estimator in "
            "sklearn.multiclass.OneVsRestClassifier; for one-hot rows pass "
            "y.argmax(axis=1)."
        )
    y = check_array(y, dtype=[np.float64, np.float32], input_name="y")
    sums = y.sum(axis=1, dtype=np.float64)
    off = np.abs(sums - 1) > SIMPLEX_SLACK * np.sqrt(np.finfo(y.dtype).eps)
    off |= (y < 0).any(axis=1)
    if off.any():
        row = int(np.flatnonzero(off)[0])
        raise ValueError(
            "Rows of soft targets must be nonnegative and sum to one, got "
            f"{np.array2string(y[row], threshold=6)} (sum {sums[row]:.6g}) in row "
            f"{row}. Divide each row by its sum; for multilabel targets wrap the "
            "estimator in sklearn.multiclass.OneVsRestClassifier."
        )
    if estimator.class_weight is not None:
        raise ValueError(
            "class_weight must be None with soft targets, got "
            f"{estimator.class_weight!r}. Weigh the rows with sample_weight instead."
        )
    mass = weight @ y
    n_classes = y.shape[1]
    if (
        _intercept(estimator) == "free"
        and estimator.label_smoothing == 0
        and (mass <= 0).any()
    ):
        empty = np.flatnonzero(mass <= 0).tolist()
        raise ValueError(
            "Every class needs a positive share of the soft targets, got none in "
            f"columns {empty}: a free intercept would run to minus infinity. Drop "
            "these columns, or use label_smoothing or penalize_intercept=True."
        )
    cost = _cost_matrix(estimator.margin, n_classes)
    targets = SoftTargets(y, float(estimator.label_smoothing), cost)
    return np.arange(n_classes), targets, weight


def _kind(y: Any) -> str:
    return (
        "a sparse matrix"
        if scipy.sparse.issparse(y)
        else f"{y.dtype} ({type_of_target(y)})"
    )


def _cost_matrix(margin: Any, n_classes: int) -> np.ndarray | None:
    """Return the (K, K) cost of a margin, None where it is zero."""
    hint = "Pass a number, or a matrix with a row for each true class."
    if is_real(margin):
        if not 0 <= margin < INF:
            raise _error(margin, "margin must be in [0, inf)", hint)
        if margin == 0:
            return None
        return float(margin) * (1.0 - np.eye(n_classes))
    try:
        if margin is None or is_flag(margin):
            raise TypeError
        cost = np.asarray(margin, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"margin must be a number or a (K, K) matrix, got {margin!r}. {hint}"
        ) from error
    if cost.shape != (n_classes, n_classes):
        raise ValueError(
            "margin must be a number or a cost matrix of shape "
            f"({n_classes}, {n_classes}), got shape {cost.shape}. {hint}"
        )
    if not np.isfinite(cost).all() or (cost < 0).any():
        raise ValueError(
            f"margin must have finite entries of 0 or more, got {cost.tolist()}. {hint}"
        )
    if np.diagonal(cost).any():
        raise ValueError(
            "margin must have a zero diagonal, got "
            f"{np.diagonal(cost).tolist()}. The true class has no cost."
        )
    return cost if cost.any() else None


# -- prediction -----------------------------------------------------------------------


def apply_rows(
    estimator: Any, X: Any, function: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return `function(X @ coef_.T + intercept_)`, block by block of rows."""
    X = _checked_rows(estimator, X, reset=False)
    coef, intercept = estimator.coef_, estimator.intercept_
    dtype = (
        coef.dtype if X.dtype in READ_AS_SINGLE else np.result_type(coef, np.float64)
    )
    coef = coef.astype(dtype, copy=False)
    n_rows, n_features = X.shape
    size = block_rows(n_features, coef.shape[0], np.dtype(dtype).itemsize)
    out: np.ndarray | None = None
    for start in range(0, n_rows, size):
        rows = X[start : start + size].astype(dtype, copy=False)
        scores = safe_sparse_dot(rows, coef.T, dense_output=True) + intercept
        part = function(scores.astype(dtype, copy=False))
        if out is None:
            out = np.empty((n_rows, *part.shape[1:]), dtype=part.dtype)
        out[start : start + size] = part
    assert out is not None
    return out
