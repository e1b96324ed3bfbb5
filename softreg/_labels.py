"""y and weights, checked and turned into targets of the rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from softreg._arrays import Array, is_foreign, like, namespace, on_host, to_numpy
from softreg._parameters import (
    INF,
    advising,
    intercept_of,
    is_flag,
    is_real,
    refusal,
)
from softreg._targets import HardTargets, SoftTargets, Targets

ONE_KIND = "y must hold one label a row, all of one kind (numbers or str)."
# Rows of soft targets may be off one by this, times sqrt(eps) of their dtype.
SIMPLEX_SLACK = 8.0


class Known(NamedTuple):
    """Classes that are known before their rows, and what they weighed so far, (K,)."""

    classes: np.ndarray
    weight: np.ndarray | float = 0.0


def row_weights(sample_weight: Any, n_rows: int) -> np.ndarray:
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
    _check_weights(weight, "sample_weight")
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
            f"{name} must not be all zero, got {weight.size} zeros. Give some rows a "
            "positive weight: of two classes for fit, of any for partial_fit."
        )
    if not np.isfinite(total):
        raise ValueError(f"{name} must have a finite sum, got {total}. Divide it down.")


def targets_of(
    estimator: Any, y: Any, weight: np.ndarray, known: Known | None = None
) -> tuple[np.ndarray, Targets, np.ndarray]:
    """Return the classes, the targets of the rows, and the rows' final weights.

    The classes are those of y, or `known`: then y may lack some, and has no others.
    """
    rows = np.asarray(y) if not hasattr(y, "toarray") else y
    if scipy.sparse.issparse(rows) or (rows.ndim == 2 and rows.shape[1] > 1):
        return _soft_targets(estimator, rows, weight, known)
    if known is None:
        classes, codes, weight = coded(y, weight, estimator.class_weight)
    else:
        classes, codes, weight = coded_as(y, weight, estimator.class_weight, known)
    cost = _cost_matrix(estimator.margin, len(classes))
    smoothing = float(estimator.label_smoothing)
    return classes, HardTargets(codes, len(classes), smoothing, cost), weight


def coded(
    y: Any, weight: np.ndarray, class_weight: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the classes, the code of each row's, and the rows' final weights.

    A class all of whose rows weigh 0 is left out; the codes of such rows mean nothing.
    """
    labels = _labels(y)
    with advising(ONE_KIND):
        classes, codes = np.unique(labels, return_inverse=True)
    if class_weight is not None:
        weight = weight * class_weights(class_weight, classes, codes, weight)[codes]
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
    return classes, codes, weight


def coded_as(
    y: Any, weight: np.ndarray, class_weight: Any, known: Known
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `coded` does, where the classes are known beforehand."""
    classes, before = known
    labels = _vector(y, "y")
    with advising(ONE_KIND):
        codes = np.searchsorted(classes, labels).clip(0, len(classes) - 1)
        strange = classes[codes] != labels
    if np.any(strange):
        raise ValueError(
            f"y must hold the classes of the first call, {classes.tolist()}, got "
            f"{np.unique(labels[strange]).tolist()} besides. Name all classes in the "
            "first call to partial_fit."
        )
    if class_weight is not None:
        weights = class_weights(class_weight, classes, codes, weight, before)
        weight = weight * weights[codes]
        _check_weights(weight, "sample_weight times class_weight")
    return classes, codes, weight


def labels_like(classes: np.ndarray, reference: Array) -> Array:
    """Return labels as an array of the reference's place; on the host if no numbers."""
    numbers = _indexable(classes) if is_foreign(reference) else None
    return classes if numbers is None else like(numbers, reference)


def labels_of(classes: Array, codes: Array) -> Array:
    """Return the labels of some codes, where the labels lie."""
    if not is_foreign(classes):
        return classes[to_numpy(codes)]
    xp = namespace(codes)
    return xp.reshape(xp.take(classes, xp.reshape(codes, (-1,))), codes.shape)


def _indexable(classes: np.ndarray) -> np.ndarray | None:
    """Return labels in a dtype that every library can index; None for no numbers."""
    kind, size = classes.dtype.kind, classes.dtype.itemsize
    if kind == "u" and size > 1:
        signed = classes.astype(np.int64)
        return signed if (signed == classes).all() and (signed >= 0).all() else None
    if kind == "f" and size not in (4, 8):
        return classes.astype(np.float64)
    return classes.astype(classes.dtype.newbyteorder("=")) if kind in "biuf" else None


def check_given(estimator: Any, y: Any) -> None:
    """Refuse to fit without labels."""
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is "
            "None. Pass labels (n,) or soft targets (n, K)."
        )


def known_classes(estimator: Any, classes: Any, y: Any) -> np.ndarray:
    """Return the classes of rows that come in batches: told once, and then kept."""
    check_given(estimator, y)
    if classes is None:
        if hasattr(estimator, "classes_"):
            return on_host(estimator.classes_)
        if np.ndim(y) == 2 and np.shape(y)[1] > 1:
            return np.arange(np.shape(y)[1])
        raise ValueError(
            "classes must be passed on the first call to partial_fit, got None. Name "
            "all labels that will ever come."
        )
    labels = [*classes] if isinstance(classes, set | frozenset) else on_host(classes)
    named = np.unique(_vector(labels, "classes"))
    if named.dtype.kind == "f" and (named != np.rint(named)).any():
        raise ValueError(
            f"classes must be labels, got numbers with fractions, {named.tolist()}. "
            "Use whole numbers or strings."
        )
    if len(named) < 2:
        raise ValueError(
            "classes must have at least two classes, got one class only: "
            f"{named.tolist()}. Name all labels that will ever come."
        )
    before = on_host(getattr(estimator, "classes_", named))
    if not np.array_equal(before, named):
        raise ValueError(
            f"classes must be those of the calls before, {before.tolist()}, got "
            f"{named.tolist()}. Leave them out, or begin with a new estimator."
        )
    return named


def _labels(y: Any) -> np.ndarray:
    labels = _vector(y, "y")
    with advising(ONE_KIND):
        check_classification_targets(labels)
    return labels


def _vector(values: Any, name: str) -> np.ndarray:
    """Return labels as a vector."""
    with advising(ONE_KIND.replace("y", name, 1)):
        labels = column_or_1d(values, warn=name == "y", input_name=name)
        return check_array(labels, ensure_2d=False, dtype=None, input_name=name)


def class_weights(
    class_weight: Any,
    classes: np.ndarray,
    codes: np.ndarray,
    weight: np.ndarray,
    before: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Return a weight for each class; "balanced" counts by sample weight.

    `before` (K,) is what classes weighed in rows that came before.
    """
    if isinstance(class_weight, str):
        mass = np.bincount(codes, weight, minlength=len(classes)) + before
        present = mass > 0
        balanced = mass.sum() / (present.sum() * np.where(present, mass, 1.0))
        return np.where(present, balanced, 0.0)
    known = classes.tolist()
    strangers = [label for label in class_weight if label not in known]
    # As scikit-learn: labels that a fold lacks are of no account, a typing error is.
    if strangers and any(label not in class_weight for label in known):
        raise ValueError(
            f"class_weight must map labels of y to weights, got {strangers}, which y "
            f"does not have, and none for some that it has. Classes of y are {known}."
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
    estimator: Any, y: Any, weight: np.ndarray, known: Known | None
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
    if known is not None and n_classes != len(known.classes):
        raise ValueError(
            "Rows of soft targets must have a column for each of the "
            f"{len(known.classes)} classes of the first call, got {n_classes}. Keep to "
            "one set of classes."
        )
    if (
        known is None
        and intercept_of(estimator) == "free"
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
    classes = np.arange(n_classes) if known is None else known.classes
    return classes, targets, weight


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
            raise refusal(margin, "margin must be in [0, inf)", hint)
        if margin == 0:
            return None
        return float(margin) * (1.0 - np.eye(n_classes))
    try:
        if margin is None or is_flag(margin):
            raise TypeError
        cost = np.asarray(on_host(margin), dtype=np.float64)
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
