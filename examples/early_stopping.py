"""Early stopping
==============

A callback ends a fit by its score on rows held out.

A third of the labels is wrong and the penalty is weak, so that the optimum fits the
mistakes. The callback sees a fitted estimator after each iteration of L-BFGS, scores
it, and ends the fit once the score has not risen for a while. That is far better than
the optimum of so weak a penalty; to choose C by the same rows, the last line, is better
still. Run it, in seconds, with

    python examples/early_stopping.py
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from softreg import SoftmaxRegression


class EarlyStopping:
    """Ends a fit whose log loss on held-out rows has not fallen for `patience`."""

    def __init__(self, X, y, patience=3):
        self.X, self.y, self.patience = X, y, patience

    def setup(self, estimator, context):
        self.losses, self.best = [], None

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.losses.append(log_loss(self.y, fitted_estimator.predict_proba(self.X)))
        lowest = int(np.argmin(self.losses))
        if lowest == len(self.losses) - 1:
            self.best = fitted_estimator
        return len(self.losses) - 1 - lowest >= self.patience

    def teardown(self, estimator, context):
        pass


def main() -> None:
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, random_state=0)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(y)) < 1 / 3
    y = np.where(wrong, rng.integers(0, 10, len(y)), y)
    X, X_held_out, y, y_held_out = train_test_split(X, y, random_state=0)

    stopping = EarlyStopping(X_held_out, y_held_out)
    weak = SoftmaxRegression(C=1e4, solver="lbfgs")
    whole = SoftmaxRegression(C=1e4).fit(X, y)
    weak.set_callbacks(stopping).fit(X, y)
    fits = [SoftmaxRegression(C=C).fit(X, y) for C in np.logspace(-4, 2, 13)]
    losses = [log_loss(y_held_out, fit.predict_proba(X_held_out)) for fit in fits]
    chosen = fits[int(np.argmin(losses))]
    for name, model in [
        ("to the optimum", whole),
        (f"stopped after {weak.n_iter_}, best", stopping.best),
        (f"C={chosen.C:.2g} chosen", chosen),
    ]:
        print(f"{name:26} test accuracy {model.score(X_test, y_test):.3f}")


if __name__ == "__main__":
    main()
