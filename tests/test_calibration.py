"""scikit-learn's temperature scaling on every estimator."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from softreg import (
    HierarchicalSoftmax,
    LargeMarginSoftmaxRegression,
    RobustSoftmaxRegression,
    SoftmaxRegression,
)

ESTIMATORS = [
    SoftmaxRegression(C=1e4),
    SoftmaxRegression(C=1e4, temperature=3.0),
    SoftmaxRegression(loss="entmax15"),
    pytest.param(SoftmaxRegression(loss="topk-2", tol=1e-2), marks=pytest.mark.slow),
    HierarchicalSoftmax(SoftmaxRegression(C=1e4)),
    RobustSoftmaxRegression(SoftmaxRegression(C=10), tol=1e-2),
    LargeMarginSoftmaxRegression(C=0.1),
]


@pytest.mark.parametrize("load", [load_digits, load_breast_cancer])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_temperature_scaling(estimator, load):
    X, y = load(return_X_y=True)
    X, X_test, y, y_test = train_test_split(
        X / np.maximum(X.std(axis=0), 1e-9), y, test_size=0.5, random_state=0
    )
    calibrated = CalibratedClassifierCV(estimator, method="temperature", cv=3)
    proba = calibrated.fit(X, y).predict_proba(X_test)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
    plain = estimator.fit(X, y).predict_proba(X_test)
    assert log_loss(y_test, proba) <= log_loss(y_test, plain) + 0.02
