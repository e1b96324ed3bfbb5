"""Displays draw what the estimators hold."""

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.exceptions import NotFittedError

from softreg import SoftmaxRegression, SoftmaxRegressionCV
from softreg.display import RegularizationPathDisplay

mpl.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def search():
    return SoftmaxRegressionCV([10.0, 0.001, 0.1, 1000.0], cv=4).fit(
        *load_wine(return_X_y=True)
    )


def lines_of(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def test_path_display_draws_scores_choice_and_coefficients(search):
    display = RegularizationPathDisplay.from_estimator(search)
    scores, coefs = display.ax_
    lines = lines_of(scores)
    order = np.argsort(search.Cs_)
    np.testing.assert_allclose(lines["mean"].get_xdata(), search.Cs_[order])
    mean = search.scores_.mean(axis=0)[order]
    np.testing.assert_allclose(lines["mean"].get_ydata(), mean)
    folds = [line for line in scores.get_lines() if line.get_linewidth() == 0.8]
    assert len(folds) == 4
    (best,) = (line for name, line in lines.items() if name.startswith("best"))
    assert best.get_label() == f"best (chosen): C = {search.C_:.3g}"
    assert best.get_xdata()[0] == search.C_
    (sparing,) = (line for name, line in lines.items() if name.startswith("1-SE"))
    assert sparing.get_xdata()[0] < search.C_
    assert scores.get_ylabel() == "accuracy"
    drawn = [line for line in coefs.get_lines() if line.get_linewidth() == 0.8]
    assert len(drawn) == 3 * 13
    expected = search.coefs_paths_[:, order, 0, 0].mean(axis=0)
    np.testing.assert_allclose(drawn[0].get_ydata(), expected)
    assert display.figure_ is scores.figure


def test_path_display_names_the_1se_choice(search):
    sparing = SoftmaxRegressionCV(**search.get_params()).set_params(selection="1se")
    sparing.fit(*load_wine(return_X_y=True))
    display = RegularizationPathDisplay.from_estimator(sparing)
    assert f"1-SE (chosen): C = {sparing.C_:.3g}" in lines_of(display.ax_[0])


def test_path_display_takes_axes_and_any_search():
    X, y = load_breast_cancer(return_X_y=True)
    one_fold = SoftmaxRegressionCV([0.1, 1], cv=[(np.arange(400), np.arange(400, 569))])
    figure, axes = plt.subplots(1, 2)
    display = RegularizationPathDisplay.from_estimator(one_fold.fit(X, y), ax=axes)
    assert display.figure_ is figure
    assert len([x for x in lines_of(axes[0]) if "C =" in x]) == 1
    many = SoftmaxRegressionCV([0.1, 1], cv=2, scoring="neg_log_loss")
    many.fit(np.tile(X, 4), y)
    display = RegularizationPathDisplay.from_estimator(many)
    assert display.ax_[0].get_ylabel() == "negative log-loss"
    assert display.ax_[1].get_title() == "60 largest of 120 coefficients"


def test_path_display_refuses_what_it_cannot_draw(search):
    with pytest.raises(TypeError, match="must be a SoftmaxRegressionCV, got Softmax"):
        RegularizationPathDisplay.from_estimator(SoftmaxRegression())
    with pytest.raises(NotFittedError):
        RegularizationPathDisplay.from_estimator(SoftmaxRegressionCV())
    with pytest.raises(ValueError, match="ax must be two axes"):
        RegularizationPathDisplay.from_estimator(search, ax=plt.gca())


def test_a_class_that_a_fold_lacks_is_drawn_from_the_others():
    X, y = load_wine(return_X_y=True)
    splits = [(np.arange(0, 178, 2), np.arange(1, 178, 2)), (np.arange(130), [3, 150])]
    model = SoftmaxRegressionCV([0.1, 1], cv=splits).fit(X, y)
    display = RegularizationPathDisplay.from_estimator(model)
    assert np.isfinite(display.coefs).all()


def test_path_display_averages_a_class_over_the_folds_that_have_it():
    X, y = load_wine(return_X_y=True)
    rows = np.arange(178)
    splits = [(rows[y != 2], rows[y == 2]), (rows[::2], rows[1::2])]
    search = SoftmaxRegressionCV([0.1, 1.0], cv=splits, refit=False).fit(X, y)
    display = RegularizationPathDisplay.from_estimator(search)
    mean = display.coefs[display.chosen]
    np.testing.assert_allclose(mean - mean.mean(axis=0), search.coef_, rtol=1e-6)


def test_path_display_shows_a_single_value():
    search = SoftmaxRegressionCV([1.0], cv=3).fit(*load_wine(return_X_y=True))
    scores, coefs = RegularizationPathDisplay.from_estimator(search).ax_
    points = [line for line in scores.get_lines() if line.get_linewidth() == 0.8]
    points += [line for line in coefs.get_lines() if line.get_linewidth() == 0.8]
    assert len(points) == 3 + 3 * 13
    assert all(line.get_marker() == "_" for line in points)


def test_path_display_names_classes_and_axes(search):
    _, axes = plt.subplots(1, 2)
    RegularizationPathDisplay.from_estimator(search, ax=axes)
    assert [ax.get_xlabel() for ax in axes] == ["C", "C"]
    legend = axes[1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["0", "1", "2"]
    display = RegularizationPathDisplay.from_estimator(search)
    assert display.ax_[0].get_xlabel() == ""
