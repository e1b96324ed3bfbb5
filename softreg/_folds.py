"""Cross-validation's folds as batches: what each trains on, and what it leaves out.

A fold is a row of weights, 0 where a row is left out: no row of X is copied. Folds that
have the same classes are one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from softreg._blocks import HeldOut
from softreg._data import Ingested
from softreg._design import Parametrisation
from softreg._labels import class_weights
from softreg._losses import loss_of
from softreg._parameters import check_top_k
from softreg._problem import Problem
from softreg._targets import HardTargets, SoftTargets

Split = tuple[np.ndarray, np.ndarray]


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


def known_rows(y: Any, data: Ingested) -> np.ndarray:
    """Return which rows have a class, rather than one all of whose rows weigh 0."""
    if isinstance(data.problem.targets, SoftTargets):
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
        except (IndexError, ValueError, TypeError) as error:
            raise ValueError(
                f"Fold {fold} of cv must be a pair (train, test) of row numbers below "
                f"{n_rows}, got {split!r}: {error}. They count the rows of X from 0."
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
) -> list[Batch]:
    """Return the folds as batches, those of all classes first.

    `scored` (n,) weighs the rows in scoring; `known` (n,) says which have a class at
    all, rather than one that weighs nothing.
    """
    weights = np.stack(
        [_training_weight(estimator, data, fold, split) for fold, split in
         enumerate(splits)]
    )  # fmt: skip
    held_out = np.stack([_held_out(fold, split, scored) for fold, split in
                         enumerate(splits)])  # fmt: skip
    masses = _class_masses(data, weights)
    groups: dict[bytes, list[int]] = {}
    for fold, mass in enumerate(masses):
        _check_classes(fold, mass, data)
        groups.setdefault((mass > 0).tobytes(), []).append(fold)
    found = [
        _batch(estimator, data, folds, masses[folds[0]] > 0, weights[folds],
               held_out[folds], known)
        for folds in groups.values()
    ]  # fmt: skip
    return sorted(found, key=lambda batch: -len(batch.classes))


def _training_weight(
    estimator: Any, data: Ingested, fold: int, split: Split
) -> np.ndarray:
    """Return each row's weight in a fold; a row drawn twice weighs twice."""
    counts = np.bincount(split[0], minlength=len(data.weight))
    targets = data.problem.targets
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


def _class_masses(data: Ingested, weights: np.ndarray) -> np.ndarray:
    """Return the weight of each class in each fold, (F, K).

    A class that no soft target has is one all the same where its optimum is finite.
    """
    problem = data.problem
    targets, n_classes = problem.targets, len(data.classes)
    if isinstance(targets, HardTargets):
        masses = [np.bincount(targets.codes, own, n_classes) for own in weights]
        return np.stack(masses)
    assert isinstance(targets, SoftTargets)
    if problem.intercept != "free" or targets.smoothing > 0:
        return np.ones((len(weights), n_classes))
    return weights @ targets.rows


def _check_classes(fold: int, mass: np.ndarray, data: Ingested) -> None:
    present = data.classes[mass > 0].tolist()
    if len(present) < 2:
        raise ValueError(
            f"Fold {fold} of cv must have at least two classes in its training rows, "
            f"got one class only: {present[0]!r}. Use a stratified splitter or other "
            "folds."
        )


def _batch(
    estimator: Any,
    data: Ingested,
    folds: list[int],
    present: np.ndarray,
    weights: np.ndarray,
    held_out: np.ndarray,
    known: np.ndarray,
) -> Batch:
    problem, classes = data.problem, np.flatnonzero(present)
    targets = problem.targets
    outside = np.where(known, targets.share_of(np.flatnonzero(~present)), 1.0)
    if not present.all():
        check_top_k(estimator.loss, len(classes), f"Fold {folds[0]} of cv: ")
        problem = replace(
            problem,
            targets=targets.of_classes(classes),
            loss=loss_of(estimator.loss, len(classes)),
            parametrisation=Parametrisation(
                len(classes), problem.parametrisation.temperature
            ),
        )
    total = weights.sum(axis=1)
    problem = replace(
        problem,
        weight=weights / total[:, None],
        # What lies outside has no code to be scored by; it is scored by `lost`.
        held_out=HeldOut(held_out * (outside < 1), np.log(np.finfo(data.dtype).eps)),
    )
    return Batch(folds, classes, problem, total, held_out @ outside)
