"""Search for C on raw columns: no scaler, no max_iter, no warnings
================================================================

`SoftmaxRegression` solves each fit to a proven optimum in whatever units the columns
come, so a scaler is a choice of penalty, not a need of the solver. The search here
tries every C with and without one, on the wine data (columns from 0.1 to 1700), and
the same search runs with `LogisticRegression` beside it. Run it, in seconds, with::

    python examples/grid_search.py
"""

import time
import warnings
from typing import Any

import numpy as np
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from softreg import SoftmaxRegression


def search(model: Any, scaler: Any, X: Any, y: Any) -> tuple[GridSearchCV, float, int]:
    """Return the fitted search, its seconds and its number of ConvergenceWarnings."""
    pipeline = Pipeline([("scale", scaler), ("model", model)])
    grid = GridSearchCV(pipeline, {"model__C": np.logspace(-3, 3, 13)}, cv=5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        grid.fit(X, y)
        seconds = time.perf_counter() - start
    return grid, seconds, sum(w.category is ConvergenceWarning for w in caught)


def main() -> None:
    X, y = load_wine(return_X_y=True, as_frame=True)
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
    print(f"{'':38}best C  CV accuracy  test accuracy  time ratio  warnings")
    for scaler in ("passthrough", StandardScaler()):
        first = None
        for model in (SoftmaxRegression(), LogisticRegression()):
            with threadpool_limits(1):  # threads would only blur so short a timing
                grid, seconds, n_warnings = search(model, scaler, X, y)
            first = first or seconds
            name = f"{model}, {'raw' if scaler == 'passthrough' else 'scaled'}"
            print(
                f"{name:36}{grid.best_params_['model__C']:8.3g}{grid.best_score_:13.4f}"
                f"{grid.score(X_test, y_test):15.4f}{seconds / first:12.1f}"
                f"{n_warnings:10d}"
            )


if __name__ == "__main__":
    main()
