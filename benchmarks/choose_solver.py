"""Time softreg's solvers beside each other: the measurements behind solver="auto".

    python benchmarks/choose_solver.py [--data FOLDER] [--output CSV]

Each solver fits the same data to the same proven relative gap, in turn, three times;
the table shows medians as ratios to the fastest. `--data` is the folder of the shared
data sets (default ../shared/data beside the checkout); without it only built-in
and generated sets run.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from problems import DATA, NotAvailableError, load
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_classification,
)

from softreg import SoftmaxRegression
from softreg.solvers import SOLVERS

REPEATS = 3
MAX_ITER = 300


def problems(data: Path) -> Iterator[tuple[str, Any, np.ndarray]]:
    """Yield name, X and y."""
    for built_in in (load_iris, load_wine, load_breast_cancer, load_digits):
        yield built_in.__name__.removeprefix("load_"), *built_in(return_X_y=True)
    rng = np.random.default_rng(0)
    for n, d, n_classes in (
        (500, 5, 2), (2000, 50, 2), (20_000, 50, 2), (1000, 10, 5), (20_000, 10, 5),
        (1000, 20, 10), (5000, 30, 10), (5000, 100, 30),
    ):  # fmt: skip
        X, y = make_classification(
            n, d, n_informative=min(d, 8), n_redundant=0, n_classes=n_classes,
            n_clusters_per_class=1, flip_y=0.2, random_state=0,
        )  # fmt: skip
        yield f"{n} x {d} x {n_classes}", X * 10.0 ** rng.uniform(-2, 2, d), y
    for name in ("letter", "covtype20k", "shuttle", "isolet", "khan", "clinc150"):
        try:
            yield name, *load(name, data)
        except NotAvailableError:
            continue


def fit(solver: str, X: Any, y: np.ndarray) -> tuple[float, SoftmaxRegression]:
    """Return the seconds and the model of one fit."""
    model = SoftmaxRegression(solver=solver, max_iter=MAX_ITER)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    return time.perf_counter() - start, model


def rows(data: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each problem and solver."""
    for name, X, y in problems(data):
        n_classes = len(np.unique(y))
        side = (1 if n_classes == 2 else n_classes) * (X.shape[1] + 1)
        solvers = ["auto", *sorted(SOLVERS)]
        if side > 3000:
            solvers.remove("newton-cholesky")
        seconds: dict[str, list[float]] = {solver: [] for solver in solvers}
        models = {}
        for _ in range(REPEATS):
            for solver in solvers:
                spent, models[solver] = fit(solver, X, y)
                seconds[solver].append(spent)
        fastest = min(median(s) for s in seconds.values())
        for solver in solvers:
            model = models[solver]
            yield {
                "problem": name,
                "n": X.shape[0],
                "K (d + 1)": side,
                "solver": solver,
                "ran": model.solver_,
                "iterations": model.n_iter_,
                "passes": round(float(model.history_["passes"][-1])),
                "proven gap": f"{model.optimality_gap_ / model.objective_:.1e}",
                "ratio": f"{median(seconds[solver]) / fastest:.2f}",
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    table = []
    for row in rows(options.data):
        if not table:
            print(*(f"{column:>16}" for column in row))
        print(*(f"{value!s:>16}" for value in row.values()), flush=True)
        table.append(row)
    if options.output:
        with options.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, table[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)


if __name__ == "__main__":
    main()
