"""Wrong labels: what they cost, and what helps
============================================

A share of the training labels is replaced by wrong ones. Each model chooses C by
cross-validation on these, and is scored on clean ones. The suspects are the rows of
least weight in the robust fit. Run it, in a minute, with::

    python examples/label_noise.py [--output PATH]
"""

import argparse

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split

from softreg import RobustSoftmaxRegression, SoftmaxRegression

SHARES = (0.0, 0.2, 0.4, 0.6)
CS = [0.01, 0.1, 1.0]
SEARCHES = {
    "softmax": GridSearchCV(SoftmaxRegression(), {"C": CS}),
    "label smoothing": GridSearchCV(SoftmaxRegression(label_smoothing=0.2), {"C": CS}),
    "robust (gce)": GridSearchCV(
        RobustSoftmaxRegression(SoftmaxRegression()), {"estimator__C": CS}
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="label_noise.png")
    output = parser.parse_args().output
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, random_state=0)
    rng = np.random.default_rng(0)
    order, other = rng.permutation(len(y)), (y + rng.integers(1, 10, len(y))) % 10
    scores = {name: [] for name in SEARCHES}
    for share in SHARES:
        wrong = order < share * len(y)
        noisy = np.where(wrong, other, y)
        for name, search in SEARCHES.items():
            search.fit(X, noisy)
            scores[name].append(search.score(X_test, y_test))
        row = "  ".join(f"{name} {own[-1]:.3f}" for name, own in scores.items())
        print(f"{share:4.0%} wrong: {row}", end="")
        order_of_trust = np.argsort(search.best_estimator_.row_weights_)
        suspects = order_of_trust[: max(wrong.sum(), 1)]
        print(f"; of as many suspects {wrong[suspects].mean():.0%} are")
    _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    ax.plot(SHARES, np.transpose(list(scores.values())), "o-", label=list(scores))
    ax.set(xlabel="share of wrong labels in training", ylabel="accuracy, clean labels")
    ax.legend()
    plt.savefig(output, dpi=120)


if __name__ == "__main__":
    main()
