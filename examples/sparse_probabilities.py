"""Probabilities that are exactly zero: from softmax to sparsemax
==============================================================

Every loss fits the same digits; the table shows how many classes each still considers
possible, and what that does to the test score. The figure shows the probabilities of
one hard test image. Tune sparse losses by the Brier score: one certain mistake makes
the log-loss infinite. Run it, in seconds, with::

    python examples/sparse_probabilities.py [--output PATH]
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import brier_score_loss
from sklearn.model_selection import train_test_split

from softreg import SoftmaxRegression

LOSSES = ("softmax", 1.25, "entmax15", "sparsemax", "topk-3")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="sparse_probabilities.png")
    output = parser.parse_args().output
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, random_state=0)

    print(f"{'loss':10}accuracy  Brier score  classes possible  truth impossible")
    probabilities = {}
    for loss in LOSSES:
        model = SoftmaxRegression(loss=loss, C=0.1).fit(X, y)
        proba = probabilities[loss] = model.predict_proba(X_test)
        possible = (proba > 0).sum(axis=1).mean()
        impossible = (proba[np.arange(len(y_test)), y_test] == 0).mean()
        print(
            f"{loss!s:10}{model.score(X_test, y_test):8.3f}"
            f"{brier_score_loss(y_test, proba):13.3f}{possible:18.1f}{impossible:18.1%}"
        )

    hardest = probabilities["softmax"].max(axis=1).argmin()
    _, axes = plt.subplots(1, len(LOSSES) + 1, figsize=(12, 2.4), layout="constrained")
    axes[0].imshow(X_test[hardest].reshape(8, 8), cmap="gray_r")
    axes[0].set(title=f"a {y_test[hardest]}", xticks=[], yticks=[])
    for ax, loss in zip(axes[1:], LOSSES, strict=True):
        ax.bar(range(10), probabilities[loss][hardest])
        ax.set(title=loss, ylim=(0, 0.6), xticks=range(10), yticks=[0, 0.5])
    plt.savefig(output, dpi=120)


if __name__ == "__main__":
    main()
