"""Margins: mistakes that cost more get more room
==============================================

Here a mistaken digit costs what it is off by, as on an invoice. A margin matrix with
that cost in training asks for the more distance between two classes the worse it is to
take one for the other. Compared by the mean cost of a test prediction: no margin, the
same margin for all mistakes, the cost matrix (both convex and proven), and the angular
margin of L-Softmax, which is neither. Run it, in seconds, with::

    python examples/margins.py
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import RepeatedStratifiedKFold

from softreg import LargeMarginSoftmaxRegression, SoftmaxRegression

COST = np.abs(np.subtract.outer(np.arange(10.0), np.arange(10.0)))
MODELS = {
    "no margin": SoftmaxRegression(C=0.1),
    "margin of 3": SoftmaxRegression(C=0.1, margin=3.0),
    "margin of the cost": SoftmaxRegression(C=0.1, margin=COST),
    "angular, m = 2": LargeMarginSoftmaxRegression(m=2, C=0.1),
}


def main() -> None:
    X, y = load_digits(return_X_y=True)
    X = X / 16
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0)
    print(f"{'':20}accuracy  mean cost  cost of a mistake  proven gap")
    for name, model in MODELS.items():
        accuracy, cost, gap = [], [], []
        for train, test in folds.split(X, y):
            model.fit(X[train], y[train])
            off = COST[y[test], model.predict(X[test])]
            accuracy.append(np.mean(off == 0))
            cost.append(off.mean())
            gap.append(model.optimality_gap_ / model.objective_)
        mistake = np.mean(cost) / (1 - np.mean(accuracy))
        print(
            f"{name:20}{np.mean(accuracy):8.3f}{np.mean(cost):11.3f}{mistake:19.2f}"
            f"{max(gap):12.0e}"
        )


if __name__ == "__main__":
    main()
