"""The fits of a search over C, and how their held-out rows are scored."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import check_scoring

from softreg._arrays import (
    Described,
    is_foreign,
    is_sparse,
    like,
    namespace,
    on_host,
)
from softreg._data import Ingested
from softreg._fitted import fitted_here
from softreg._folds import Batch, Split, known_rows, least_log_proba
from softreg._labels import row_weights
from softreg._losses import TopK, clipped
from softreg._parameters import is_real, solver_of
from softreg._path import Stopped, decays_of
from softreg._progress import is_shown
from softreg._softmax import SoftmaxRegression, attributes_of, linear_attributes
from softreg._solve import Solution, solve_path
from softreg._sources import RowSource
from softreg._watching import Task

# Scores that every evaluation sums: their column of `Solution.held_out`.
SUMMED = {None: 0, "accuracy": 0, "neg_log_loss": 1}
# Mean scores that differ by no more than rounding are equal.
EQUAL = 1e-12


class Routed(NamedTuple):
    """What the splitter's `split` and the scorer get beside X and y."""

    split: dict[str, Any]
    score: dict[str, Any]


class Judge(NamedTuple):
    """How held-out rows are scored.

    Parameters
    ----------
    column : int or None
        Of `Solution.held_out`; None where a scorer is asked.
    weight : (n,) array
        Weights of the rows in the score, where a column has it.
    score : callable
        The score of a fold under an estimator, where none has.
    """

    column: int | None
    weight: np.ndarray
    score: Callable[[int, SoftmaxRegression], float]


def judge_of(
    scoring: Any,
    params: dict[str, Any],
    X: Any,
    y: Any,
    estimator: SoftmaxRegression,
    data: Ingested,
    splits: list[Split],
) -> Judge:
    """Return the judge that `scoring` names; `params` are the scorer's."""
    scorer = check_scoring(estimator, "accuracy" if scoring is None else scoring)
    labels, n_rows = np.asarray(y), len(data.weight)
    framed = hasattr(X, "iloc")
    weight = row_weights(params.get("sample_weight"), n_rows)
    if is_real(params.get("sample_weight")):
        params = {**params, "sample_weight": weight}

    def weighing(rows: np.ndarray) -> np.ndarray:
        """Return the rows that weigh anything: 0 is no row."""
        return rows[weight[rows] > 0]

    def score(fold: int, member: SoftmaxRegression) -> float:
        test = weighing(splits[fold][1])
        if not framed:
            # Its rows are those of an array: they have no names to be checked.
            member.__dict__.pop("feature_names_in_", None)
        rows = on_host(rows_at(X if framed else data.X, test, n_rows))
        extra = {k: rows_at(v, test, n_rows) for k, v in params.items()}
        return float(scorer(member, rows, labels[test], **extra))

    known = known_rows(y, data)

    def log_loss(fold: int, member: SoftmaxRegression) -> float:
        """Return the mean log-probability, as evaluations sum it."""
        test, low = weighing(splits[fold][1]), least_log_proba(data.dtype)
        member.__dict__.pop("feature_names_in_", None)
        rows = on_host(rows_at(data.X, test, n_rows))
        log_proba = member.predict_log_proba(rows).T[None, ...]
        log_proba = clipped(log_proba, low)
        of_rows = data.targets.plain().at(test).inner(log_proba)[0]
        of_rows = np.where(known[test], of_rows, low)
        return float(np.average(of_rows, weights=weight[test]))

    named = scoring is None or isinstance(scoring, str)
    summed = named and scoring in SUMMED and set(params) <= {"sample_weight"}
    kinked = isinstance(data.problem.loss, TopK)
    if isinstance(data.X, Described) and (kinked or not summed):
        raise ValueError(
            "scoring must be None, 'accuracy' or 'neg_log_loss' for Dask input, and "
            f"loss smooth, got scoring={scoring!r} and loss={estimator.loss!r}. Held-"
            "out rows are not in this process for a scorer."
        )
    # The smooth relatives that a top-k loss is solved by have other probabilities.
    if summed and kinked:
        return Judge(None, weight, score if SUMMED[scoring] == 0 else log_loss)
    return Judge(SUMMED[scoring] if summed else None, weight, score)


def rows_at(values: Any, rows: np.ndarray, n_rows: int) -> Any:
    """Return some rows of what has one entry a row; anything else as it is."""
    if hasattr(values, "iloc"):
        return values.iloc[rows]
    if is_foreign(values) and not is_sparse(values):
        return namespace(values).take(values, like(rows, values), axis=0)
    if is_sparse(values) or isinstance(values, RowSource):
        return values[rows]
    # Not all arrays have a length: zarr's have a shape alone.
    listed = hasattr(values, "__len__") and not isinstance(values, str | dict)
    shape = getattr(values, "shape", (len(values),) if listed else ())
    return np.asarray(values)[rows] if shape[:1] == (n_rows,) else values


class Search:
    """The fits of all folds at all values of C."""

    def __init__(
        self,
        estimator: SoftmaxRegression,
        data: Ingested,
        values: np.ndarray,
        n_folds: int,
        refit: bool,
    ) -> None:
        self.estimator, self.data, self.values = estimator, data, values
        shape = (n_folds, len(values))
        self.scores = np.full(shape, np.nan)
        self.objectives, self.gaps = np.full(shape, np.nan), np.full(shape, np.nan)
        self.n_iter, self.converged = np.zeros(shape, int), np.zeros(shape, bool)
        k = data.problem.shape[0]
        coefs = (*shape, k, data.n_features_in + 1)
        self.coefs = np.full(coefs, np.nan, dtype=data.dtype)
        self.solver = ""
        self.stopped = Stopped(estimator, n_folds * len(values) + refit)

    def run(
        self, batch: Batch, judge: Judge, starts: np.ndarray | None, task: Task
    ) -> None:
        """Fit a batch of folds at every C, and score what they leave out.

        `starts` (folds, Cs, k, P) are points to start from where they are better. Each
        C is a part of the task; a callback that stops there leaves out weaker
        penalties.
        """
        estimator, order = self.estimator, np.argsort(self.values, kind="stable")
        folds = task.subtask("folds", len(order))
        decays = [decays_of(self.values[index], batch.total) for index in order]
        path = solve_path(
            batch.problem,
            decays,
            solver_of(estimator),
            tol=estimator.tol,
            max_iter=estimator.max_iter,
            dtype=self.data.dtype,
            starts=(
                None
                if starts is None or len(batch.classes) < len(self.data.classes)
                else [starts[batch.folds, index] for index in order]
            ),
        )
        for index in order.tolist():
            own = folds.subtask(f"C={self.values[index]:g}")
            solution = next(path)
            self._take(batch, index, solution)
            self._score(batch, index, solution, judge)
            if is_shown(estimator):
                self._print(batch.folds, index)
            if own.ended(partial(self._so_far, index)):
                break
        folds.ended()

    def _so_far(self, index: int) -> dict[str, Any]:
        """Return the fitted attributes as if the search had ended here."""
        attributes = copy.deepcopy(self.attributes(index))
        return attributes | linear_attributes(self.data, self.mean_coef(index)[0])

    def _take(self, batch: Batch, index: int, solution: Solution) -> None:
        """Keep the fits of a batch at one C."""
        cell = batch.folds, index
        coef = batch.widened(on_host(solution.coef), self.data)
        self.coefs[cell] = coef
        self.objectives[cell], self.gaps[cell] = solution.value, solution.gap
        self.n_iter[cell], self.converged[cell] = solution.n_iter, solution.converged
        self.solver = solution.solver
        at_C = f"C={self.values[index]:g}"
        names = [f"{at_C} in fold {fold}" for fold in batch.folds]
        decays = decays_of(self.values[index], batch.total)
        self.stopped.note(self.data, solution, decays.tolist(), names)

    def _score(
        self, batch: Batch, index: int, solution: Solution, judge: Judge
    ) -> None:
        """Score the fits of a batch at one C."""
        if judge.column is not None:
            scores = solution.held_out[:, judge.column]
            if judge.column == SUMMED["neg_log_loss"]:
                assert batch.problem.held_out is not None
                scores = scores + batch.lost * batch.problem.held_out.least_log_proba
            self.scores[batch.folds, index] = scores
            return
        for position, fold in enumerate(batch.folds):
            decay = float(decays_of(self.values[index], batch.total[position]))
            fitted = attributes_of(self.data, solution, decay, position)
            # A class that the fold lacks has a row too.
            fitted |= linear_attributes(self.data, self.coefs[fold, index])
            self.scores[fold, index] = self._asked(fold, index, judge, fitted)

    def _asked(
        self, fold: int, index: int, judge: Judge, fitted: dict[str, Any]
    ) -> float:
        """Return the scorer's score of one fit."""
        member = SoftmaxRegression(**self.estimator.get_params())
        member.C = float(self.values[index])
        member.__dict__.update(fitted)
        member = fitted_here(member)
        where = f"on fold {fold} at C={self.values[index]:g}"
        advice = (
            "Use a scorer that this estimator and these rows suffice for, and that "
            "takes sample_weight where fit got one."
        )
        try:
            score = judge.score(fold, member)
        except Exception as error:  # a scorer may raise anything
            if "pos_label" in str(error):
                advice = "Name the positive class: make_scorer(..., pos_label=...)."
            raise ValueError(f"scoring failed {where}: {error}\n{advice}") from error
        if not np.isfinite(score):
            raise ValueError(
                f"scoring must give finite numbers, got {score} {where}. {advice}"
            )
        return score

    def _print(self, folds: list[int], index: int) -> None:
        gaps = self.gaps[folds, index] / np.abs(self.objectives[folds, index])
        print(
            f"C {self.values[index]:8.3g}  folds {len(folds)}  mean score "
            f"{self.scores[folds, index].mean():.5g}  iterations "
            f"{self.n_iter[folds, index].max()}  largest proven relative gap "
            f"{gaps.max():.2e}",
            flush=True,
        )

    def check_classes(self, index: int) -> None:
        """Raise where a class is in the training rows of no fold."""
        missing = ~np.isfinite(self.coefs[:, index, :, -1]).any(axis=0)
        if missing.any():
            raise ValueError(
                "refit=False needs every class in the training rows of some fold, got "
                f"none with {self.data.classes[missing].tolist()}. Use refit=True."
            )

    def mean_coef(self, index: int) -> np.ndarray:
        """Return the mean coefficients (1, k, P) of the folds at one C.

        A class is averaged over the folds that have it.
        """
        coefs = self.coefs[:, index].astype(np.float64)
        has = np.isfinite(coefs[..., -1:])
        total = np.where(has, coefs, 0.0).sum(axis=0)
        mean = total / np.maximum(has.sum(axis=0), 1)
        return mean[None, :, : self.data.problem.shape[1]]

    def attributes(self, chosen: int) -> dict[str, Any]:
        """Return the fitted attributes of the search."""
        arrays = {
            "Cs_": self.values,
            "scores_": self.scores,
            "coefs_paths_": self.coefs,
            "n_iter_": self.n_iter,
            "objectives_": self.objectives,
            "optimality_gaps_": self.gaps,
        }
        home = self.data.home
        there = {name: like(values, home) for name, values in arrays.items()}
        return there | {"C_": float(self.values[chosen])}


def chosen_index(values: np.ndarray, scores: np.ndarray, selection: str) -> int:
    """Return which C is chosen: the strongest penalty of those that are good enough."""
    mean = scores.mean(axis=0)
    mean = np.where(np.isnan(mean), -np.inf, mean)  # a callback left it out
    enough = mean.max() - EQUAL * abs(mean.max())
    if selection == "1se":
        best = _strongest(values, mean >= enough)
        enough -= scores[:, best].std(ddof=1) / len(scores) ** 0.5
    return _strongest(values, mean >= enough)


def _strongest(values: np.ndarray, eligible: np.ndarray) -> int:
    """Return the index of the smallest eligible C."""
    return int(np.argmin(np.where(eligible, values, np.inf)))
