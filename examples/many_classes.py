"""Many classes: a tree of softmaxes beside the flat one
=====================================================

Classes come in families, as most real ones do. The flat model forms a score for every
class in every pass; the tree only those on the way to a row's class. It is fitted with
the three kinds of trees, and compared with the flat model by time, accuracy, and by
whether the truth is among the five best. Run it, in about half a minute, with::

    python examples/many_classes.py [--classes K]
"""

import argparse
import time

import numpy as np
from sklearn.metrics import top_k_accuracy_score
from sklearn.model_selection import train_test_split

from softreg import HierarchicalSoftmax, SoftmaxRegression


def families(n_classes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return 30 rows a class in 40 columns, the classes gathered around families."""
    n_families = round(n_classes**0.5)
    family = rng.integers(0, n_families, n_classes)
    centres = 2 * rng.normal(size=(n_families, 40))[family]
    centres += rng.normal(size=centres.shape)
    y = np.repeat(np.arange(n_classes), 30)
    return centres[y] + 1.5 * rng.normal(size=(len(y), 40)), y


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--classes", type=int, default=300)
    K = parser.parse_args().classes
    X, y = families(K, np.random.default_rng(0))
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
    kinds = ("cluster", "huffman", "balanced")
    models = {"flat": SoftmaxRegression()}
    models |= {kind: HierarchicalSoftmax(tree=kind) for kind in kinds}
    first = None
    print(f"{'':10}time / flat  accuracy  truth in the best 5")
    for name, model in models.items():
        start = time.perf_counter()
        model.fit(X, y)
        seconds = time.perf_counter() - start
        first = first or seconds
        best = top_k_accuracy_score(y_test, model.predict_proba(X_test), k=5)
        print(
            f"{name:10}{seconds / first:11.2f}{model.score(X_test, y_test):10.3f}"
            f"{best:21.3f}"
        )
    labels, proba = models["cluster"].predict_best(X_test[:1], 3)
    print("most probable of the first test row:", labels[0], proba[0].round(3))


if __name__ == "__main__":
    main()
