"""Reading a fit
=============

How it converged, what it learned, how C was chosen, what is certain.

Three pictures and a table of two fitted models: handwritten digits, whose coefficients
are images, and kinds of wine, whose columns have names and units. Run it, in seconds,
with

    python examples/reading_a_fit.py [--output FOLDER]
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_wine

from softreg import SoftmaxRegression, SoftmaxRegressionCV
from softreg.display import (
    CoefficientDisplay,
    ConvergenceDisplay,
    RegularizationPathDisplay,
)
from softreg.inference import marginal_effects, summary


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path())
    folder = parser.parse_args().output
    X, y = load_digits(return_X_y=True)

    fits = {
        solver: SoftmaxRegression(solver=solver, tol=1e-8).fit(X, y)
        for solver in ("newton-cg", "newton-cholesky", "lbfgs")
    }
    ConvergenceDisplay.from_estimator(fits)
    plt.savefig(folder / "convergence.png", dpi=100)
    CoefficientDisplay.from_estimator(fits["newton-cg"], image_shape=(8, 8))
    plt.savefig(folder / "coefficients.png", dpi=100)

    X, y = load_wine(return_X_y=True, as_frame=True)
    search = SoftmaxRegressionCV(Cs=np.logspace(-4, 4, 17), scoring="neg_log_loss")
    RegularizationPathDisplay.from_estimator(search.fit(X, y))
    plt.savefig(folder / "path.png", dpi=100)

    print(f"Drawn: convergence.png, coefficients.png, path.png in {folder.resolve()}\n")

    columns = ["alcohol", "ash", "magnesium", "hue"]
    model = SoftmaxRegression(C=np.inf, tol=1e-8).fit(X[columns], y)
    print(summary(model, X[columns], y, coding="base").round(3))
    print("\nChange of the probabilities, a unit of each column, on average:")
    print(marginal_effects(model, X[columns]).round(3))


if __name__ == "__main__":
    main()
