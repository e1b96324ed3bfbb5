"""Standard errors against statsmodels and published tables; marginal effects."""

import json
import re
import sys
import warnings
from pathlib import Path

import array_api_strict
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import statsmodels.api as sm
from conftest import SHARED_DATA
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from softreg import (
    HierarchicalSoftmax,
    LargeMarginSoftmaxRegression,
    RobustSoftmaxRegression,
    SoftmaxRegression,
    SoftmaxRegressionCV,
)
from softreg.inference import marginal_effects, summary

COLUMNS = ["coef", "std_err", "z", "p_value", "ci_low", "ci_high"]
PAGE = Path(__file__).resolve().parents[1] / "docs" / "reading-a-model.md"
KINDS = {"model": "nonrobust", "robust": "HC0"}


def sample(n_rows=600, n_classes=4, seed=0):
    """Return overlapping classes on columns of different units."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 3)) * [1, 20, 0.05] + [0, 100, 1]
    coef = rng.normal(size=(n_classes, 3)) / [1, 20, 0.05]
    noise = rng.gumbel(size=(n_rows, n_classes))
    return X, ((X - [0, 100, 1]) @ coef.T + noise).argmax(axis=1)


def exact(**options):
    return SoftmaxRegression(C=np.inf, tol=1e-11, **options)


def fitted(X, y, **options):
    return exact(**options).fit(X, y)


def peer(model, X, y, kind="nonrobust"):
    """Return statsmodels' fit from the coefficients, a row a class."""
    return model(y, sm.add_constant(X)).fit(
        disp=0, cov_type=kind, maxiter=200, tol=1e-8
    )


def cube(table, names=COLUMNS):
    """Return a table as an array (class, column of X, column of the table)."""
    n_classes = table.index.get_level_values(0).nunique()
    return table[list(names)].to_numpy().reshape(n_classes, -1, len(names))


def cube_of_peer(fit):
    parts = [np.asarray(v).T for v in (fit.params, fit.bse, fit.tvalues, fit.pvalues)]
    parts = np.stack(parts, axis=-1)
    ends = np.asarray(fit.conf_int())
    return np.concatenate([parts, ends.reshape(*parts.shape[:-1], 2)], axis=-1)


@pytest.mark.parametrize("covariance", KINDS)
@pytest.mark.parametrize("n_classes", [3, 5])
def test_base_coding_is_mnlogit(n_classes, covariance):
    X, y = sample(n_classes=n_classes)
    table = summary(fitted(X, y), X, y, coding="base", covariance=covariance)
    fit = peer(sm.MNLogit, X, y, KINDS[covariance])
    assert list(table.columns) == COLUMNS
    np.testing.assert_allclose(cube(table), cube_of_peer(fit), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("coding", ["base", "symmetric"])
@pytest.mark.parametrize("covariance", KINDS)
def test_two_classes_are_logit(coding, covariance):
    X, y = sample(n_classes=2)
    table = summary(fitted(X, y), X, y, coding=coding, covariance=covariance)
    fit = peer(sm.Logit, X, y, KINDS[covariance])
    expected = cube_of_peer(fit)[None]
    np.testing.assert_allclose(cube(table), expected, rtol=1e-6, atol=1e-9)
    assert set(table.index.get_level_values("class")) == {1}


@pytest.mark.parametrize("name", ["hsbdemo", "anes96"])
def test_published_tables(shared, name):
    X, y = shared.load(name)
    with open(SHARED_DATA / "reference_values.json") as file:
        values = json.load(file)[name]
    table = cube(summary(fitted(X, y), X, y, coding="base"))
    # What R printed of hsbdemo is of a fit that stopped early.
    rtol = 5e-5 if name == "hsbdemo" else 1e-6
    for source, close in (("published", rtol), ("newton", 1e-9)):
        for column, what in enumerate(["coef", "se"]):
            expected = np.array(values[source][what])
            np.testing.assert_allclose(table[..., column], expected, rtol=close)


def test_level_is_that_of_the_intervals():
    X, y = sample()
    model = fitted(X, y)
    table = summary(model, X, y, coding="base", level=0.8)
    expected = np.asarray(peer(sm.MNLogit, X, y).conf_int(alpha=0.2)).reshape(-1, 2)
    np.testing.assert_allclose(table[["ci_low", "ci_high"]], expected, rtol=1e-6)


@pytest.mark.parametrize("covariance", KINDS)
def test_symmetric_coding_is_that_of_all_bases(covariance):
    """The mean of the contrasts with every class is the symmetric coefficient."""
    X, y = sample(n_classes=3)
    table = summary(fitted(X, y), X, y, covariance=covariance)
    coef, errors = np.moveaxis(cube(table, ["coef", "std_err"]), -1, 0)
    np.testing.assert_allclose(coef.sum(axis=0), 0, atol=1e-9)
    fit = peer(sm.MNLogit, X, y, KINDS[covariance])
    contrast = np.array([[-1, -1], [2, -1], [-1, 2]]) / 3
    np.testing.assert_allclose(coef, contrast @ np.asarray(fit.params).T, rtol=1e-6)
    both = np.asarray(fit.cov_params()).reshape(2, 4, 2, 4)
    variances = np.einsum("ka,ajbj,kb->kj", contrast, both, contrast)
    np.testing.assert_allclose(errors**2, variances, rtol=1e-6)


def test_integer_weights_are_repeated_rows():
    X, y = sample(300)
    counts = np.random.default_rng(1).integers(0, 4, len(y))
    weighted = summary(
        exact().fit(X, y, sample_weight=counts), X, y, sample_weight=counts
    )
    X, y = np.repeat(X, counts, axis=0), np.repeat(y, counts)
    pd.testing.assert_frame_equal(weighted, summary(fitted(X, y), X, y), rtol=1e-6)


@pytest.mark.parametrize("names", [[3, 1, 2, 7], ["d", "b", "c", "a"]])
def test_rows_of_weight_zero_are_no_rows(names):
    X, codes = sample(300)
    y = np.array(names)[codes]
    weight = (codes != 2).astype(float)
    table = summary(exact().fit(X, y, sample_weight=weight), X, y, sample_weight=weight)
    counted = weight > 0
    X, y = X[counted], y[counted]
    pd.testing.assert_frame_equal(table, summary(fitted(X, y), X, y), rtol=1e-6)


def test_robust_errors_do_not_depend_on_the_scale_of_weights():
    X, y = sample(300)
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y))
    tables = [
        summary(
            exact().fit(X, y, sample_weight=w), X, y,
            sample_weight=w, covariance="robust",
        )
        for w in (weight, 10 * weight)
    ]  # fmt: skip
    pd.testing.assert_frame_equal(*tables, rtol=1e-6)


def test_without_intercept():
    X, y = sample()
    model = fitted(X, y, fit_intercept=False)
    table = summary(model, X, y, coding="base")
    fit = sm.MNLogit(y, X).fit(disp=0, maxiter=200, tol=1e-8)
    np.testing.assert_allclose(cube(table), cube_of_peer(fit), rtol=1e-6, atol=1e-9)
    assert "intercept" not in table.index.get_level_values("feature")


@pytest.mark.parametrize("n_classes", [2, 3])
def test_temperature_scales_coefficients_and_errors(n_classes):
    X, y = sample(n_classes=n_classes)
    plain = summary(fitted(X, y), X, y, covariance="robust")
    warm = summary(fitted(X, y, temperature=2.0), X, y, covariance="robust")
    scaled = ["coef", "std_err", "ci_low", "ci_high"]
    np.testing.assert_allclose(warm[scaled], 2 * plain[scaled], rtol=1e-5)
    np.testing.assert_allclose(warm["z"], plain["z"], rtol=1e-5)


def penalised_by_hand(model, X, y, covariance):
    """Return standard errors by differences of the penalised sum's gradient."""
    classes, C = model.classes_, model.C
    K, Z = len(classes), np.column_stack([np.ones(len(y)), X])
    hot = (y[:, None] == classes).astype(float)
    mask = np.r_[float(model.penalize_intercept), np.ones(X.shape[1])]

    def scores(flat):
        u = Z @ flat.reshape(K, -1).T
        p = np.exp(u - u.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return np.einsum("nk,nj->nkj", p - hot, Z).reshape(len(y), -1)

    at = np.column_stack([model.intercept_, model.coef_]).ravel()
    H = np.empty((at.size, at.size))
    for j in range(at.size):
        e = np.zeros(at.size)
        e[j] = 1e-4
        H[j] = (scores(at + e) - scores(at - e)).sum(axis=0) / 2e-4
    A = H + np.diag(np.tile(mask, K)) / C
    # The common shift of the classes, which nothing estimates, is left out.
    centre = np.kron(np.eye(K) - 1 / K, np.eye(Z.shape[1]))
    inverse = np.linalg.pinv(centre @ A @ centre, rcond=1e-9)
    g = scores(at)
    B = H if covariance == "model" else g.T @ g
    return np.sqrt(np.diagonal(inverse @ B @ inverse)).reshape(K, -1)


@pytest.mark.parametrize("penalize_intercept", [False, True])
@pytest.mark.parametrize("covariance", KINDS)
def test_penalised_errors(covariance, penalize_intercept):
    X, y = load_iris(return_X_y=True)
    model = SoftmaxRegression(
        C=0.5, tol=1e-11, penalize_intercept=penalize_intercept
    ).fit(X, y)
    with pytest.warns(UserWarning, match="biased towards zero"):
        table = summary(model, X, y, covariance=covariance)
    expected = penalised_by_hand(model, X, y, covariance)
    np.testing.assert_allclose(cube(table, ["std_err"])[..., 0], expected, rtol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_penalised_errors_are_the_spread_of_penalised_estimates(n_classes):
    X, _ = sample(400, n_classes)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    rng = np.random.default_rng(2)
    coef = 0.3 * rng.normal(size=(n_classes, 3))
    estimates, errors = [], []
    for _ in range(150):
        y = (X @ coef.T + rng.gumbel(size=(len(X), n_classes))).argmax(axis=1)
        model = SoftmaxRegression(C=0.02, tol=1e-9).fit(X, y)
        with pytest.warns(UserWarning, match="penalised"):
            table = summary(model, X, y)
        estimates.append(table["coef"])
        errors.append(table["std_err"])
    spread = np.std(estimates, axis=0)
    np.testing.assert_allclose(np.mean(errors, axis=0), spread, rtol=0.25)


# -- data of other kinds --------------------------------------------------------------


@pytest.mark.parametrize("covariance", KINDS)
def test_many_blocks_sparse_single_and_other_libraries(covariance):
    X, y = sample(9000)
    X = X.round(1).astype(np.float32)
    X[:, 2] = X[:, 0] > 0.5
    model = exact(n_jobs=2).fit(X.astype(float), y)
    table = summary(model, X.astype(float), y, covariance=covariance)
    fit = peer(sm.MNLogit, X.astype(float), y, KINDS[covariance])
    expected = cube_of_peer(fit)[..., :2]
    base = summary(model, X.astype(float), y, covariance=covariance, coding="base")
    np.testing.assert_allclose(cube(base)[..., :2], expected, rtol=1e-6)
    for rows in (scipy.sparse.csr_array(X), X):
        again = summary(model, rows, y, covariance=covariance)
        np.testing.assert_allclose(again["std_err"], table["std_err"], rtol=1e-5)
    few = slice(0, 500)
    strict = array_api_strict.asarray
    there = exact().fit(strict(X[few].astype(float)), strict(y[few]))
    here = fitted(X[few].astype(float), y[few])
    args = strict(X[few].astype(float)), strict(y[few])
    pd.testing.assert_frame_equal(
        summary(there, *args, covariance=covariance),
        summary(here, X[few].astype(float), y[few], covariance=covariance),
        rtol=1e-6,
    )
    pd.testing.assert_frame_equal(
        marginal_effects(there, args[0]),
        marginal_effects(here, X[few].astype(float)),
        rtol=1e-6,
    )


def test_frames_and_labels_of_any_kind_name_the_rows():
    X, codes = sample(n_classes=3)
    frame = pd.DataFrame(X, columns=["age", "income", "share"])
    y = pd.Series(np.array(["no", "perhaps", "yes"], dtype=object)[codes])
    model = fitted(frame, y)
    table = summary(model, frame, y)
    assert table.index.names == ["class", "feature"]
    assert table.loc[("yes", "income"), "coef"] == pytest.approx(model.coef_[2, 1])
    assert list(table.loc["no"].index) == ["intercept", "age", "income", "share"]
    np.testing.assert_allclose(
        table["std_err"], summary(fitted(X, codes), X, codes)["std_err"], rtol=1e-6
    )
    effects = marginal_effects(model, frame)
    assert list(effects.index) == ["no", "perhaps", "yes"]
    assert list(effects.columns) == ["age", "income", "share"]
    with pytest.raises(ValueError, match="feature names"):
        summary(model, frame[["income", "age", "share"]], y)


def test_sparsified_coefficients_serve_too():
    X, y = sample()
    model = fitted(X, y)
    table, effects = summary(model, X, y), marginal_effects(model, X)
    model.sparsify()
    pd.testing.assert_frame_equal(summary(model, X, y), table)
    pd.testing.assert_frame_equal(marginal_effects(model, X), effects)


def test_cross_validated_fit_is_penalised():
    X, y = load_iris(return_X_y=True)
    model = SoftmaxRegressionCV([0.1, 1.0], cv=3, tol=1e-9).fit(X, y)
    with pytest.warns(UserWarning, match="penalised"):
        table = summary(model, X, y)
    plain = SoftmaxRegression(C=model.C_, tol=1e-9).fit(X, y)
    with pytest.warns(UserWarning, match="penalised"):
        expected = summary(plain, X, y)
    pd.testing.assert_frame_equal(table, expected, rtol=1e-4)


def test_the_estimator_is_left_alone():
    X, y = sample()
    model = fitted(X, y)
    before = {name: repr(value) for name, value in vars(model).items()}
    summary(model, X, y)
    marginal_effects(model, X)
    assert {name: repr(value) for name, value in vars(model).items()} == before


# -- marginal effects -----------------------------------------------------------------


def test_marginal_effects_are_statsmodels():
    X, y = sample()
    expected = peer(sm.MNLogit, X, y).get_margeff(at="overall").margeff.T
    effects = marginal_effects(fitted(X, y), X)
    np.testing.assert_allclose(effects, expected, rtol=1e-7)
    np.testing.assert_allclose(effects.sum(axis=0), 0, atol=1e-12)
    X, y = sample(n_classes=2)
    expected = peer(sm.Logit, X, y).get_margeff(at="overall").margeff
    effects = marginal_effects(fitted(X, y), X)
    np.testing.assert_allclose(effects, [-expected, expected], rtol=1e-7)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda: SoftmaxRegression(temperature=2.0),
        lambda: SoftmaxRegression(fit_intercept=False, class_weight="balanced"),
        lambda: SoftmaxRegression(loss="sparsemax", label_smoothing=0.1),
        lambda: SoftmaxRegression(loss=1.3, margin=0.2),
        lambda: SoftmaxRegression(loss="topk-2"),
        lambda: SoftmaxRegressionCV([0.1, 1.0], cv=2),
        lambda: RobustSoftmaxRegression(SoftmaxRegression(temperature=0.5)),
        lambda: LargeMarginSoftmaxRegression(),
    ],
)
def test_marginal_effects_are_derivatives(make, n_classes):
    X, y = sample(5000, n_classes)
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).round(2)
    model = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some fits stop early, which is no matter here
        model.fit(X[:500], y[:500])
    effects = marginal_effects(model, X)
    np.testing.assert_allclose(
        effects, model.proba_jacobian(X).mean(axis=0), rtol=1e-9, atol=1e-12
    )
    step = 1e-6
    for j, e in enumerate(np.eye(3)):
        upper = model.predict_proba(X + step * e)
        rise = (upper - model.predict_proba(X - step * e)).mean(axis=0)
        # Losses with kinks have a row or two whose support changes within the step.
        np.testing.assert_allclose(effects.iloc[:, j], rise / (2 * step), atol=2e-4)


# -- warnings and errors --------------------------------------------------------------


def test_a_loose_fit_or_other_rows_are_told():
    X, y = sample()
    with pytest.warns(UserWarning, match="standard errors from it"):
        summary(fitted(X, y), X[::2], y[::2])
    rough = fitted(X, y)
    rough.coef_ = rough.coef_ * 1.2
    with pytest.warns(UserWarning, match="smaller tol"):
        summary(rough, X, y)


def test_class_weights_are_told_unless_robust():
    X, y = sample()
    model = fitted(X, y, class_weight="balanced")
    with pytest.warns(UserWarning, match="covariance='robust'"):
        summary(model, X, y)
    summary(model, X, y, covariance="robust")


def test_separated_classes_have_no_table():
    X, y = load_iris(return_X_y=True)
    with pytest.warns(UserWarning, match="separated"):
        model = SoftmaxRegression(C=np.inf).fit(X[:100], y[:100])
    with pytest.raises(ValueError, match=r"separated.*finite C"):
        summary(model, X[:100], y[:100])


@pytest.mark.parametrize("n_rows", [200, 6000])
def test_a_class_that_a_column_separates_is_told(n_rows):
    X, y = sample(n_rows, 3)
    X = np.column_stack([X, (y == 0) & (np.arange(n_rows) % 7 == 0)])
    with pytest.warns(UserWarning, match="no finite estimate"):
        summary(SoftmaxRegression(C=np.inf).fit(X, y), X, y)


@pytest.mark.parametrize("n_rows", [200, 1500])
def test_dependent_columns_are_named(n_rows):
    X, y = sample(n_rows, 3)
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(d=X[:, 0] - X[:, 2])
    model = fitted(frame, y)
    with pytest.raises(ValueError, match=r"dependent, got \['a', 'c', 'd'\]"):
        summary(model, frame, y)
    frame["d"] = 3.0
    with pytest.raises(ValueError, match=r"dependent, got \['d'\]"):
        summary(fitted(frame, y), frame, y)


def test_a_constant_column_of_a_penalised_fit_has_no_z():
    X, y = sample(6000, 3)
    X = np.column_stack([X, np.full(len(y), 3.0)])
    model = SoftmaxRegression(tol=1e-9).fit(X, y)
    with pytest.warns(UserWarning, match="biased") as told:
        table = summary(model, X, y)
    assert len(told) == 1
    idle = table.xs("x3", level="feature")
    np.testing.assert_allclose(idle["std_err"], 0, atol=1e-12)
    assert idle["z"].isna().all()
    with pytest.warns(UserWarning, match="biased"):
        without = summary(SoftmaxRegression(tol=1e-9).fit(X[:, :3], y), X[:, :3], y)
    rest = table.drop("x3", level="feature")
    pd.testing.assert_frame_equal(rest, without, rtol=1e-4)


def test_a_clean_fit_is_not_warned_of():
    X, y = sample(5000)
    for solver in ("newton-cholesky", "newton-cg"):
        summary(SoftmaxRegression(C=np.inf, tol=1e-6, solver=solver).fit(X, y), X, y)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"loss": "sparsemax"}, "loss='sparsemax'"),
        ({"loss": "topk-2"}, "loss='topk-2'"),
        ({"margin": 1.0}, "margin=1.0"),
        ({"label_smoothing": 0.1}, "label_smoothing=0.1"),
    ],
)
def test_what_has_no_likelihood_is_refused(options, text):
    X, y = sample(100)
    model = SoftmaxRegression(tol=0.1, **options).fit(X, y)
    with pytest.raises(ValueError, match=rf"need a likelihood.*{text}.*Refit"):
        summary(model, X, y)


def test_bad_input_is_refused():
    X, y = sample(100)
    model = fitted(X, y)
    with pytest.raises(NotFittedError):
        summary(SoftmaxRegression(), X, y)
    with pytest.raises(NotFittedError):
        marginal_effects(SoftmaxRegression(), X)
    with pytest.raises(TypeError, match="got HierarchicalSoftmax"):
        summary(HierarchicalSoftmax(), X, y)
    with pytest.raises(TypeError, match="got HierarchicalSoftmax"):
        marginal_effects(HierarchicalSoftmax(), X)
    with pytest.raises(ValueError, match="expecting 3 features"):
        summary(model, X[:, :2], y)
    with pytest.raises(ValueError, match="expecting 3 features"):
        marginal_effects(model, X[:, :2])
    with pytest.raises(ValueError, match=r"classes of the fit.*got \['7'\] besides"):
        summary(model, X, np.where(y == 0, "7", y.astype(object)))
    with pytest.raises(ValueError, match=r"labels \(n,\), got shape \(100, 4\)"):
        summary(model, X, np.eye(4)[y])
    with pytest.raises(ValueError, match="one row of soft targets"):
        summary(model, X, y[:50])
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        summary(model, X, y, sample_weight=-np.ones(100))
    for name, value in (("coding", "first"), ("covariance", "HC0"), ("level", 95)):
        with pytest.raises(ValueError, match=f"{name} must be"):
            summary(model, X, y, **{name: value})
    wide = np.zeros((4, 6000))
    wide[0, 0] = 1.0
    model = SoftmaxRegression().fit(wide, [0, 1, 0, 1])
    with pytest.raises(ValueError, match="at most"):
        summary(model, wide, [0, 1, 0, 1])


def test_what_holds_an_estimator_says_where_it_is():
    X, y = sample(100)
    X = pd.DataFrame(X, columns=["a", "b", "c"])
    pipeline = make_pipeline(StandardScaler(), SoftmaxRegression(C=np.inf, tol=1e-8))
    pipeline.set_output(transform="pandas").fit(X, y)
    search = GridSearchCV(pipeline, {"softmaxregression__C": [np.inf]}, cv=2).fit(X, y)
    for ask in (marginal_effects, lambda *args: summary(*args, y)):
        with pytest.raises(TypeError, match=r"pipeline\[-1\], and pipeline\[:-1\]"):
            ask(pipeline, X)
        with pytest.raises(TypeError, match=r"got GridSearchCV\. Pass its best_est"):
            ask(search, X)
        table = ask(pipeline[-1], pipeline[:-1].transform(X)).reset_index()
        assert {"a", "b", "c"} <= {*table.columns, *table.get("feature", [])}


def test_dask_is_sent_to_memory():
    da = pytest.importorskip("dask.array")
    X, y = sample(100)
    model = fitted(X, y)
    with pytest.raises(TypeError, match="compute"):
        summary(model, da.from_array(X), y)
    with pytest.raises(TypeError, match="compute"):
        marginal_effects(model, da.from_array(X))


def test_pandas_is_asked_for_by_its_extra(monkeypatch):
    X, y = sample(100)
    model = fitted(X, y)
    monkeypatch.setitem(sys.modules, "pandas", None)
    for call in (lambda: summary(model, X, y), lambda: marginal_effects(model, X)):
        with pytest.raises(ImportError, match=r'install "softreg\[inference\]"'):
            call()


def test_the_example_of_the_documents_runs(capsys):
    text = PAGE.read_text()
    code, printed = re.findall(r"```(?:python)?\n(.*?)```", text, re.DOTALL)
    exec(compile(code, PAGE.name, "exec"), {})
    assert capsys.readouterr().out.split() == printed.split()


def test_rows_of_a_file_serve_too(tmp_path):
    h5py = pytest.importorskip("h5py")
    X, y = sample(9000)
    model = fitted(X, y)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        rows, labels = (
            file.create_dataset("X", data=X),
            file.create_dataset("y", data=y),
        )
        table = summary(model, rows, labels, covariance="robust")
        effects = marginal_effects(model, rows)
    expected = summary(model, X, y, covariance="robust")
    pd.testing.assert_frame_equal(table, expected)
    pd.testing.assert_frame_equal(effects, marginal_effects(model, X))
