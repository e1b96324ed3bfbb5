"""Displays draw what the estimators hold."""

import copy
import sys
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from softreg import (
    HierarchicalSoftmax,
    RobustSoftmaxRegression,
    SoftmaxRegression,
    SoftmaxRegressionCV,
)
from softreg._status import status
from softreg.display import (
    CoefficientDisplay,
    ConvergenceDisplay,
    RegularizationPathDisplay,
)

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


def test_matplotlib_is_asked_for_by_its_extra(search, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for display in (
        CoefficientDisplay,
        ConvergenceDisplay,
        RegularizationPathDisplay,
    ):
        with pytest.raises(ImportError, match=r'install "softreg\[plot\]"'):
            display.from_estimator(search)


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


def test_path_display_finds_the_search_in_a_pipeline(wine):
    search = SoftmaxRegressionCV([0.1, 1.0], cv=2)
    pipeline = make_pipeline(StandardScaler(), search)
    with pytest.raises(NotFittedError):
        RegularizationPathDisplay.from_estimator(pipeline)
    display = RegularizationPathDisplay.from_estimator(pipeline.fit(*wine))
    np.testing.assert_array_equal(display.scores, pipeline[-1].scores_)


def test_path_display_refuses_what_it_cannot_draw(search):
    with pytest.raises(TypeError, match="must be a SoftmaxRegressionCV, got Softmax"):
        RegularizationPathDisplay.from_estimator(SoftmaxRegression())
    with pytest.raises(NotFittedError):
        RegularizationPathDisplay.from_estimator(SoftmaxRegressionCV())
    with pytest.raises(ValueError, match=r"ax must be 2 axes, .* got 3"):
        RegularizationPathDisplay.from_estimator(search, ax=plt.subplots(3)[1])


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


def test_path_display_leaves_out_what_a_callback_did(search):
    stopped = copy.copy(search)
    stopped.scores_ = search.scores_.copy()
    left_out = int(np.flatnonzero(search.Cs_ != search.C_)[-1])
    stopped.scores_[1:, left_out] = np.nan
    display = RegularizationPathDisplay.from_estimator(stopped)
    done = np.delete(search.Cs_, left_out)
    np.testing.assert_array_equal(display.Cs, np.sort(done))
    assert display.coefs.shape[0] == len(done)
    assert np.isfinite(display.scores).all()


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


@pytest.fixture(scope="module")
def wine():
    data = load_wine(as_frame=True)
    return data.data, data.target_names[data.target]


@pytest.fixture(scope="module")
def fits(wine):
    solvers = ["lbfgs", "newton-cg", "newton-cholesky"]
    return {s: SoftmaxRegression(solver=s, tol=1e-6).fit(*wine) for s in solvers}


def names_in(panel):
    return [label.get_text() for label in panel.get_yticklabels()]


@pytest.mark.parametrize("x", ["passes", "seconds"])
def test_convergence_display_draws_histories_side_by_side(fits, x):
    display = ConvergenceDisplay.from_estimator(fits, x=x)
    above, gaps = (lines_of(ax) for ax in display.ax_)
    best = min(fit.history_["objective"].min() for fit in fits.values())
    for name, fit in fits.items():
        np.testing.assert_array_equal(gaps[name].get_xdata(), fit.history_[x])
        np.testing.assert_array_equal(
            gaps[name].get_ydata(), fit.history_["optimality_gap"]
        )
        excess = fit.history_["objective"] - best
        far = excess > 1e-12
        np.testing.assert_allclose(above[name].get_ydata()[far], excess[far])
        assert display.best[name] == best
    assert [ax.get_yscale() for ax in display.ax_] == ["log", "log"]
    assert display.ax_[1].get_xlabel() == {"passes": "passes over X"}.get(x, x)
    targets = [fit.tol * fit.objective_ for fit in fits.values()]
    assert gaps["tol"].get_ydata()[0] == min(targets)
    legend = display.ax_[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == list(fits)
    assert display.figure_ is display.ax_[0].figure
    display.figure_.draw_without_rendering()


def test_convergence_display_names_lists_pipelines_and_searches(wine, fits):
    model = fits["newton-cg"]
    pipeline = make_pipeline(StandardScaler(), SoftmaxRegression()).fit(*wine)
    grid = GridSearchCV(SoftmaxRegression(), {"C": [0.1, 1]}, cv=2).fit(*wine)
    search = SoftmaxRegressionCV([0.1, 1], cv=2).fit(*wine)
    display = ConvergenceDisplay.from_estimator([model, model, pipeline, grid, search])
    ours = pipeline[-1].solver_
    names = ["newton-cg", "newton-cg (2)", ours, f"{ours} (2)", f"{ours} (3)"]
    assert list(display.histories) == names
    alone = ConvergenceDisplay.from_estimator(model)
    assert list(alone.histories) == ["newton-cg"]


def test_convergence_display_keeps_problems_apart(wine):
    fits = {str(C): SoftmaxRegression(C=C).fit(*wine) for C in (0.01, 1.0)}
    display = ConvergenceDisplay.from_estimator(fits)
    for name, fit in fits.items():
        assert display.best[name] == fit.history_["objective"].min()
    assert len([x for x in display.ax_[1].get_lines() if x.get_linestyle() == ":"]) == 2


def test_convergence_display_says_where_nothing_is_proven(wine):
    fit = SoftmaxRegression(C=np.inf, label_smoothing=0.1).fit(*wine)
    display = ConvergenceDisplay.from_estimator(fit)
    (text,) = display.ax_[1].texts
    assert "no gap is proven" in text.get_text()
    display.figure_.draw_without_rendering()


def test_convergence_display_refuses_what_it_cannot_draw(wine, fits):
    fit = fits["lbfgs"]
    with pytest.raises(ValueError, match=r"x must be one of .* got 'time'"):
        ConvergenceDisplay.from_estimator(fit, x="time")
    with pytest.raises(NotFittedError):
        ConvergenceDisplay.from_estimator(SoftmaxRegression())
    with pytest.raises(ValueError, match="got none"):
        ConvergenceDisplay.from_estimator([])
    online = SoftmaxRegression().partial_fit(*wine, classes=np.unique(wine[1]))
    with pytest.raises(ValueError, match="must have a history_, got 'minibatch'"):
        ConvergenceDisplay.from_estimator(online)
    with pytest.raises(ValueError, match=r"ax must be 2 axes, .* got 3"):
        ConvergenceDisplay.from_estimator(fit, ax=plt.subplots(3)[1])
    with pytest.raises(ValueError, match="not in a grid"):
        ConvergenceDisplay.from_estimator(fit, ax=plt.figure().add_axes((0, 0, 1, 1)))


def test_one_axes_is_shared_by_the_panels(wine, fits):
    figure, axes = plt.subplots(1, 2, layout="constrained")
    display = ConvergenceDisplay.from_estimator(fits, ax=axes[0])
    assert display.ax_[0].get_shared_x_axes().joined(*display.ax_)
    assert display.ax_[0].get_xlabel() == ""
    bars = CoefficientDisplay.from_estimator(fits["lbfgs"], ax=axes[1])
    assert bars.figure_ is display.figure_ is figure
    assert len(figure.axes) == 2 + 2 + 3
    assert not axes[0].axison


def test_bars_are_the_largest_coefficients_by_name(wine):
    model = make_pipeline(StandardScaler(), SoftmaxRegression()).fit(*wine)
    display = CoefficientDisplay.from_estimator(model, top=4)
    coef, names = model[-1].coef_, wine[0].columns
    assert [ax.get_title() for ax in display.ax_] == list(model.classes_)
    for panel, row in zip(display.ax_, coef, strict=True):
        largest = np.argsort(-np.abs(row))[:4]
        widths = [bar.get_width() for bar in panel.patches]
        np.testing.assert_allclose(widths, row[largest])
        assert names_in(panel) == list(names[largest])
        colours = {bar.get_width() > 0: bar.get_facecolor() for bar in panel.patches}
        assert len(set(colours.values())) == len(colours)
        assert panel.get_xlim() == display.ax_[0].get_xlim()
    display.figure_.draw_without_rendering()


def test_names_come_from_the_caller_the_pipeline_the_frame_or_numbers(wine):
    X, y = wine
    on_frame = SoftmaxRegression().fit(X, y)
    shown = CoefficientDisplay.from_estimator(on_frame)
    assert set(names_in(shown.ax_[0])) <= set(X.columns)
    given = [f"given {i}" for i in range(13)]
    shown = CoefficientDisplay.from_estimator(on_frame, feature_names=given)
    assert set(names_in(shown.ax_[0])) <= set(given)
    nameless = make_pipeline(FunctionTransformer(np.asarray), SoftmaxRegression())
    shown = CoefficientDisplay.from_estimator(nameless.fit(X, y), top=13)
    assert set(names_in(shown.ax_[0])) == {f"x{i}" for i in range(13)}
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SoftmaxRegression()),
        {"softmaxregression__C": [0.1, 1]},
        cv=2,
    )
    shown = CoefficientDisplay.from_estimator(search.fit(X, y))
    assert set(names_in(shown.ax_[0])) <= set(X.columns)


def test_words_are_shown_as_they_are():
    texts = ["cost $5 or $6", "free of_any cost", "a" * 60 + " so long"] * 2
    model = make_pipeline(CountVectorizer(token_pattern=r"\S+"), SoftmaxRegression())
    model.fit(texts, ["$a$", "b", "c"] * 2)
    display = CoefficientDisplay.from_estimator(model, top=20)
    assert "$5" in names_in(display.ax_[0])
    assert "a" * 27 + "…" in names_in(display.ax_[2])
    assert not display.ax_[0].title.get_parse_math()
    display.figure_.draw_without_rendering()


def test_two_classes_have_one_panel_and_zeros_no_bar():
    X, y = load_breast_cancer(return_X_y=True)
    model = SoftmaxRegression().fit(np.column_stack([X[:, :3], 0 * X[:, 0]]), y)
    display = CoefficientDisplay.from_estimator(model)
    (panel,) = display.ax_
    assert panel.get_title() == "1 against 0"
    assert sorted(names_in(panel)) == ["x0", "x1", "x2"]
    theirs = LogisticRegression(max_iter=10_000).fit(X[:, :3], y)
    ax = plt.gca()
    assert CoefficientDisplay.from_estimator(theirs, ax=ax).ax_[0] is ax


@pytest.mark.parametrize("sparse", [False, True])
def test_images_are_the_coefficients_on_one_scale(sparse):
    model = SoftmaxRegression(C=0.01).fit(*load_digits(return_X_y=True))
    coef = model.coef_
    model = model.sparsify() if sparse else model
    display = CoefficientDisplay.from_estimator(model, image_shape=(8, 8))
    assert [ax.get_title() for ax in display.ax_] == [str(i) for i in range(10)]
    largest = np.abs(coef).max()
    for panel, row in zip(display.ax_, coef, strict=True):
        (image,) = panel.images
        np.testing.assert_array_equal(image.get_array(), row.reshape(8, 8))
        assert image.get_clim() == (-largest, largest)
    assert display.colorbar_.ax.get_ylabel() == "coefficient"
    display.figure_.draw_without_rendering()


def test_coefficient_display_refuses_what_it_cannot_draw(wine, fits):
    fit = fits["lbfgs"]
    draw = CoefficientDisplay.from_estimator
    with pytest.raises(NotFittedError):
        draw(SoftmaxRegression())
    with pytest.raises(TypeError, match=r"coef_ and classes_, got a Hierarchical"):
        draw(HierarchicalSoftmax().fit(*wine))
    for shape in [(3, 4), (13,), 13, (13.0, 1), (-13, -1)]:
        with pytest.raises(ValueError, match=r"height \* width = 13"):
            draw(fit, image_shape=shape)
    for top in [0, 2.5, True]:
        with pytest.raises(ValueError, match="top must be an integer"):
            draw(fit, top=top)
    with pytest.raises(ValueError, match=r"13 names, .* got shape \(2,\)"):
        draw(fit, feature_names=["a", "b"])
    with pytest.raises(ValueError, match=r"ax must be 3 axes, .* got 2"):
        draw(fit, ax=plt.subplots(2)[1])
    with pytest.raises(ValueError, match="at most 100 classes"):
        CoefficientDisplay(coef=np.ones((101, 2)), classes=range(101)).plot()
    with pytest.raises(ValueError, match="classes must be 3 labels"):
        CoefficientDisplay(coef=np.ones((3, 2)), classes=range(4)).plot()


class Balanced(HTMLParser):
    """Refuses tags that do not close in order."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in {"br", "input", "img", "meta"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def text_of(estimator):
    parser = Balanced()
    parser.feed(estimator._repr_html_())
    parser.close()
    assert parser.open == []
    return "".join(parser.text)


def test_html_says_how_the_fit_ended(wine, fits):
    fit = fits["newton-cg"]
    gap = fit.optimality_gap_ / fit.objective_
    said = (
        f"converged: newton-cg, {fit.n_iter_} iterations, "
        f"proven relative gap {gap:.1e} <= tol 1.0e-06"
    )
    assert status(fit) == said
    assert said in text_of(fit)
    assert said in fit._repr_mimebundle_()["text/html"].replace("<b>", "").replace(
        "</b>", ""
    ).replace("&lt;", "<")
    assert fit._repr_html_().count("<polyline") == 1
    assert "softreg-status" not in SoftmaxRegression()._repr_html_()
    pipeline = make_pipeline(StandardScaler(), SoftmaxRegression()).fit(*wine)
    grid = GridSearchCV(pipeline, {"softmaxregression__C": [0.1, 1]}, cv=2).fit(*wine)
    for around in (pipeline, grid):
        assert text_of(around).count("converged: newton") == 1


def test_html_says_what_an_early_end_means(wine):
    early = SoftmaxRegression(solver="lbfgs", max_iter=5)
    with pytest.warns(ConvergenceWarning):
        early.fit(*wine)
    assert early.optimality_gap_ > early.objective_
    assert status(early).startswith("not converged: lbfgs, 5 iterations, ")
    assert "Nothing is proven yet" in status(early)
    early.optimality_gap_ = 0.02 * early.objective_
    assert "at most 2.0e-02 of itself above its minimum" in status(early)
    assert "increase max_iter" in text_of(early)


def test_html_of_the_other_estimators_says_what_they_know(wine):
    X, y = wine
    online = SoftmaxRegression().partial_fit(X, y, classes=np.unique(y))
    assert status(online).startswith("not proven: minibatch, ")
    search = SoftmaxRegressionCV([0.1, 1], cv=3).fit(X, y)
    assert status(search).endswith("6 of 6 fits of the folds proven to tol")
    search.set_params(refit=False).fit(X, y)
    assert "of the mean of the folds' coefficients" in status(search)
    free = SoftmaxRegression(C=np.inf, label_smoothing=0.1).fit(X, y)
    assert status(free).endswith("no gap is proven without a penalty")
    tree = HierarchicalSoftmax().fit(X, y)
    assert status(tree).startswith("converged: 2 nodes, proven relative gap")
    robust = RobustSoftmaxRegression().fit(X, y)
    assert status(robust) == f"converged: {robust.n_iter_} rounds"
    for model in (online, search, free, tree, robust):
        assert status(model) in text_of(model)
