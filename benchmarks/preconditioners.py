"""Time the default fit with and without two preconditioners, side by side.

    python benchmarks/preconditioners.py [--data FOLDER]

The measurements behind `gram_pays` (the Gram matrix of the columns or its diagonal) and
`spanned_columns` (one block for all classes, with or without the whole Hessian along
the leading axes of the data). Wants the shared data sets; prints seconds, passes, and
their ratio.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from problems import DATA, load

from softreg import SoftmaxRegression


def fit(X: Any, y: np.ndarray) -> tuple[float, SoftmaxRegression]:
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SoftmaxRegression().fit(X, y)
    return time.perf_counter() - start, model


def compare(name: str, X: Any, y: np.ndarray, what: str, target: str, to: Any) -> None:
    """Print the default fit beside one with something of softreg replaced."""
    ours, model = fit(X, y)
    with patch(target, to):
        other, changed = fit(X, y)
    print(f"{name}, {X.shape[0]} x {X.shape[1]}, {len(set(y))} classes")
    for label, seconds, m in (("default", ours, model), (what, other, changed)):
        gap = m.optimality_gap_ / m.objective_
        print(
            f"  {label:24} {seconds:7.1f} s  {seconds / ours:5.2f}  "
            f"{m.history_['passes'][-1]:5.0f} passes  proven gap {gap:.0e}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    data = parser.parse_args().data
    X, y = load("clinc150", data)
    every = "softreg._problem.gram_pays"
    compare("clinc150 tf-idf", X, y, "Gram matrix", every, lambda *shape: True)
    for problem in ("fashion_mnist", "isolet"):
        X, y = load(problem, data)
        target, largest = (
            f"softreg._curvature.{name}" for name in ("spanned_columns", "MAX_SIDE")
        )
        compare(problem, X, y, "without axes", target, lambda *shape: 0)
        for side in (500, 1500):
            compare(problem, X, y, f"axes to a side of {side}", largest, side)


if __name__ == "__main__":
    main()
