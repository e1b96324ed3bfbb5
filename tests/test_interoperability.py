"""Saving, frames, inspection and scikit-learn's estimators of estimators."""

import copy
import io
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFE, RFECV, SelectFromModel
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import ClassifierChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale

import softreg
from softreg import (
    HierarchicalSoftmax,
    LargeMarginSoftmaxRegression,
    RobustSoftmaxRegression,
    SoftmaxRegression,
    SoftmaxRegressionCV,
    solvers,
)

PAGE = Path(__file__).resolve().parents[1] / "docs" / "interoperability.md"
X, Y = load_wine(return_X_y=True)
X = scale(X)
NAMES = load_wine().feature_names
WORDS = np.array(["Barolo", "Grignolino", "Barbera"])[Y]
TWO = tuple(part[::3] for part in load_breast_cancer(return_X_y=True))
TWO = scale(TWO[0]), TWO[1]
MANY = np.column_stack([Y == 0, Y == 1, X[:, 0] > 0]).astype(int)  # two labels a row
ESTIMATORS = {
    "softmax": SoftmaxRegression(solver=solvers.NewtonCG()),
    "cv": SoftmaxRegressionCV(Cs=[0.1, 1], cv=3),
    "tree": HierarchicalSoftmax(),
    "robust": RobustSoftmaxRegression(SoftmaxRegression(loss="entmax15")),
    "margin": LargeMarginSoftmaxRegression(mu_min=30),
}
EVERY = pytest.mark.parametrize("name", ESTIMATORS)


def fitted(name, X=X, y=WORDS):
    return clone(ESTIMATORS[name]).fit(X, y)


def test_these_are_all_estimators():
    public = {getattr(softreg, name) for name in softreg.__all__}
    estimators = {one for one in public if isinstance(one, type)}
    assert {type(model) for model in ESTIMATORS.values()} == estimators


# -- saving ---------------------------------------------------------------------------


def by_skops(model):
    sio = pytest.importorskip("skops.io")
    saved = sio.dumps(model)
    return sio.loads(saved, trusted=sio.get_untrusted_types(data=saved))


def by_joblib(model, **options):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file, **options)


SAVED = {
    "pickle 2": lambda model: pickle.loads(pickle.dumps(model, 2)),
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "joblib": by_joblib,
    "deepcopy": copy.deepcopy,
    "skops": by_skops,
}
WAYS = pytest.mark.parametrize("way", SAVED)


def assert_same(one, other):
    """Check that two objects are alike to the last bit, and in all they hold."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for own, its in zip(one, other, strict=True):
            assert_same(own, its)
    elif hasattr(one, "__dict__"):
        assert_same(vars(one), vars(other))
    else:
        assert one == other


@WAYS
@EVERY
def test_nothing_is_lost(name, way):
    model = fitted(name, pd.DataFrame(X, columns=NAMES))
    loaded = SAVED[way](model)
    assert_same(loaded, model)
    rows = pd.DataFrame(X, columns=NAMES)
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    np.testing.assert_array_equal(loaded.predict_proba(rows), model.predict_proba(rows))
    assert_same(SAVED[way](clone(model)), clone(model))


@WAYS
def test_parameters_that_were_set_after_the_fit_are_kept(way):
    model = fitted("softmax")
    before = model.predict_proba(X)
    model.set_params(temperature=3.0, C=0.25, solver="lbfgs")
    loaded = SAVED[way](model)
    assert loaded.get_params() == model.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert np.abs(loaded.predict_proba(X) - before).max() > 0.1
    np.testing.assert_array_equal(loaded.fit(X, WORDS).coef_, model.fit(X, WORDS).coef_)


@WAYS
@pytest.mark.parametrize("start", ["fit", "partial_fit"])
def test_rows_in_batches_go_on(start, way):
    order = np.random.default_rng(0).permutation(len(Y))
    first, *others = np.array_split(order, 4)
    through = SoftmaxRegression(C=0.5)
    if start == "fit":
        through.fit(X[first], WORDS[first])
    else:
        through.partial_fit(X[first], WORDS[first], classes=np.unique(WORDS))
    paused = SAVED[way](through)
    for rows in others:
        through.partial_fit(X[rows], WORDS[rows])
        paused = SAVED[way](paused.partial_fit(X[rows], WORDS[rows]))
    assert_same(paused, through)


def test_a_memory_map_serves_and_is_not_written_to(tmp_path):
    path = tmp_path / "model.joblib"
    joblib.dump(fitted("softmax"), path)
    saved, plain = path.read_bytes(), fitted("softmax")
    model = joblib.load(path, mmap_mode="r")
    assert isinstance(model.coef_, np.memmap)
    np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    assert model.set_params(warm_start=True).fit(X, WORDS).n_iter_ == 0
    model = joblib.load(path, mmap_mode="r").partial_fit(X, WORDS)
    np.testing.assert_array_equal(model.coef_, plain.partial_fit(X, WORDS).coef_)
    assert path.read_bytes() == saved


def test_skops_asks_for_no_types_but_these():
    sio = pytest.importorskip("skops.io")

    def asked(model):
        return sio.get_untrusted_types(data=sio.dumps(model))

    own = "softreg._softmax.SoftmaxRegression"
    newton = "softreg.solvers._newton_cg.NewtonCG"
    assert asked(SoftmaxRegression().fit(X, Y)) == [own]
    assert asked(SoftmaxRegression().partial_fit(X, Y, classes=[0, 1, 2])) == [own]
    for name, model in ESTIMATORS.items():
        kind = type(model)
        allowed = {f"{kind.__module__}.{kind.__name__}", own, newton}
        model = fitted(name)
        model.predict(X)
        assert set(asked(make_pipeline(StandardScaler(), model))) <= allowed


@pytest.mark.slow
def test_a_pickle_is_enough_for_another_process(tmp_path):
    models = [fitted(name) for name in ESTIMATORS]
    (tmp_path / "models.pkl").write_bytes(pickle.dumps((models, X)))
    code = (
        "import pickle, sys\n"
        "models, X = pickle.load(open('models.pkl', 'rb'))\n"
        "pickle.dump([m.predict_proba(X) for m in models], sys.stdout.buffer)"
    )
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    expected = [model.predict_proba(X) for model in models]
    assert_same(pickle.loads(out.stdout), expected)


# -- frames ---------------------------------------------------------------------------

FRAMES = {
    "pandas": (pd.DataFrame(X, columns=NAMES), pd.Series(WORDS)),
    "categories": (pd.DataFrame(X, columns=NAMES), pd.Series(WORDS, dtype="category")),
    "polars": (pl.DataFrame(X, schema=NAMES), pl.Series(WORDS)),
}


@EVERY
@pytest.mark.parametrize("kind", FRAMES)
def test_frames_in(name, kind):
    rows, y = FRAMES[kind]
    model, plain = fitted(name, rows, y), fitted(name)
    assert model.feature_names_in_.tolist() == NAMES
    assert not hasattr(plain, "feature_names_in_")
    np.testing.assert_array_equal(model.classes_, np.unique(WORDS))
    # Blocks of columns are added in another order than blocks of rows.
    np.testing.assert_allclose(
        model.predict_proba(rows), plain.predict_proba(X), rtol=1e-9
    )
    assert model.score(rows, y) == plain.score(X, WORDS) > 0.9
    with pytest.raises(ValueError, match="feature names"):
        model.predict(rows[NAMES[::-1]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)


@pytest.mark.parametrize("name", ["softmax", "cv", "robust", "margin"])
@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_out(name, kind):
    rows, y = FRAMES[kind]
    select = SelectFromModel(ESTIMATORS[name]).set_output(transform=kind)
    chosen = select.fit(rows, y).transform(rows)
    weight = np.abs(fitted(name).coef_).sum(axis=0)
    kept = [n for n, w in zip(NAMES, weight, strict=True) if w >= weight.mean()]
    assert 0 < len(kept) < len(NAMES)
    assert type(chosen) is type(rows)
    assert chosen.equals(rows[kept])


# -- the same as LogisticRegression within scikit-learn's estimators ------------------

OWN = SoftmaxRegression(C=0.5, tol=1e-10)
ORACLE = LogisticRegression(C=0.5, tol=1e-10, solver="newton-cholesky")
FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)


def calibrated(method):
    return lambda own: CalibratedClassifierCV(own, method=method, cv=FOLDS)


def frozen(method):
    def around(own):
        known = FrozenEstimator(own.fit(X[::2], Y[::2]))
        return CalibratedClassifierCV(known, method=method)

    return around


CLASSIFIERS = {
    "sigmoid": calibrated("sigmoid"),
    "isotonic": calibrated("isotonic"),
    "temperature": calibrated("temperature"),
    "frozen sigmoid": frozen("sigmoid"),
    "frozen temperature": frozen("temperature"),
    "stack": lambda own: StackingClassifier([("one", own)], own, cv=FOLDS),
    "stack of scores": lambda own: StackingClassifier(
        [("one", own)], own, cv=FOLDS, stack_method="decision_function"
    ),
    "stack beside X": lambda own: StackingClassifier(
        [("one", own)], own, cv=FOLDS, passthrough=True
    ),
    "vote": lambda own: VotingClassifier(
        [("one", own), ("two", clone(own).set_params(C=1e-3))], voting="soft"
    ),
    "one against the rest": OneVsRestClassifier,
    "bag": lambda own: BaggingClassifier(own, 3, max_features=0.5, random_state=0),
    "boost": lambda own: AdaBoostClassifier(own, n_estimators=3),
    "elimination": lambda own: RFE(own, n_features_to_select=5),
    "search": lambda own: GridSearchCV(own, {"C": [1e-3, 0.3]}, cv=FOLDS),
}


def agree(build, X, y, atol=1e-4):
    """Check that what is built of softreg's is what is built of scikit-learn's."""
    ours, theirs = (build(clone(own)).fit(X, y) for own in (OWN, ORACLE))
    proba, expected = ours.predict_proba(X), theirs.predict_proba(X)
    np.testing.assert_allclose(proba, expected, atol=atol)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    return ours, theirs


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classifiers_of_classifiers(kind):
    agree(CLASSIFIERS[kind], X, Y)


@pytest.mark.parametrize("kind", [k for k in CLASSIFIERS if not k.startswith("frozen")])
def test_classifiers_of_classifiers_for_two_classes(kind):
    agree(CLASSIFIERS[kind], *TWO)


def test_several_labels_a_row():
    for build in (OneVsRestClassifier, ClassifierChain):
        agree(build, X, MANY)
    ours, theirs = (OneVsOneClassifier(own).fit(X, Y) for own in (OWN, ORACLE))
    np.testing.assert_allclose(
        ours.decision_function(X), theirs.decision_function(X), atol=1e-4
    )


def test_a_threshold_that_is_tuned():
    ours, theirs = agree(
        lambda own: TunedThresholdClassifierCV(own, scoring="f1", cv=FOLDS), *TWO
    )
    assert ours.best_threshold_ == pytest.approx(theirs.best_threshold_, abs=1e-3)
    assert ours.best_threshold_ != 0.5


def test_columns_that_are_chosen():
    for build in (
        lambda own: RFE(own, n_features_to_select=1),
        lambda own: RFECV(own, step=4, cv=FOLDS),
    ):
        ours, theirs = (build(own).fit(X, Y) for own in (OWN, ORACLE))
        np.testing.assert_array_equal(ours.ranking_, theirs.ranking_)
    ours, theirs = (SelectFromModel(own).fit(X, Y) for own in (OWN, ORACLE))
    np.testing.assert_array_equal(ours.get_support(), theirs.get_support())


def test_sparse_coefficients_choose_the_same_columns():
    model = clone(OWN).fit(X, Y)
    dense = SelectFromModel(model, prefit=True).get_support()
    sparse = SelectFromModel(model.sparsify(), prefit=True).get_support()
    np.testing.assert_array_equal(sparse, dense)


def test_cross_validation():
    scoring = ["accuracy", "neg_log_loss", "roc_auc_ovr"]
    ours, theirs = (
        cross_validate(own, X, Y, cv=FOLDS, scoring=scoring) for own in (OWN, ORACLE)
    )
    for name in scoring:
        key = f"test_{name}"
        np.testing.assert_allclose(ours[key], theirs[key], atol=1e-5)
    for method in ("predict_log_proba", "decision_function"):
        ours, theirs = (
            cross_val_predict(own, X, Y, cv=FOLDS, method=method)
            for own in (OWN, ORACLE)
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_cross_validation_in_other_processes():
    alone, beside = (
        cross_validate(OWN, X, Y, cv=FOLDS, n_jobs=n_jobs, return_estimator=True)
        for n_jobs in (1, 2)
    )
    for one, other in zip(alone["estimator"], beside["estimator"], strict=True):
        np.testing.assert_array_equal(one.coef_, other.coef_)


def test_weights_are_routed():
    weight = np.random.default_rng(0).integers(1, 4, len(Y)).astype(float)
    with sklearn.config_context(enable_metadata_routing=True):
        ours, theirs = (
            cross_validate(
                clone(own)
                .set_fit_request(sample_weight=True)
                .set_score_request(sample_weight=False),
                X,
                Y,
                cv=FOLDS,
                params={"sample_weight": weight},
                return_estimator=True,
            )["estimator"]
            for own in (OWN, ORACLE)
        )
    plain = cross_validate(OWN, X, Y, cv=FOLDS, return_estimator=True)["estimator"]
    for one, other, without in zip(ours, theirs, plain, strict=True):
        np.testing.assert_allclose(one.coef_, other.coef_, atol=1e-4)
        assert np.abs(one.coef_ - without.coef_).max() > 0.01


def test_curves():
    def learned(own):
        return learning_curve(own, X, Y, cv=FOLDS, shuffle=True, random_state=0)

    def validated(own):
        return validation_curve(
            own, X, Y, param_name="C", param_range=[1e-3, 1], cv=FOLDS
        )

    for curve in (learned, validated):
        for ours, theirs in zip(curve(OWN), curve(ORACLE), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_a_learning_curve_by_partial_fit():
    train, test = next(FOLDS.split(X, Y))
    sizes, _, scores = learning_curve(
        SoftmaxRegression(),
        X,
        Y,
        cv=[(train, test)],
        train_sizes=[40, 100],
        exploit_incremental_learning=True,
    )
    model, expected = SoftmaxRegression(), []
    for start, stop in ((0, 40), (40, 100)):
        rows = train[start:stop]
        model.partial_fit(X[rows], Y[rows], classes=[0, 1, 2])
        expected.append(model.score(X[test], Y[test]))
    assert sizes.tolist() == [40, 100]
    np.testing.assert_array_equal(scores[:, 0], expected)


def test_searches():
    grid = {"C": [1e-4, 1e-2, 1]}

    def halving(own):
        return HalvingGridSearchCV(
            own, grid, cv=FOLDS, scoring="neg_log_loss", random_state=0
        )

    def whole(own):
        return GridSearchCV(own, grid, cv=FOLDS, scoring="neg_log_loss")

    for build in (halving, whole):
        ours, theirs = (build(own).fit(X, Y) for own in (OWN, ORACLE))
        assert ours.best_params_ == theirs.best_params_
        scores, expected = (s.cv_results_["mean_test_score"] for s in (ours, theirs))
        np.testing.assert_allclose(scores, expected, atol=1e-5)


# -- every estimator within scikit-learn's ---------------------------------------------


@EVERY
def test_one_against_the_rest_is_one_fit_a_class(name):
    model = OneVsRestClassifier(ESTIMATORS[name]).fit(X, MANY)
    each = [fitted(name, X, MANY[:, k]).predict_proba(X)[:, 1] for k in range(3)]
    np.testing.assert_array_equal(model.predict_proba(X), np.transpose(each))


@EVERY
def test_calibration_keeps_the_order(name):
    plain = fitted(name)
    model = CalibratedClassifierCV(FrozenEstimator(plain), method="temperature")
    model.fit(X, WORDS)
    np.testing.assert_array_equal(model.predict(X), plain.predict(X))
    codes = np.searchsorted(plain.classes_, WORDS)
    own = model.predict_proba(X)[np.arange(len(Y)), codes]
    before = plain.predict_proba(X)[np.arange(len(Y)), codes]
    with np.errstate(divide="ignore"):
        assert -np.log(own).mean() <= -np.log(before).mean() + 1e-6


@EVERY
def test_predictions_of_folds_are_those_of_fits(name):
    proba = cross_val_predict(
        ESTIMATORS[name], X, WORDS, cv=FOLDS, method="predict_proba"
    )
    for train, test in FOLDS.split(X, WORDS):
        model = fitted(name, X[train], WORDS[train])
        np.testing.assert_allclose(proba[test], model.predict_proba(X[test]))


@EVERY
def test_stacks_learn_from_probabilities(name):
    model = StackingClassifier(
        [("own", ESTIMATORS[name])], OWN, cv=FOLDS, stack_method="predict_proba"
    ).fit(X, WORDS)
    inner = cross_val_predict(
        ESTIMATORS[name], X, WORDS, cv=FOLDS, method="predict_proba"
    )
    outer = clone(OWN).fit(inner, WORDS)
    np.testing.assert_allclose(
        model.predict_proba(X), outer.predict_proba(fitted(name).predict_proba(X))
    )


@EVERY
def test_importance_of_columns(name):
    wide = np.column_stack([X, np.zeros(len(X))])
    model = fitted(name, wide)
    result = permutation_importance(
        model, wide, WORDS, n_repeats=2, random_state=np.random.RandomState(0)
    )
    assert (result.importances[-1] == 0).all()
    assert result.importances_mean.max() > 0.01


def test_importance_of_columns_is_that_of_the_oracle():
    ours, theirs = (
        permutation_importance(own.fit(X, Y), X, Y, n_repeats=3, random_state=0)
        for own in (clone(OWN), clone(ORACLE))
    )
    np.testing.assert_allclose(ours.importances, theirs.importances)


@EVERY
def test_partial_dependence_is_a_mean(name):
    model = fitted(name)
    result = partial_dependence(model, X, [3], grid_resolution=4, kind="both")
    for point, average in zip(
        result["grid_values"][0], result["average"].T, strict=True
    ):
        rows = X.copy()
        rows[:, 3] = point
        proba = model.predict_proba(rows)
        np.testing.assert_allclose(average, proba.mean(axis=0))


def test_partial_dependence_of_scores_is_a_line():
    model = clone(OWN).fit(*TWO)
    result = partial_dependence(
        model, TWO[0], [2], response_method="decision_function", grid_resolution=5
    )
    slopes = np.diff(result["average"][0]) / np.diff(result["grid_values"][0])
    np.testing.assert_allclose(slopes, model.coef_[0, 2])


@pytest.mark.parametrize("two", [False, True])
def test_shap_values_add_up_to_the_scores(two):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        shap = pytest.importorskip("shap", reason="shap is optional")
    model = clone(OWN).fit(X, Y == 1 if two else Y)
    background = shap.maskers.Independent(X, max_samples=len(X))
    explainer = shap.LinearExplainer(model, background)
    values = explainer.shap_values(X)
    scores = model.decision_function(X)
    np.testing.assert_allclose(
        values.sum(axis=1) + explainer.expected_value, scores, atol=1e-10
    )
    np.testing.assert_allclose(explainer.expected_value, scores.mean(axis=0))
    moved = (X - X.mean(axis=0))[:, :, None] * model.coef_.T
    np.testing.assert_allclose(values, moved[:, :, 0] if two else moved, atol=1e-10)


# -- the page -------------------------------------------------------------------------


def blocks():
    text = PAGE.read_text() if PAGE.exists() else ""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("code", blocks(), ids=lambda code: code.splitlines()[0])
def test_the_page_runs(code, tmp_path, monkeypatch, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in re.findall(r"^import (\w+)", code, re.MULTILINE):
            pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, PAGE.name, "exec"), {})
    assert capsys.readouterr().out
