"""Trees of classes beside the flat model: time and accuracy against their number.

    python benchmarks/hierarchy.py [--data FOLDER] [--output FILE.md]

Fits the K most frequent of the 1055 classes of the `naics` texts (tf-idf of words,
sparse), at the same C, one model after the other in one process, and scores the test
rows of these classes. Wants the shared data sets. Times are ratios to the flat fit of
the same K.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from problems import DATA, folder
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import top_k_accuracy_score

from softreg import HierarchicalSoftmax, SoftmaxRegression

COUNTS = (65, 130, 260, 530, 1055)
C = 30.0
MODELS = {
    "flat": SoftmaxRegression(C=C),
    "cluster": HierarchicalSoftmax(SoftmaxRegression(C=C)),
    "cluster, arity 2": HierarchicalSoftmax(SoftmaxRegression(C=C), arity=2),
    "huffman": HierarchicalSoftmax(SoftmaxRegression(C=C), tree="huffman"),
    "balanced": HierarchicalSoftmax(SoftmaxRegression(C=C), tree="balanced"),
}


def rows(data: Path, n_classes: int) -> tuple[Any, np.ndarray, Any, np.ndarray]:
    """Return X, y of training and test, of the most frequent classes."""
    load = folder(data).load
    texts, y = load("naics")
    test_texts, y_test = load("naics", split="test")
    words = TfidfVectorizer(sublinear_tf=True)
    X, X_test = words.fit_transform(texts), words.transform(test_texts)
    frequent = np.argsort(-np.bincount(y), kind="stable")[:n_classes]
    own, own_test = np.isin(y, frequent), np.isin(y_test, frequent)
    return X[own], y[own], X_test[own_test], y_test[own_test]


def timed(function: Any, *args: Any, **options: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function(*args, **options)
    return time.perf_counter() - start, result


def table(data: Path) -> list[str]:
    """Return the lines of the report."""
    lines = [
        "| K | rows | model | fit, flat = 1 | accuracy | in the best 5 | "
        "predict, flat = 1 | best 5, flat predict = 1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for n_classes in COUNTS:
        X, y, X_test, y_test = rows(data, n_classes)
        first: tuple[float, float] | None = None
        for name, model in MODELS.items():
            fit, _ = timed(model.fit, X, y)
            predict, labels = timed(model.predict, X_test)
            first = first or (fit, predict)
            best5 = ""
            if isinstance(model, HierarchicalSoftmax):
                seconds, _ = timed(model.predict_best, X_test, 5)
                best5 = f"{seconds / first[1]:.2f}"
            near = top_k_accuracy_score(
                y_test, model.predict_proba(X_test), k=5, labels=model.classes_
            )
            lines.append(
                f"| {n_classes} | {X.shape[0]} | {name} | {fit / first[0]:.3f} | "
                f"{np.mean(labels == y_test):.3f} | {near:.3f} | "
                f"{predict / first[1]:.2f} | {best5} |"
            )
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    lines = table(options.data)
    if options.output:
        head = [
            "# Trees of classes",
            "",
            f"`python benchmarks/hierarchy.py`: naics texts, tf-idf, C = {C:g}.",
            "",
        ]
        options.output.write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    main()
