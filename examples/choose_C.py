"""Three searches over C: one batch, fifty fits, and scikit-learn's
================================================================

The same ten values of C and five folds on raw digits, by `SoftmaxRegressionCV` (the
folds of a C are one batch), by `GridSearchCV` over `SoftmaxRegression` (fifty fits and
a last one), and by `LogisticRegressionCV` with its default solver. Each prints its
time beside the first, the C it chose, and how often it warned; the score curves and
coefficients go into a picture. Run it, in a minute, with::

    python examples/choose_C.py [FILE.png]
"""

# sphinx_gallery_thumbnail_path = "images/choose_C.png"

import sys
import time
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import GridSearchCV, train_test_split

from softreg import SoftmaxRegression, SoftmaxRegressionCV
from softreg.display import RegularizationPathDisplay

CS = np.logspace(-4, 4, 10)


def main(path: str = "choose_C.png") -> None:
    data = train_test_split(*load_digits(return_X_y=True), random_state=0)
    X, X_test, y, y_test = data
    search = SoftmaxRegressionCV(CS, cv=5)
    grid = GridSearchCV(SoftmaxRegression(), {"C": CS}, cv=5)
    theirs = LogisticRegressionCV(
        Cs=CS, cv=5, use_legacy_attributes=False, l1_ratios=(0.0,), scoring="accuracy"
    )
    first = None
    print(f"{'':22}time ratio  chosen C  test accuracy  warnings")
    for model in (search, grid, theirs):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            start = time.perf_counter()
            model.fit(X, y)
            seconds = time.perf_counter() - start
        first = first or seconds
        C = grid.best_params_["C"] if model is grid else model.C_
        print(
            f"{type(model).__name__:22}{seconds / first:10.1f}{float(C):10.3g}"
            f"{model.score(X_test, y_test):15.4f}{len(caught):10d}"
        )
    display = RegularizationPathDisplay.from_estimator(search)
    scores = display.ax_[0]
    mean = grid.cv_results_["mean_test_score"]
    scores.plot(CS, mean, "x", color="k", label="GridSearchCV")
    mean = theirs.scores_.reshape(5, -1).mean(axis=0)
    scores.plot(CS, mean, ":", color="C1", label="LogisticRegressionCV")
    scores.legend(fontsize="small")
    display.figure_.savefig(path, dpi=120)
    print(f"wrote {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
