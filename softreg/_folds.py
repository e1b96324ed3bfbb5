"""Cross-validation's folds as batches: what each trains on, and what it leaves out.

A fold is a row of weights, 0 where a row is left out: no row of X is copied. Folds that
have the same classes are one batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from softreg._arrays import like, stored_bytes
from softreg._blocks import HeldOut
from softreg._data import Ingested
from softreg._design import Parametrisation
from softreg._labels import class_weights
from softreg._losses import loss_of
from softreg._parameters import check_top_k
from softreg._problem import Problem
from softreg._targets import HardTargets, SoftTargets

Split = tuple[np.ndarray, np.ndarray]
# What a batch may hold beside X, in bytes, and how many vectors of the coefficients'
# size a solver does.
BATCH_BYTES = 1 << 26
VECTORS = 12


class Batch(NamedTuple):
    """Folds with the same classes in their training rows, as one problem.

    Parameters
    ----------
    folds : list of int
        Their numbers.
    classes : (K',) array of int
        Codes of the classes that they have.
    problem : Problem
        With a row of weights for each of them.
    total : (B,) array
        Sum of weights of each.
    lost : (B,) array
        Share of the held-out weight that lies on classes they do not have.
    """

    folds: list[int]
    classes: np.ndarray
    problem: Problem
    total: np.ndarray
    lost: np.ndarray

    def widened(self, coef: np.ndarray, data: Ingested) -> np.ndarray:
        """Return coefficients (B, k, d + 1) with a row for every class.

        A class that the folds lack has probability 0: intercept minus infinity.
        """
        n_missing = data.n_features_in + 1 - coef.shape[2]
        coef = np.pad(coef, [(0, 0), (0, 0), (0, n_missing)])
        n_classes = len(data.classes)
        if len(self.classes) == n_classes:
            return coef
        if len(self.classes) == 2:
            coef = np.concatenate([-coef / 2, coef / 2], axis=1)
        wide = np.zeros((len(coef), n_classes, coef.shape[2]))
        wide[:, :, -1] = -np.inf
        wide[:, self.classes, :] = coef
        return wide


def least_log_proba(dtype: str) -> float:
    """Return the logarithm of the least probability, as `sklearn.metrics.log_loss`."""
    return float(np.log(np.finfo(dtype).eps))


def known_rows(y: Any, data: Ingested) -> np.ndarray:
    """Return which rows have a class, rather than one all of whose rows weigh 0."""
    if isinstance(data.targets, SoftTargets):
        return np.ones(len(data.weight), dtype=bool)
    return np.isin(np.asarray(y).reshape(-1), data.classes)


def row_numbers(splits: Sequence[Any], n_rows: int) -> list[Split]:
    """Return the row numbers of each split, checked."""
    if not splits:
        raise ValueError(
            "cv must give at least one split, got none. Pass an integer, a splitter or "
            "a list of (train, test) row numbers."
        )
    rows, checked = np.arange(n_rows), []
    for fold, split in enumerate(splits):
        try:
            # An empty list is an array of floats, which are no row numbers.
            train, test = (
                rows[part if part.size else part.astype(np.intp)]
                for part in map(np.asarray, split)
            )
            if train.ndim != 1 or test.ndim != 1:
                raise ValueError(f"shapes {train.shape} and {test.shape}")
        except (IndexError, ValueError, TypeError) as error:
            raise ValueError(
                f"Fold {fold} of cv must be a pair (train, test) of vectors of row "
                f"numbers below {n_rows}, got another: {error}. They count from 0."
            ) from error
        if not len(test):
            raise ValueError(
                f"Fold {fold} of cv must hold out rows to score, got none. Use fewer "
                "folds."
            )
        checked.append((train, test))
    return checked


def batches_of(
    estimator: Any,
    data: Ingested,
    splits: Sequence[Split],
    scored: np.ndarray,
    known: np.ndarray,
) -> Iterator[Batch]:
    """Check all folds, then yield them as batches, each made when it is wanted.

    `scored` (n,) weighs the rows in scoring; `known` (n,) says which have a class at
    all, rather than one that weighs nothing.
    """
    groups: dict[bytes, list[int]] = {}
    for fold, split in enumerate(splits):
        present = _present(data, _training_weight(estimator, data, fold, split))
        _check_classes(fold, data.classes[present])
        check_top_k(estimator.loss, int(present.sum()), f"Fold {fold} of cv: ")
        _held_out(fold, split, scored)
        groups.setdefault(present.tobytes(), []).append(fold)
    width = _width(data)
    parts = [
        (folds[start : start + width], np.frombuffer(key, dtype=bool))
        for key, folds in groups.items()
        for start in range(0, len(folds), width)
    ]
    return (
        _batch(estimator, data, folds, present, splits, scored, known)
        for folds, present in parts
    )


def _width(data: Ingested) -> int:
    """Return how many folds make a batch at the most.

    What a batch holds beside X, vectors of the coefficients' size and weights of the
    rows, is kept to a share of X or to a fixed size.
    """
    X, (k, n_columns) = data.X, data.problem.shape
    budget = max(BATCH_BYTES, stored_bytes(X) // 8)
    per_fold = max(8 * VECTORS * k * n_columns, 16 * X.shape[0])
    return max(1, budget // per_fold)


def _training_weight(
    estimator: Any, data: Ingested, fold: int, split: Split
) -> np.ndarray:
    """Return each row's weight in a fold; a row drawn twice weighs twice."""
    counts = np.bincount(split[0], minlength=len(data.weight))
    targets = data.targets
    if isinstance(estimator.class_weight, str) and isinstance(targets, HardTargets):
        weight = data.row_weight * counts
        balanced = class_weights("balanced", data.classes, targets.codes, weight)
        weight = weight * balanced[targets.codes]
    else:
        weight = data.weight * counts
    if weight.sum() <= 0:
        raise ValueError(
            f"Fold {fold} of cv must train on rows of positive weight, got "
            f"{len(split[0])} rows that weigh nothing. Use other folds."
        )
    return weight


def _held_out(fold: int, split: Split, scored: np.ndarray) -> np.ndarray:
    """Return the weights of a fold's held-out rows in its score; they sum to one."""
    weight = np.bincount(split[1], minlength=len(scored)) * scored
    if weight.sum() <= 0:
        raise ValueError(
            f"Fold {fold} of cv must hold out rows of positive weight, got "
            f"{len(split[1])} rows that weigh nothing. Use other folds."
        )
    return weight / weight.sum()


def _present(data: Ingested, weight: np.ndarray) -> np.ndarray:
    """Return which classes (K,) have weight.

    One that no soft target has is one all the same where its optimum is finite.
    """
    problem, n_classes = data.problem, len(data.classes)
    targets = data.targets
    if isinstance(targets, HardTargets):
        return np.bincount(targets.codes, weight, n_classes) > 0
    assert isinstance(targets, SoftTargets)
    if problem.intercept != "free" or targets.smoothing > 0:
        return np.ones(n_classes, dtype=bool)
    return weight @ targets.rows > 0


def _check_classes(fold: int, present: np.ndarray) -> None:
    if len(present) < 2:
        raise ValueError(
            f"Fold {fold} of cv must have at least two classes in its training rows, "
            f"got one class only: {present.tolist()[0]!r}. Use a stratified splitter "
            "or other folds."
        )


def _batch(
    estimator: Any,
    data: Ingested,
    folds: list[int],
    present: np.ndarray,
    splits: Sequence[Split],
    scored: np.ndarray,
    known: np.ndarray,
) -> Batch:
    """Return some folds, which have these classes, as a batch."""
    problem, classes = data.problem, np.flatnonzero(present)
    place = problem.weight
    weights = np.empty((len(folds), len(scored)))
    held_out, total = np.empty_like(weights), np.empty(len(folds))
    for row, fold in enumerate(folds):
        own = _training_weight(estimator, data, fold, splits[fold])
        total[row] = own.sum()
        weights[row] = own / total[row]
        held_out[row] = _held_out(fold, splits[fold], scored)
    lost = np.zeros(len(folds))
    if not (present.all() and known.all()):
        absent = data.targets.share_of(np.flatnonzero(~present))
        outside = np.where(known, absent, 1.0)
        lost = held_out @ outside
        # What lies outside has no code to be scored by; it is scored by `lost`.
        held_out[:, outside == 1] = 0
    if not present.all():
        temperature = problem.parametrisation.temperature
        problem = replace(
            problem,
            targets=data.targets.of_classes(classes).on(place),
            loss=loss_of(estimator.loss, len(classes)),
            parametrisation=Parametrisation(len(classes), temperature),
        )
    judged = HeldOut(like(held_out, place), least_log_proba(data.dtype))
    problem = replace(problem, weight=like(weights, place), held_out=judged)
    return Batch(folds, classes, problem, total, lost)
