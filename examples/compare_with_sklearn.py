"""Compare SoftmaxRegression with the solvers of scikit-learn's LogisticRegression
===============================================================================

Every estimator gets the same unscaled training data and the same C = 1, so all seek the
minimum of one function::

    F = mean cross-entropy + ||W||^2 / (2 C n),

which is computed here in float64, by one function, for all of them. The table shows how
long each took, how far above the best F found it stopped, and what it said about that:
the gap that softreg proves (the others prove none) and the warnings raised. The best F
is that of all the fits and of one more, untimed, `SoftmaxRegression(tol=1e-10)`.

Seconds are the median of three fits after a first one, or that first one where it took
a second or more. Everything runs on one thread (`--threads` changes that): on a busy
machine, threads that wait for one another cost some solvers far more than others. Only
the ratios mean something, only within one run, and for the fits timed once only roughly
unless the machine is idle.

Run it, in about a minute, with::

    python examples/compare_with_sklearn.py [--quick] [--threads N] [--output PATH]

It writes a figure, `compare_with_sklearn.png` in the current directory unless told.
"""

# sphinx_gallery_thumbnail_path = "images/compare_with_sklearn.png"

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_wine,
    make_classification,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from softreg import SoftmaxRegression

C = 1.0
SHORT = 1.0  # seconds; shorter fits are repeated
FLOOR = 1e-10  # the smallest relative gap drawn

# Colour (Okabe and Ito's, safe for colour-blind readers) and marker of each estimator.
STYLE = {
    "softreg": ("#D55E00", "*"),
    "lbfgs": ("#56B4E9", "o"),
    "lbfgs, more iterations": ("#0072B2", "s"),
    "newton-cg": ("#009E73", "^"),
    "newton-cholesky": ("#CC79A7", "D"),
}


class Split(NamedTuple):
    """A data set, and how many iterations lbfgs may take where it may take many."""

    name: str
    X: np.ndarray
    X_test: np.ndarray
    y: np.ndarray
    y_test: np.ndarray
    lbfgs_max_iter: int

    @property
    def shape(self) -> str:
        return f"{self.X.shape[0]} x {self.X.shape[1]}, {len(set(self.y))} classes"


class Run(NamedTuple):
    """One estimator on one data set."""

    style: str
    label: str
    seconds: float
    n_iter: int
    objective: float
    proven: float | None  # relative
    accuracy: float
    warned: str


def data_sets(quick: bool) -> Iterator[Split]:
    """Yield the data sets, raw, three quarters of the rows for training."""
    max_iter = 1000 if quick else 10_000
    for name, load in [
        ("digits", load_digits),
        ("wine", load_wine),
        ("breast cancer", load_breast_cancer),
    ]:
        yield split(name, *load(return_X_y=True), max_iter)
    size = (1500, 20, 4) if quick else (16_000, 50, 10)
    yield split("synthetic", *synthetic(*size), 200 if quick else 3000)


def split(name: str, X: np.ndarray, y: np.ndarray, lbfgs_max_iter: int) -> Split:
    parts = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
    return Split(name, *parts, lbfgs_max_iter)


def synthetic(
    n_samples: int, n_features: int, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return overlapping classes, in columns whose scales span four decades."""
    X, y = make_classification(
        n_samples,
        n_features,
        n_informative=n_features // 2,
        n_redundant=n_features // 10,
        n_classes=n_classes,
        n_clusters_per_class=1,
        flip_y=0.02,
        random_state=0,
    )
    return X * 10.0 ** np.random.default_rng(0).uniform(-2, 2, n_features), y


def estimators(lbfgs_max_iter: int) -> Iterator[tuple[str, str, Any]]:
    """Yield style, label and estimator, softreg first."""
    yield "softreg", "SoftmaxRegression()", SoftmaxRegression(C=C)
    yield "lbfgs", "lbfgs", LogisticRegression(C=C)
    yield (
        "lbfgs, more iterations",
        f"lbfgs, max_iter={lbfgs_max_iter}",
        LogisticRegression(C=C, max_iter=lbfgs_max_iter),
    )
    for solver in ("newton-cg", "newton-cholesky"):
        yield solver, solver, LogisticRegression(C=C, solver=solver)


def objective(model: Any, X: np.ndarray, y: np.ndarray) -> float:
    """Return F in float64; two classes have one row of coefficients."""
    coef = np.asarray(model.coef_, dtype=np.float64)
    scores = np.asarray(X, dtype=np.float64) @ coef.T + model.intercept_
    if len(model.classes_) == 2:
        scores = np.column_stack([np.zeros(len(X)), scores])
    codes = np.searchsorted(model.classes_, y)
    losses = logsumexp(scores, axis=1) - scores[np.arange(len(X)), codes]
    return float(losses.mean() + (coef**2).sum() / (2 * C * len(X)))


def timed_fit(model: Any, X: np.ndarray, y: np.ndarray) -> tuple[float, str]:
    """Fit, again and again where that is short; return seconds and warnings."""

    def seconds() -> float:
        start = time.perf_counter()
        model.fit(X, y)
        return time.perf_counter() - start

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = seconds()
    kinds = sorted({warning.category.__name__ for warning in caught})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        took = median(seconds() for _ in range(3)) if first < SHORT else first
    return took, ", ".join(kinds) or "none"


def compare(data: Split) -> tuple[list[Run], float]:
    """Fit every estimator; return the runs and the best objective."""
    runs = []
    for style, label, model in estimators(data.lbfgs_max_iter):
        seconds, warned = timed_fit(model, data.X, data.y)
        proven = (
            model.optimality_gap_ / model.objective_ if style == "softreg" else None
        )
        runs.append(
            Run(
                style,
                label,
                seconds,
                int(np.max(model.n_iter_)),
                objective(model, data.X, data.y),
                proven,
                model.score(data.X_test, data.y_test),
                warned,
            )
        )
    reference = SoftmaxRegression(C=C, tol=1e-10)
    timed_fit(reference, data.X, data.y)
    best = min(run.objective for run in runs)
    return runs, min(best, objective(reference, data.X, data.y))


def print_header() -> None:
    print(
        f"{'':24}{'seconds':>9}{'ratio':>8}{'iterations':>12}{'objective F':>14}"
        f"{'gap':>10}{'proven gap':>12}{'accuracy':>10}  warnings"
    )


def print_runs(data: Split, runs: list[Run], best: float) -> None:
    print(f"{data.name} ({data.shape})")
    for run in runs:
        proven = "-" if run.proven is None else f"{run.proven:.1e}"
        print(
            f"  {run.label:22}{run.seconds:9.3f}{run.seconds / runs[0].seconds:8.1f}"
            f"{run.n_iter:12d}{run.objective:14.9f}{run.objective / best - 1:10.1e}"
            f"{proven:>12}{run.accuracy:10.4f}  {run.warned}",
            flush=True,
        )


def draw(results: list[tuple[Split, list[Run], float]], path: Path) -> None:
    """Draw seconds against relative gap, a panel a data set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, sharey=True)
    for ax, (data, runs, best) in zip(axes.flat, results, strict=True):
        draw_panel(ax, data, runs, best)
    for ax in axes[1]:
        ax.set_xlabel("seconds to fit", fontsize=12)
    for ax in axes[:, 0]:
        ax.set_ylabel("relative gap to the best objective", fontsize=12)
    figure.suptitle("Unscaled data, C = 1, default tolerances, one run", fontsize=14)
    figure.legend(
        handles=legend_handles(), loc="outside lower center", ncols=3, fontsize=11
    )
    figure.savefig(path, dpi=120)


def draw_panel(ax: Any, data: Split, runs: list[Run], best: float) -> None:
    for run in runs:
        colour, marker = STYLE[run.style]
        gap = max(run.objective / best - 1, FLOOR)
        if run.proven is not None:
            proven = max(run.proven, FLOOR)
            ax.plot([run.seconds] * 2, [gap, proven], color=colour, lw=1.5, zorder=2)
            ax.plot(run.seconds, proven, "_", color=colour, ms=16, mew=2.5, zorder=3)
        ax.plot(
            run.seconds,
            gap,
            marker,
            color=colour,
            mfc=colour if run.warned == "none" else "white",
            ms=16 if marker == "*" else 10,
            mew=1 if marker == "*" else 2,
            zorder=3,
        )
    ax.axhline(SoftmaxRegression().tol, color=STYLE["softreg"][0], lw=1, ls=":")
    seconds = [run.seconds for run in runs]
    ax.set(xscale="log", yscale="log", ylim=(FLOOR / 3, 3))
    ax.set_xlim(
        10.0 ** np.floor(np.log10(min(seconds) / 1.5)),
        10.0 ** np.ceil(np.log10(max(seconds) * 1.5)),
    )
    ax.set_yticks(10.0 ** np.arange(-10, 1, 2))
    ax.set_yticklabels(
        [r"$\leq 10^{-10}$", *(f"$10^{{{power}}}$" for power in range(-8, 1, 2))]
    )
    ax.set_title(
        f"{data.name} ({data.shape})\nmore iterations: max_iter={data.lbfgs_max_iter}",
        fontsize=11,
    )
    ax.tick_params(labelsize=11)
    ax.grid(True, color="0.9", zorder=0)


def legend_handles() -> list[Any]:
    from matplotlib.lines import Line2D

    def handle(label: str, **style: Any) -> Line2D:
        return Line2D([], [], ls="none", label=label, **style)

    names = {"softreg": "SoftmaxRegression()"}
    handles = [
        handle(
            names.get(style, f"LogisticRegression, {style}"),
            color=colour,
            marker=marker,
            ms=15 if marker == "*" else 9,
        )
        for style, (colour, marker) in STYLE.items()
    ]
    bar = handle(
        "gap proven by softreg", color=STYLE["softreg"][0], marker="_", ms=15, mew=2.5
    )
    tol = Line2D([], [], color=STYLE["softreg"][0], ls=":", label="tol of softreg")
    hollow = handle(
        "hollow: a warning", color="0.4", marker="o", mfc="white", ms=9, mew=2
    )
    return [*handles, hollow, bar, tol]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default="compare_with_sklearn.png")
    parser.add_argument("--quick", action="store_true", help="less data, fewer rounds")
    parser.add_argument("--threads", type=int, default=1, help="for every estimator")
    options = parser.parse_args(arguments)
    results = []
    print_header()
    with threadpool_limits(options.threads):
        for data in data_sets(options.quick):
            runs, best = compare(data)
            print_runs(data, runs, best)
            results.append((data, runs, best))
    print(
        "ratio: seconds over SoftmaxRegression()'s. gap: (F - best F) / best F.\n"
        "The rows below SoftmaxRegression() are solvers of LogisticRegression. Where\n"
        "lbfgs has fewer than max_iter=10000, that is to keep this script short."
    )
    draw(results, options.output)


if __name__ == "__main__":
    main()
