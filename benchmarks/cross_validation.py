"""SoftmaxRegressionCV beside its own fits one by one and LogisticRegressionCV.

    python benchmarks/cross_validation.py [letter isolet usps_like fashion10k]
                                          [--data FOLDER] [--output FILE] [--no-peer]

Ten values of C from 1e-4 to 1e4, five stratified folds, the same for all, in one
process. The own fits are `SoftmaxRegression(C).fit` on a copy of each fold's rows, in
turn. LogisticRegressionCV has its default solver and the fewest of 100, 300 and 1000
iterations that bring all of its fits within 1e-2 of the optimum, or else 1000; 300 are
tried only where 100 or 1000 say that it may be them. `usps_like` are Fashion-MNIST's
first 7291 images at 16 x 16 pixels, `fashion10k` its first 10000.

The worst gap of LogisticRegressionCV's fits is against the lower bound that ours prove.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from judge import objective
from problems import DATA, load
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold

from softreg import SoftmaxRegression, SoftmaxRegressionCV

CS = np.logspace(-4, 4, 10)
CLOSE = 1e-2


def problem(name: str, data: Path) -> tuple[np.ndarray, np.ndarray]:
    if name not in ("usps_like", "fashion10k"):
        return load(name, data)
    X, y = load("fashion_mnist", data)
    if name == "fashion10k":
        return X[:10_000].copy(), y[:10_000]
    images, small = X[:7291].reshape(-1, 28, 28), overlaps(28, 16)
    return np.einsum("ia,nab,jb->nij", small, images, small).reshape(-1, 256), y[:7291]


def overlaps(old: int, new: int) -> np.ndarray:
    """Return the shares of old pixels in new ones along one side."""
    edges = np.arange(new + 1) * old / new
    low, high = edges[:-1, None], edges[1:, None]
    pixels = np.arange(old)
    shares = np.minimum(high, pixels + 1) - np.maximum(low, pixels)
    return np.clip(shares, 0, None) * new / old


def seconds(call: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def one_by_one(X: np.ndarray, y: np.ndarray, splits: list[Any]) -> float:
    """Fit every fold at every C on its own; return the worst proven relative gap."""
    worst = 0.0
    for train, test in splits:
        rows, labels = X[train], y[train]
        for C in CS:
            model = SoftmaxRegression(C).fit(rows, labels)
            model.score(X[test], y[test])
            worst = max(worst, model.optimality_gap_ / model.objective_)
    return worst


def peer(X: np.ndarray, y: np.ndarray, splits: list[Any], max_iter: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegressionCV(
            Cs=CS, cv=splits, max_iter=max_iter, use_legacy_attributes=False,
            l1_ratios=(0.0,), scoring="accuracy",
        ).fit(X, y)  # fmt: skip


def worst_gap(
    model: Any, ours: SoftmaxRegressionCV, X: np.ndarray, y: np.ndarray, splits: Any
) -> float:
    """Return the largest relative distance of a fit from the optimum."""
    worst = 0.0
    for fold, (train, _) in enumerate(splits):
        rows, labels = X[train], y[train]
        for index, C in enumerate(CS):
            coef = model.coefs_paths_[fold, 0, index]
            value = objective(rows, labels, coef[:, :-1], coef[:, -1], C)
            lower = ours.objectives_[fold, index] - ours.optimality_gaps_[fold, index]
            worst = max(worst, value / lower - 1)
    return worst


def raced(
    X: np.ndarray, y: np.ndarray, splits: Any, ours: SoftmaxRegressionCV
) -> tuple[int, float, float, Any]:
    """Return LogisticRegressionCV's iterations, seconds, worst gap, and itself."""

    def at(max_iter: int) -> tuple[int, float, float, Any]:
        took, model = seconds(lambda: peer(X, y, splits, max_iter))
        return max_iter, took, worst_gap(model, ours, X, y, splits), model

    first = at(100)
    if first[2] <= CLOSE:
        return first
    last = at(1000)
    if first[2] <= 10 * CLOSE or last[2] <= CLOSE:
        middle = at(300)
        if middle[2] <= CLOSE:
            return middle
    return last


def rows(options: argparse.Namespace) -> Iterator[str]:
    yield (
        "| problem | n x d, K | worst proven gap | one by one / CV | "
        "LogisticRegressionCV / CV | its max_iter | its worst gap | C (its) |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    alone, against = [], []
    for name in options.problems:
        X, y = problem(name, options.data)
        splits = list(StratifiedKFold(5).split(X, y))
        took, ours = seconds(lambda: SoftmaxRegressionCV(CS, cv=splits).fit(X, y))  # noqa: B023
        gap = (ours.optimality_gaps_ / ours.objectives_).max()
        single, _ = seconds(lambda: one_by_one(X, y, splits))  # noqa: B023
        again, _ = seconds(lambda: SoftmaxRegressionCV(CS, cv=splits).fit(X, y))  # noqa: B023
        took = (took + again) / 2
        alone.append(single / took)
        row = f"| {name} | {X.shape[0]} x {X.shape[1]}, {len(ours.classes_)} | "
        row += f"{gap:.0e} | {alone[-1]:.1f} | "
        if options.no_peer:
            yield row + "| | | |"
            continue
        max_iter, theirs, far, model = raced(X, y, splits, ours)
        against.append(theirs / took)
        yield row + (
            f"{against[-1]:.1f} | {max_iter} | {far:.0e} | {ours.C_:.3g} "
            f"({float(model.C_):.3g}) |"
        )
    means = [f"{np.exp(np.mean(np.log(r))):.1f}" if r else "" for r in (alone, against)]
    yield f"| geometric mean | | | {means[0]} | {means[1]} | | | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ["letter", "isolet", "usps_like", "fashion10k"]
    parser.add_argument("problems", nargs="*", default=names)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    lines = []
    for line in rows(options):
        print(line, flush=True)
        lines.append(line)
    if options.output is not None:
        command = "python benchmarks/cross_validation.py"
        text = f"Written by `{command}`, on two cores.\n\n" + "\n".join(lines) + "\n"
        options.output.write_text(text)


if __name__ == "__main__":
    main()
