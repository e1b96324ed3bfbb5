"""scikit-learn's common checks: none expected to fail, none skipped."""

import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import (
    check_class_weight_classifiers,
    estimator_checks_generator,
    parametrize_with_checks,
)

from softreg import (
    HierarchicalSoftmax,
    LargeMarginSoftmaxRegression,
    RobustSoftmaxRegression,
    SoftmaxRegression,
    SoftmaxRegressionCV,
    solvers,
)

NO_INTERCEPT = SoftmaxRegression(fit_intercept=False)


@pytest.fixture(autouse=True)
def _array_api(monkeypatch):
    """Without this variable the check of array-API input skips itself."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


@parametrize_with_checks(
    [
        SoftmaxRegression(),
        SoftmaxRegression(solver="lbfgs"),
        SoftmaxRegression(solver="newton-cg"),
        SoftmaxRegression(solver="newton-cholesky"),
        SoftmaxRegression(solver=solvers.LBFGS()),
        SoftmaxRegression(penalize_intercept=True),
        SoftmaxRegression(weight_decay=1e-2),
        SoftmaxRegression(class_weight="balanced"),
        SoftmaxRegression(n_jobs=1),
        SoftmaxRegressionCV(cv=3),
        SoftmaxRegressionCV(Cs=[0.1, 1], cv=2, scoring="neg_log_loss", refit=False),
        HierarchicalSoftmax(),
        HierarchicalSoftmax(LogisticRegression(), tree="huffman"),
        HierarchicalSoftmax(SoftmaxRegression(class_weight="balanced")),
        LargeMarginSoftmaxRegression(),
        LargeMarginSoftmaxRegression(m=1),
        RobustSoftmaxRegression(),
        RobustSoftmaxRegression(SoftmaxRegression(weight_decay=1e-2), loss="sce"),
    ]
)
def test_scikit_learn_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=check.func.__name__)
        for _, check in estimator_checks_generator(NO_INTERCEPT)
        if check.func is not check_class_weight_classifiers
    ],
)
def test_scikit_learn_check_without_intercept(check):
    check(clone(NO_INTERCEPT))


def test_class_weight_check_asks_for_an_intercept():
    """Why it is left out above: no linear model through the origin passes it."""
    with pytest.raises(AssertionError):
        check_class_weight_classifiers(
            "LogisticRegression", LogisticRegression(fit_intercept=False)
        )
