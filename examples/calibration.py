"""Probabilities one can bet on: a temperature chosen after the fit, or before
===========================================================================

A fit with little penalty is too sure of itself. `CalibratedClassifierCV` with
`method="temperature"` divides its scores by one number, chosen on held-out rows: the
log-loss falls, and confidence comes down to accuracy. `temperature=` in training is
something else, a change of units: training at (C, T) gives the probabilities of
(C / T^2, 1), so it can do no more than another C. Run it, in seconds, with::

    python examples/calibration.py
"""

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from softreg import HierarchicalSoftmax, SoftmaxRegression

C, T = 1e5, 10.0
PLAIN = SoftmaxRegression(C=C)
TREE = HierarchicalSoftmax(PLAIN)
MODELS = {
    f"C = {C:g}": PLAIN,
    "  calibrated by temperature": CalibratedClassifierCV(PLAIN, method="temperature"),
    f"C = {C:g}, trained at T = {T:g}": SoftmaxRegression(C=C, temperature=T),
    f"C = {C / T**2:g}": SoftmaxRegression(C=C / T**2),
    f"tree of classes, C = {C:g}": TREE,
    "  calibrated by temperature ": CalibratedClassifierCV(TREE, method="temperature"),
}


def main() -> None:
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, test_size=0.7, random_state=0)
    print(f"{'':32}accuracy  mean confidence  log-loss")
    for name, model in MODELS.items():
        proba = model.fit(X, y).predict_proba(X_test)
        accuracy = np.mean(proba.argmax(axis=1) == y_test)
        print(
            f"{name:32}{accuracy:8.3f}{proba.max(axis=1).mean():17.3f}"
            f"{log_loss(y_test, proba):10.3f}"
        )


if __name__ == "__main__":
    main()
