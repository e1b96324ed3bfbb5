"""Time the default fit with and without two preconditioners, side by side.

    python benchmarks/preconditioners.py [--data FOLDER]

The measurements behind `gram_pays` (the Gram matrix of the columns or its diagonal) and
`n_axes` (one block for all classes, with or without the whole Hessian along the leading
axes of the data). Wants the shared data sets; prints seconds, passes, and their ratio.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from softreg import SoftmaxRegression

ROOT = Path(__file__).resolve().parents[1]


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
    print(name)
    for label, seconds, m in (("default", ours, model), (what, other, changed)):
        gap = m.optimality_gap_ / m.objective_
        print(
            f"  {label:24} {seconds:7.1f} s  {seconds / ours:5.2f}  "
            f"{m.history_['passes'][-1]:5.0f} passes  proven gap {gap:.0e}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    data = parser.parse_args().data
    if not (data / "load.py").exists():
        sys.exit(f"No shared data sets in {data}. Name their folder with --data.")
    sys.path.insert(0, str(data))
    from load import load

    texts, y = load("clinc150")
    X = TfidfVectorizer(sublinear_tf=True).fit_transform(texts)
    name = "clinc150 tf-idf, 15000 x 5026, 150 classes, sparse"
    compare(
        name, X, y, "Gram matrix", "softreg._problem.gram_pays", lambda *shape: True
    )
    images, y = load("fashion_mnist")
    name = "Fashion-MNIST / 255, 60000 x 784, 10 classes, float64"
    no_axes = "softreg._problem.n_axes"
    compare(name, images / 255, y, "without axes", no_axes, lambda *shape: 0)
    X, y = load("isolet")
    name = f"isolet, {X.shape[0]} x {X.shape[1]}, {len(set(y))} classes"
    compare(name, X, y, "without axes", no_axes, lambda *shape: 0)


if __name__ == "__main__":
    main()
