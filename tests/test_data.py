"""What a user passes in: bad input is refused, good input of any kind gives one fit."""

import importlib.util
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.exceptions import (
    ConvergenceWarning,
    DataConversionWarning,
    NotFittedError,
)
from sklearn.preprocessing import scale
from threadpoolctl import threadpool_info

from softreg import SoftmaxRegression, solvers
from softreg._parameters import n_threads

IRIS, Y = load_iris(return_X_y=True)
# Tenths of centimetres: whole numbers that every integer type holds.
X = np.round(10 * IRIS)
N, D = X.shape
SOFT = np.eye(3)[Y]
WINE, WINE_Y = load_wine(return_X_y=True)
WINE = scale(WINE)
SOLVERS = ["lbfgs", "newton-cg", "newton-cholesky"]
PREDICTORS = [
    "decision_function",
    "predict",
    "predict_proba",
    "predict_log_proba",
    "proba_jacobian",
]
EXAMPLES = settings(max_examples=20, deadline=None, derandomize=True)


def tight(**params):
    return SoftmaxRegression(**{"tol": 1e-11, **params})


def with_entry(array, index, value):
    array = np.array(array, dtype=float)
    array[index] = value
    return array


def fit_recording_warnings(model, *data):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*data)
    return caught


def assert_same_fit(left, right, tol=1e-8):
    np.testing.assert_array_equal(left.classes_, right.classes_)
    np.testing.assert_allclose(left.coef_, right.coef_, rtol=0, atol=tol)
    np.testing.assert_allclose(left.intercept_, right.intercept_, rtol=0, atol=tol)
    assert left.weight_decay_ == pytest.approx(right.weight_decay_, rel=1e-12)


@pytest.fixture(scope="module")
def plain():
    return tight().fit(X, Y)


# -- refusals -------------------------------------------------------------------------


def bad(name, *words, error=ValueError, X=X, y=Y, weight=None, marks=(), **params):
    """A row of the table: what is passed, and the words that the message must hold."""
    return pytest.param(params, (X, y, weight), error, words, id=name, marks=marks)


BAD_DATA = [
    bad("nan in X", "X", "NaN", X=with_entry(X, (3, 1), np.nan)),
    bad("inf in X", "X", "infinity", X=with_entry(X, (3, 1), np.inf)),
    bad(
        "inf in float32 X",
        "X",
        "infinity",
        X=with_entry(X, (3, 1), -np.inf).astype(np.float32),
    ),
    bad(
        "inf in float16 X",
        "X",
        "infinity",
        X=with_entry(X, (3, 1), np.inf).astype(np.float16),
    ),
    bad(
        "nan in sparse X",
        "X",
        "NaN",
        X=scipy.sparse.csr_matrix(with_entry(X, (3, 1), np.nan)),
    ),
    bad(
        "inf in sparse X",
        "X",
        "infinity",
        X=scipy.sparse.csc_array(with_entry(X, (3, 1), np.inf)),
    ),
    bad("X 1-d", "Expected 2D array", "1D", "Reshape", X=X[:, 0]),
    bad("X 3-d", "dim 3", X=X[:, :, None]),
    bad("X a number", "Expected 2D array", "3.5", "Reshape", X=3.5),
    bad("X without rows", "0 sample(s)", "shape=(0, 4)", X=X[:0], y=Y[:0]),
    bad("X without columns", "0 feature(s)", "shape=(150, 0)", X=X[:, :0]),
    bad("X complex", "Complex data not supported", X=X + 1j),
    bad("X sparse complex", "Complex", X=scipy.sparse.csr_matrix(X + 1j)),
    bad("X strings", "X", "'cat'", X=np.full((N, 2), "cat")),
    bad("X objects", "X", "'cat'", X=np.full((N, 2), "cat", dtype=object)),
    bad("X ragged", "inhomogeneous", X=[[1.0, 2.0], [3.0]] * 75),
    bad("one class", "two classes", "one class only", "4", "Check", y=np.full(N, 4)),
    bad("one row", "two classes", "one class only", X=X[:1], y=Y[:1]),
    bad("no y", "y", "None", "Pass labels", y=None),
    bad("y too short", "inconsistent", "150", "149", y=Y[:-1]),
    bad("soft y too short", "inconsistent", "150", "149", y=SOFT[:-1]),
    bad("y a number", "array-like", "int", error=TypeError, y=3),
    bad("y continuous", "Unknown label type", "continuous", y=IRIS[:, 0]),
    bad("y complex", "Complex data not supported", y=Y + 1j),
    bad("nan in y", "y", "NaN", y=with_entry(Y, 3, np.nan)),
    bad("inf in y", "y", "infinity", y=with_entry(Y, 3, np.inf)),
    bad(
        "strings among numbers in y",
        "label",
        "str",
        error=(ValueError, TypeError),
        y=np.array(["a", 1] * 75, dtype=object),
    ),
]
BAD_TARGETS = [
    bad("multilabel", "int64", "(150, 3)", "OneVsRest", "argmax", y=SOFT.astype(int)),
    bad("multilabel of bools", "bool", "(150, 3)", "OneVsRest", y=SOFT.astype(bool)),
    bad(
        "multilabel sparse",
        "sparse",
        "(150, 3)",
        "OneVsRest",
        y=scipy.sparse.csr_matrix(SOFT.astype(int)),
    ),
    bad("two columns of strings", "(150, 2)", y=np.array([["a", "b"]] * N)),
    bad(
        "soft negative",
        "nonnegative",
        "-0.5",
        "row 3",
        "OneVsRest",
        y=with_entry(SOFT, 3, [1.5, -0.5, 0]),
    ),
    bad("soft sums", "sum to one", "(sum 2)", "row 0", "Divide", y=2 * SOFT),
    bad("soft all zero", "sum to one", "(sum 0)", "row 7", y=with_entry(SOFT, 7, 0)),
    bad("soft nan", "y", "NaN", y=with_entry(SOFT, (3, 0), np.nan)),
    bad("soft 3-d", "dim 3", y=SOFT[:, :, None]),
    bad(
        "soft with class_weight",
        "class_weight",
        "soft targets",
        "'balanced'",
        "sample_weight",
        y=SOFT,
        class_weight="balanced",
    ),
    bad(
        "soft with an empty class",
        "positive share",
        "[1]",
        "Drop",
        "label_smoothing",
        y=np.insert(SOFT, 1, 0.0, axis=1),
    ),
    bad(
        "soft with a class of weight 0",
        "positive share",
        "[2]",
        y=SOFT,
        weight=(Y < 2).astype(float),
    ),
]
BAD_WEIGHTS = [
    bad("weight negative", "sample_weight", "-2", weight=with_entry(np.ones(N), 3, -2)),
    bad("weight negative number", "sample_weight", "-1", weight=-1),
    bad("weight nan", "sample_weight", "NaN", weight=with_entry(np.ones(N), 3, np.nan)),
    bad(
        "weight inf",
        "sample_weight",
        "infinity",
        weight=with_entry(np.ones(N), 3, np.inf),
    ),
    bad("weight all zero", "sample_weight", "150 zeros", weight=np.zeros(N)),
    bad("weight sum inf", "sample_weight", "inf", "sum", weight=np.full(N, 1e307)),
    bad("weight too short", "sample_weight", "(150,)", "(149,)", weight=np.ones(149)),
    bad("weight column", "sample_weight", "(150, 1)", weight=np.ones((N, 1))),
    bad("weight string", "sample_weight", "'a'", weight="a"),
    bad("weight strings", "sample_weight", "'a'", weight=["a"] * N),
    bad("weight leaves a class", "one class only", "weights", weight=1.0 * (Y == 2)),
    bad("class unknown", "class_weight", "[7]", "[0, 1, 2]", class_weight={7: 2, 0: 1}),
    bad("class unknown string", "class_weight", "'0'", class_weight={"0": 2}),
    bad("class negative", "class_weight", "negative", "-1", class_weight={0: -1}),
    bad("class nan", "class_weight", "finite", "nan", class_weight={0: np.nan}),
    bad("class inf", "class_weight", "finite", "inf", class_weight={0: np.inf}),
    bad("class string", "class_weight", "'a'", class_weight={0: "a"}),
    bad(
        "classes all zero",
        "class_weight",
        "zero",
        class_weight=dict.fromkeys(range(3), 0),
    ),
    bad("classes but one", "one class only", "2", class_weight={0: 0, 1: 0}),
    bad("class_weight word", "'balanced'", "'auto'", "dict", class_weight="auto"),
    bad("class_weight list", "class_weight", "[1]", error=TypeError, class_weight=[1]),
]
OUT_OF_RANGE = {
    "C": [0, -1, np.nan, -np.inf],
    "weight_decay": [-1, np.nan, np.inf],
    "temperature": [0, -1, np.inf, np.nan, 1e-300],
    "label_smoothing": [1, -0.1, np.nan],
    "margin": [-1, np.nan, np.inf],
    "tol": [-1, np.nan, np.inf],
    "max_iter": [0, -1, 1.5, np.inf],
    "solver": ["sgd", "LBFGS"],
    "loss": ["hinge", 2.5],
    "n_jobs": [0, 1.5],
    "verbose": [-1, 1.5],
    "device": ["tpu", "cuda:x"],
    "random_state": [-1],
    "warm_start": [2],
    "fit_intercept": ["yes", 1],
    "penalize_intercept": ["no", 0],
}
WRONG_TYPE = {
    "C": ["a", None, True, [1.0]],
    "weight_decay": ["a", True, [1.0]],
    "temperature": ["a", None, True],
    "label_smoothing": ["a", None, True],
    "margin": ["a", None, True],
    "tol": ["a", None, True],
    "max_iter": ["a", None, True],
    "solver": [None, 1, solvers.LBFGS],
    "loss": [None],
    "n_jobs": ["a", True],
    "verbose": ["a", None],
    "device": [1],
    "random_state": ["a", 1.5],
    "warm_start": ["a", None],
    "fit_intercept": [None],
    "penalize_intercept": [None],
}
BAD_PARAMETERS = [
    bad(
        f"{name}={value!r}",
        name,
        str(value) if value is np.nan else repr(value),
        error=(ValueError, TypeError),
        **{name: value},
    )
    for table in (OUT_OF_RANGE, WRONG_TYPE)
    for name, values in table.items()
    for value in values
] + [
    bad("margin shape", "margin", "(3, 3)", "(2, 2)", margin=np.zeros((2, 2))),
    bad("margin diagonal", "margin", "zero diagonal", "1.0", margin=np.eye(3)),
    bad("margin nan", "margin", "finite", "nan", margin=np.full((3, 3), np.nan)),
    bad("margin negative", "margin", "-1.0", margin=np.eye(3) - 1),
    bad(
        "margin ragged",
        "margin",
        "[[0, 1], [1]]",
        error=(ValueError, TypeError),
        margin=[[0, 1], [1]],
    ),
    bad(
        "cuda without CuPy",
        "device",
        "'cuda:1'",
        "CuPy",
        "device='cpu'",
        device="cuda:1",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("cupy") is not None, reason="CuPy is here"
        ),
    ),
]


@pytest.mark.parametrize("fitted", [False, True], ids=["unfitted", "fitted"])
@pytest.mark.parametrize(
    ("params", "data", "error", "words"),
    BAD_DATA + BAD_TARGETS + BAD_WEIGHTS + BAD_PARAMETERS,
)
def test_bad_input_is_refused_before_computing_and_changes_nothing(
    params, data, error, words, fitted, monkeypatch
):
    model = SoftmaxRegression(warm_start=True)
    if fitted:
        model.fit(pd.DataFrame(WINE).add_prefix("x"), WINE_Y)
    model.set_params(**params)
    before = dict(vars(model))

    def compute(*args, **kwargs):
        raise AssertionError("bad input reached the solver")

    monkeypatch.setattr("softreg._softmax.solve", compute)
    with pytest.raises(error) as caught:
        model.fit(*data)
    message = str(caught.value)
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in: {message}"
    after = vars(model)
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)


def test_a_fit_that_breaks_in_the_solver_leaves_the_last_one(monkeypatch):
    model = SoftmaxRegression().fit(X, Y)
    before = dict(vars(model))

    def breaks(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("softreg._softmax.solve", breaks)
    with pytest.raises(MemoryError):
        model.fit(WINE, WINE_Y)
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is before[name] for name in before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("LBFGS", {"memory": 0}), ("memory", "0")),
        (("LBFGS", {"memory": 1.5}), ("memory", "1.5")),
        (("LBFGS", {"memory": "a"}), ("memory", "'a'")),
        (("LBFGS", {"memory": None}), ("memory", "None")),
        (("LBFGS", {"max_line_search": 0}), ("max_line_search", "0")),
        (("NewtonCG", {"cg_tol": 2}), ("cg_tol", "(0, 1)", "2")),
        (("NewtonCG", {"cg_tol": 0}), ("cg_tol", "(0, 1)", "0")),
        (("NewtonCG", {"cg_tol": np.nan}), ("cg_tol", "nan")),
        (("NewtonCG", {"cg_tol": "a"}), ("cg_tol", "'a'")),
        (("NewtonCG", {"max_cg": 0}), ("max_cg", "0")),
        (("NewtonCG", {"max_cg": 2.5}), ("max_cg", "2.5")),
        (("NewtonCG", {"max_cg": np.nan}), ("max_cg", "nan")),
        (("NewtonCG", {"patience": 0}), ("patience", "0")),
    ],
    ids=str,
)
def test_solver_options_out_of_range_are_refused(options, words):
    solver, option = options
    with pytest.raises((ValueError, TypeError)) as caught:
        getattr(solvers, solver)(**option)
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"


@pytest.mark.parametrize("method", [*PREDICTORS, "sparsify", "densify"])
def test_an_unfitted_estimator_says_so(method):
    model = SoftmaxRegression()
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(model, method)(*([X] if method in PREDICTORS else []))


@pytest.mark.parametrize("method", PREDICTORS)
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (X[:, :3], ("3 features", "4 features")),
        (scipy.sparse.csr_array(np.hstack([X, X])), ("8 features", "4 features")),
        (with_entry(X, (0, 0), np.nan), ("X", "NaN")),
        (with_entry(X, (0, 0), np.inf), ("X", "infinity")),
        (X[0], ("1D", "Reshape")),
        (X[:0], ("0 sample(s)",)),
        (X + 1j, ("Complex",)),
        (np.full((2, D), "cat"), ("'cat'",)),
    ],
    ids=[
        "3 columns",
        "8 columns",
        "nan",
        "inf",
        "1-d",
        "no rows",
        "complex",
        "strings",
    ],
)
def test_bad_rows_to_predict_are_refused(plain, method, rows, words):
    before = dict(vars(plain))
    with pytest.raises(ValueError, match=r".") as caught:
        getattr(plain, method)(rows)
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"
    assert vars(plain) == before


def test_columns_of_other_names_are_refused():
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = SoftmaxRegression().fit(frame, Y)
    assert list(model.feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="feature names should match") as caught:
        model.predict(frame[list("dcba")])
    assert "take X[model.feature_names_in_]" in str(caught.value)
    with pytest.raises(ValueError, match=r"in that order\.$"):
        SoftmaxRegression().fit(X, Y).predict(X[:, :3])


def test_names_of_columns_go_when_the_next_fit_has_none():
    model = SoftmaxRegression().fit(pd.DataFrame(X, columns=list("abcd")), Y)
    model.fit(X, Y)
    assert not hasattr(model, "feature_names_in_")


# -- kinds of X -----------------------------------------------------------------------


def strided(X):
    wide = np.full((2 * N, 2 * D), np.nan)
    wide[::2, ::2] = X
    return wide[::2, ::2]


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def mixed_frame(X):
    frame = pd.DataFrame(X, columns=list("abcd"))
    types = {"a": np.int64, "b": np.float32, "c": np.uint8, "d": np.float64}
    return frame.astype(types)


def mixed_polars(X):
    types = [pl.Int64, pl.Float32, pl.UInt8, pl.Float64]
    columns = {name: pl.Series(X[:, j]).cast(types[j]) for j, name in enumerate("abcd")}
    return pl.DataFrame(columns)


KINDS = {
    "list": lambda X: X.tolist(),
    "list of arrays": list,
    "F order": np.asfortranarray,
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "every second column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "every second of both": strided,
    "rows reversed": lambda X: X[::-1].copy()[::-1],
    "columns reversed": lambda X: X[:, ::-1].copy()[:, ::-1],
    "read-only": read_only,
    "big-endian": lambda X: X.astype(">f8"),
    "long double": lambda X: X.astype(np.longdouble),
    "objects": lambda X: X.astype(object),
    "strings of numbers": lambda X: X.astype(str),
    "pandas": pd.DataFrame,
    "pandas of mixed types": mixed_frame,
    "pandas of nullable integers": lambda X: pd.DataFrame(X).astype("Int64"),
    "polars": lambda X: pl.DataFrame(X, schema=list("abcd")),
    "polars of mixed types": mixed_polars,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_array_gives_the_same_fit(plain, kind):
    data = KINDS[kind](X)
    model = tight().fit(data, Y)
    assert_same_fit(model, plain)
    proba = model.predict_proba(data)
    np.testing.assert_allclose(proba, plain.predict_proba(X), atol=1e-8)


def test_a_memory_map_gives_the_same_fit(plain, tmp_path):
    data = np.memmap(tmp_path / "X", dtype=float, mode="w+", shape=X.shape)
    data[:] = X
    data.flush()
    del data
    data = np.memmap(tmp_path / "X", dtype=float, mode="r", shape=X.shape)
    assert_same_fit(tight().fit(data, Y), plain)


@pytest.mark.parametrize("container", ["matrix", "array"])
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
def test_every_sparse_format_gives_the_same_fit(plain, form, container):
    with warnings.catch_warnings(action="ignore"):  # DIA is a poor choice here
        data = getattr(scipy.sparse, f"{form}_{container}")(X)
    model = tight().fit(data, Y)
    assert_same_fit(model, plain)
    scores = model.decision_function(data)
    np.testing.assert_allclose(scores, plain.decision_function(X), atol=1e-6)


def test_sparse_indices_of_64_bits_give_the_same_fit(plain):
    data = scipy.sparse.csr_array(X)
    data.indices = data.indices.astype(np.int64)
    data.indptr = data.indptr.astype(np.int64)
    model = tight().fit(data, Y)
    assert_same_fit(model, plain)
    np.testing.assert_array_equal(model.predict(data), plain.predict(X))


def untidy_csr(X):
    """X with its columns in reverse, and every entry stored as two halves."""
    columns = np.tile(np.repeat(np.arange(D)[::-1], 2), N)
    values = np.repeat(X[:, ::-1] / 2, 2, axis=1).ravel()
    return scipy.sparse.csr_matrix((values, columns, np.arange(N + 1) * 2 * D))


def test_unsorted_and_duplicate_indices_give_the_same_fit(plain):
    data = untidy_csr(X)
    model = tight().fit(data, Y)
    assert_same_fit(model, plain)
    np.testing.assert_allclose(
        model.predict_proba(data), plain.predict_proba(X), atol=1e-8
    )


def test_duplicates_of_true_are_true_once():
    data = scipy.sparse.csr_matrix(np.median(X, axis=0) < X)
    doubled = scipy.sparse.csr_matrix(
        (np.repeat(data.data, 2), np.repeat(data.indices, 2), 2 * data.indptr)
    )
    assert_same_fit(tight().fit(doubled, Y), tight().fit(data, Y))


@pytest.mark.parametrize("make", [np.array, np.asfortranarray, untidy_csr])
def test_fit_and_predict_leave_their_input_as_it_was(make):
    data, y, weight = make(X), Y.copy(), np.ones(N)
    twin = data.copy()
    SoftmaxRegression(solver="newton-cg").fit(data, y, weight).predict_proba(data)
    if scipy.sparse.issparse(data):
        assert data.nnz == twin.nnz
        np.testing.assert_array_equal(data.indices, twin.indices)
        data, twin = data.data, twin.data
    np.testing.assert_array_equal(data, twin)
    np.testing.assert_array_equal(y, Y)
    np.testing.assert_array_equal(weight, 1)


AS_SINGLE = ["float32", "uint8", "int8", "int16", "float16", "bool"]
AS_DOUBLE = ["int32", "int64", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", AS_SINGLE + AS_DOUBLE)
def test_small_types_give_the_fit_of_their_values(dtype, sparse):
    if sparse and dtype == "float16":
        pytest.skip("SciPy has no sparse float16")
    data = (np.median(X, axis=0) < X if dtype == "bool" else X).astype(dtype)
    wide = data.astype(float)
    if sparse:
        data = scipy.sparse.csr_array(data)
    single = dtype in AS_SINGLE
    model = tight(tol=1e-6 if single else 1e-11).fit(data, Y)
    reference = tight().fit(wide, Y)
    assert model.coef_.dtype == (np.float32 if single else np.float64)
    # The penalty is strong convexity: a gap bounds the distance in W.
    gap = model.optimality_gap_ + reference.optimality_gap_
    distance = np.linalg.norm(model.coef_ - reference.coef_)
    assert distance <= np.sqrt(2 * gap / model.weight_decay_) + 1e-8
    assert model.objective_ == pytest.approx(reference.objective_, rel=2e-6)
    proba = model.predict_proba(data)
    assert proba.dtype == model.coef_.dtype
    np.testing.assert_allclose(
        proba, reference.predict_proba(wide), atol=2e-3 if single else 1e-8
    )


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_small_types_do_not_overflow(dtype):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(60, 5)) + np.arange(60)[:, None] % 3
    data = np.clip(40 * data, -120, 120).astype(dtype)
    if dtype == "float16":
        data *= 400
    y = np.arange(60) % 3
    model = SoftmaxRegression(tol=1e-6).fit(data, y)
    wide = data.astype(float)
    reference = tight().fit(wide, y)
    assert model.objective_ - reference.objective_ <= 1e-6 * model.objective_
    np.testing.assert_array_equal(model.predict(data), reference.predict(wide))


# -- kinds of y -----------------------------------------------------------------------

NAMES = np.array(["setosa", "versicolor", "virginica"])
LABELS = {
    "list": Y.tolist(),
    "floats": Y.astype(float),
    "strings": NAMES[Y],
    "list of strings": NAMES[Y].tolist(),
    "objects": NAMES[Y].astype(object),
    "not sorted": np.array([10, 50, 20])[Y],
    "negative": np.array([-1, -7, 3])[Y],
    "uint8": np.array([200, 7, 255], dtype=np.uint8)[Y],
    "beyond 2**53": np.array([2**60, 2**60 + 1, 2**60 + 2])[Y],
    "pandas": pd.Series(NAMES[Y], index=np.arange(N)[::-1]),
    "pandas categorical": pd.Series(pd.Categorical(NAMES[Y], categories=NAMES[::-1])),
    "pandas strings": pd.Series(NAMES[Y], dtype="string"),
    "pandas integers": pd.Series(Y, dtype="Int64"),
    "polars": pl.Series(NAMES[Y]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_every_kind_of_label_gives_the_same_fit(plain, kind):
    y = LABELS[kind]
    labels = np.asarray(y)
    model = tight().fit(X, y)
    np.testing.assert_array_equal(model.classes_, np.unique(labels))
    order = [model.classes_.tolist().index(label) for label in labels[[0, 50, 100]]]
    np.testing.assert_allclose(model.coef_[order], plain.coef_, atol=1e-8)
    np.testing.assert_allclose(model.intercept_[order], plain.intercept_, atol=1e-8)
    where = np.array([0, 50, 100])[plain.predict(X)]
    np.testing.assert_array_equal(model.predict(X), labels[where])


@pytest.mark.parametrize("labels", [[False, True], ["no", "yes"], [-1, 1], [3, 8]])
def test_two_labels_of_any_kind_give_the_same_fit(labels):
    rows, codes = X[50:], Y[50:] - 1
    reference = tight().fit(rows, codes)
    model = tight().fit(rows, np.array(labels)[codes])
    assert model.classes_.tolist() == labels
    np.testing.assert_allclose(model.coef_, reference.coef_, atol=1e-8)
    expected = np.array(labels)[reference.predict(rows)]
    np.testing.assert_array_equal(model.predict(rows), expected)


def test_a_column_of_labels_is_taken_with_a_warning(plain):
    with pytest.warns(DataConversionWarning, match="column-vector"):
        model = tight().fit(X, Y[:, None])
    assert_same_fit(model, plain)


def test_one_hot_rows_are_hard_labels(plain):
    for rows in (SOFT, SOFT.astype(np.float32), pd.DataFrame(SOFT), SOFT.tolist()):
        assert_same_fit(tight().fit(X, rows), plain)


def test_an_empty_soft_class_is_taken_where_the_optimum_is_finite():
    rows = np.insert(SOFT, 1, 0.0, axis=1)
    for params in ({"label_smoothing": 0.1}, {"penalize_intercept": True}):
        model = SoftmaxRegression(**params).fit(X, rows)
        assert model.converged_
        assert model.coef_.shape == (4, D)
        assert np.isfinite(model.coef_).all()


@EXAMPLES
@given(
    seed=st.integers(0, 2**32 - 1),
    n_classes=st.integers(2, 4),
    smoothing=st.sampled_from([0.0, 0.2]),
    temperature=st.sampled_from([1.0, 2.0]),
)
def test_a_soft_row_is_its_classes_each_with_its_share(
    seed, n_classes, smoothing, temperature
):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(30, 3))
    soft = rng.dirichlet(np.full(n_classes, 0.5), size=30)
    soft /= soft.sum(axis=1, keepdims=True)
    weight = rng.uniform(0.1, 2, size=30)
    params = {"label_smoothing": smoothing, "temperature": temperature}
    left = tight(**params).fit(rows, soft, weight)
    right = tight(**params).fit(
        np.repeat(rows, n_classes, axis=0),
        np.tile(np.arange(n_classes), 30),
        (weight[:, None] * soft).ravel(),
    )
    assert_same_fit(left, right, tol=1e-5)
    assert left.objective_ == pytest.approx(right.objective_, rel=1e-9)


# -- weights --------------------------------------------------------------------------


@EXAMPLES
@given(
    copies=st.lists(st.integers(0, 3), min_size=30, max_size=30),
    class_weight=st.sampled_from([None, "balanced", {0: 3.0}]),
)
def test_a_weight_is_so_many_copies_and_0_none(copies, class_weight):
    copies = np.array(copies)
    copies[[0, 10]] = 1  # classes 0 and 1 stay
    rows, y = X[::5], Y[::5]
    params = {"class_weight": class_weight}
    left = tight(**params).fit(rows, y, copies)
    right = tight(**params).fit(np.repeat(rows, copies, axis=0), np.repeat(y, copies))
    assert_same_fit(left, right, tol=1e-5)
    assert left.objective_ == pytest.approx(right.objective_, rel=1e-9)


@pytest.mark.parametrize("gone", [0, 1, 2])
@pytest.mark.parametrize("params", [{}, {"label_smoothing": 0.1}, {"margin": 0.5}])
def test_weights_of_0_remove_a_class(gone, params):
    kept = gone != Y
    left = tight(**params).fit(X, Y, kept.astype(float))
    right = tight(**params).fit(X[kept], Y[kept])
    assert left.classes_.tolist() == [k for k in range(3) if k != gone]
    assert_same_fit(left, right)


def test_a_class_weight_of_0_removes_a_class():
    left = tight(class_weight={1: 0}).fit(X, Y)
    assert_same_fit(left, tight().fit(X[Y != 1], Y[Y != 1]))


def test_rows_of_weight_0_change_nothing(plain):
    rows = np.vstack([X, 1e3 * X[::-1]])
    weight = np.repeat([1.0, 0.0], N)
    for y in (np.append(Y, Y), np.vstack([SOFT, SOFT])):
        assert_same_fit(tight().fit(rows, y, weight), plain, tol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("weight", [1e-8, 1e-16, 1e-20, 1e-100])
def test_a_class_of_next_to_no_weight_is_solved_or_warned_of(solver, weight):
    model = SoftmaxRegression(solver=solver)
    caught = fit_recording_warnings(model, X, Y, np.where(Y == 2, weight, 1.0))
    assert [w.category for w in caught] == [ConvergenceWarning] * (not model.converged_)
    assert np.isfinite(model.coef_).all()
    two = SoftmaxRegression(solver=solver).fit(X[Y < 2], Y[Y < 2])
    np.testing.assert_array_equal(model.predict(X[Y < 2]), two.predict(X[Y < 2]))


@pytest.mark.parametrize("factor", [7.0, 1e-9, 100.0])
def test_weights_times_a_number_are_that_number_times_c(factor):
    weight = np.random.default_rng(0).uniform(0.1, 2, size=N)
    left = tight(C=1.0).fit(X, Y, factor * weight)
    assert_same_fit(left, tight(C=factor).fit(X, Y, weight), tol=1e-6)


@pytest.mark.parametrize("factor", [7.0, 1e-12, 1e12])
def test_weights_times_a_number_are_nothing_at_a_weight_decay(factor):
    weight = np.random.default_rng(0).uniform(0.1, 2, size=N)
    left = tight(weight_decay=0.01).fit(X, Y, factor * weight)
    assert_same_fit(left, tight(weight_decay=0.01).fit(X, Y, weight), tol=1e-7)


@pytest.mark.parametrize("labels", [np.arange(3), NAMES], ids=["ints", "strings"])
def test_class_weights_are_sample_weights(labels):
    given_weight = np.random.default_rng(0).uniform(0.1, 2, size=N)
    class_weight = {labels[0]: 2.0, labels[2]: 0.5}
    left = tight(class_weight=class_weight).fit(X, labels[Y], given_weight)
    weight = given_weight * np.array([2.0, 1.0, 0.5])[Y]
    assert_same_fit(left, tight().fit(X, labels[Y], weight))


def test_balanced_counts_by_sample_weight():
    weight = np.random.default_rng(0).uniform(0.1, 2, size=N) * (1.0 + Y)
    mass = np.bincount(Y, weight)
    left = tight(class_weight="balanced").fit(X, Y, weight)
    right = tight().fit(X, Y, weight * (weight.sum() / (3 * mass))[Y])
    assert_same_fit(left, right)


# -- warm start -----------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_refit_at_the_optimum_takes_no_work(solver, n_classes):
    kept = n_classes > WINE_Y
    rows, y = WINE[kept], WINE_Y[kept]
    model = SoftmaxRegression(warm_start=True, solver=solver, tol=1e-6).fit(rows, y)
    assert model.n_iter_ > 1
    objective = model.objective_
    model.fit(rows, y)
    assert model.n_iter_ <= 1
    assert model.objective_ <= objective * (1 + 1e-6)


CHANGES = {
    "renamed": lambda y: y + 10,
    "one renamed": lambda y: np.where(y == 1, 7, y),
    "now strings": lambda y: NAMES[y],
    "reordered": lambda y: np.array([2, 0, 1])[y],
    "one split": lambda y: np.where((y == 2) & (np.arange(len(y)) % 2 == 0), 3, y),
    "two merged": lambda y: np.minimum(y, 1),
    "two merged into a third": lambda y: np.where(y > 0, 5, 0),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("back", [False, True], ids=["there", "back"])
def test_a_warm_start_from_other_classes_reaches_the_optimum(solver, change, back):
    first, second = WINE_Y, CHANGES[change](WINE_Y)
    if back:
        first, second = second, first
    params = {"solver": solver, "tol": 1e-10}
    model = SoftmaxRegression(warm_start=True, **params).fit(WINE, first)
    model.fit(WINE, second)
    cold = SoftmaxRegression(**params).fit(WINE, second)
    assert model.converged_
    np.testing.assert_array_equal(model.classes_, cold.classes_)
    assert model.coef_.shape == cold.coef_.shape
    assert model.objective_ == pytest.approx(cold.objective_, rel=2e-10)
    np.testing.assert_allclose(model.coef_, cold.coef_, atol=1e-3)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_warm_start_keeps_the_rows_of_classes_that_stayed(n_classes):
    params = {"weight_decay": 0.01, "tol": 1e-9}
    kept = n_classes > WINE_Y
    model = SoftmaxRegression(warm_start=True, **params).fit(WINE, WINE_Y)
    model.fit(WINE[kept], WINE_Y[kept])
    cold = SoftmaxRegression(**params).fit(WINE[kept], WINE_Y[kept])
    assert model.history_["objective"][0] < cold.history_["objective"][0] / 2


@pytest.mark.parametrize("n_columns", [5, 13])
def test_a_warm_start_from_other_columns_is_a_cold_one(n_columns):
    model = SoftmaxRegression(warm_start=True, tol=1e-10).fit(WINE[:, :8], WINE_Y)
    model.fit(WINE[:, :n_columns], WINE_Y)
    assert_same_fit(
        model, SoftmaxRegression(tol=1e-10).fit(WINE[:, :n_columns], WINE_Y)
    )
    assert model.n_features_in_ == n_columns


def test_a_warm_start_follows_a_change_of_the_intercept():
    model = SoftmaxRegression(warm_start=True, tol=1e-10).fit(WINE, WINE_Y)
    for flag in (False, True):
        model.set_params(fit_intercept=flag).fit(WINE, WINE_Y)
        cold = SoftmaxRegression(fit_intercept=flag, tol=1e-10).fit(WINE, WINE_Y)
        assert model.objective_ == pytest.approx(cold.objective_, rel=2e-10)
        assert model.intercept_.any() == flag


def test_a_warm_start_from_sparse_coefficients():
    model = SoftmaxRegression(warm_start=True, tol=1e-6).fit(WINE, WINE_Y).sparsify()
    model.fit(WINE, WINE_Y)
    assert isinstance(model.coef_, np.ndarray)
    assert model.n_iter_ <= 1


# -- awkward columns ------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_constant_columns_change_nothing(solver, sparse):
    wide = np.column_stack([WINE, np.full(len(WINE), 5.0), np.zeros(len(WINE))])
    data = scipy.sparse.csr_array(wide) if sparse else wide
    params = {"solver": solver, "tol": 1e-10}
    model = SoftmaxRegression(**params).fit(data, WINE_Y)
    reference = SoftmaxRegression(**params).fit(WINE, WINE_Y)
    assert model.objective_ == pytest.approx(reference.objective_, rel=2e-10)
    np.testing.assert_allclose(model.coef_[:, -2:], 0, atol=1e-5)
    np.testing.assert_allclose(
        model.predict_proba(data), reference.predict_proba(WINE), atol=1e-4
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_column_twice_is_the_column_times_root_2(solver):
    params = {"solver": solver, "tol": 1e-10}
    model = SoftmaxRegression(**params).fit(np.hstack([WINE, WINE]), WINE_Y)
    reference = SoftmaxRegression(**params).fit(np.sqrt(2) * WINE, WINE_Y)
    assert model.objective_ == pytest.approx(reference.objective_, rel=2e-10)
    np.testing.assert_allclose(model.coef_[:, :13], model.coef_[:, 13:], atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_a_shift_of_the_columns_changes_no_probability(solver, sparse):
    params = {"solver": solver, "tol": 1e-6}
    shifted = WINE + 1e3
    data = scipy.sparse.csr_array(shifted) if sparse else shifted
    model = SoftmaxRegression(**params).fit(data, WINE_Y)
    reference = SoftmaxRegression(**params).fit(WINE, WINE_Y)
    assert model.objective_ == pytest.approx(reference.objective_, rel=2e-6)
    np.testing.assert_allclose(
        model.predict_proba(data), reference.predict_proba(WINE), atol=5e-3
    )


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_columns_of_any_scale_are_solved(solver, shift, sparse):
    units = np.logspace(-6, 6, WINE.shape[1])
    data = (WINE + shift) * units
    data = scipy.sparse.csr_array(data) if sparse else data
    other = "newton-cg" if solver != "newton-cg" else "newton-cholesky"
    # A penalty of the columns in their own units, at the same C.
    reference = SoftmaxRegression(solver=other, tol=1e-8).fit(WINE * units, WINE_Y)
    model = SoftmaxRegression(solver=solver).fit(data, WINE_Y)
    assert model.converged_
    assert model.objective_ - reference.objective_ <= 1e-4 * model.objective_
    assert reference.objective_ - model.objective_ <= 1e-7 * reference.objective_


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_penalty_with_duplicate_and_constant_columns(solver):
    rows = np.hstack([X, X, np.ones((N, 1))])
    rng = np.random.default_rng(0)
    y = np.where(rng.random(N) < 0.2, rng.integers(0, 3, N), Y)
    params = {"C": np.inf, "solver": solver, "tol": 1e-6}
    model = SoftmaxRegression(**params).fit(rows, y)
    reference = SoftmaxRegression(**params).fit(X, y)
    assert model.converged_
    assert model.optimality_gap_ == np.inf
    assert np.isfinite(model.coef_).all()
    assert model.objective_ == pytest.approx(reference.objective_, rel=1e-6)
    np.testing.assert_allclose(
        model.predict_proba(rows), reference.predict_proba(X), atol=1e-3
    )


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_that_hold_no_numbers_are_named(library):
    frames = pytest.importorskip(library)
    columns = {"age": range(10), "town": list("abcde" * 2), "sex": list("mf" * 5)}
    with pytest.raises(ValueError, match="here 'town', 'sex': by OneHotEncoder"):
        SoftmaxRegression().fit(frames.DataFrame(columns), [0, 1] * 5)
    many = {f"c{j}": list("ab" * 5) for j in range(9)}
    with pytest.raises(ValueError, match=r"'c5', \.\.\.: by"):
        SoftmaxRegression().fit(frames.DataFrame(many), [0, 1] * 5)
    flags = frames.DataFrame({"a": [True, False] * 5, "b": np.full(10, np.nan)})
    with pytest.raises(ValueError, match="NaN") as caught:
        SoftmaxRegression().fit(flags, [0, 1] * 5)
    assert "Encode" not in str(caught.value)


def test_columns_of_dates_are_named():
    frames = pytest.importorskip("pandas")
    dates = {"age": range(10), "day": frames.date_range("2020", periods=10)}
    with pytest.raises(TypeError, match="here 'day': by OneHotEncoder"):
        SoftmaxRegression().fit(frames.DataFrame(dates), [0, 1] * 5)


# -- progress and warnings ------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_verbose_prints_one_line_for_each_entry_of_the_history(solver, capsys):
    SoftmaxRegression(solver=solver).fit(WINE, WINE_Y)
    assert capsys.readouterr() == ("", "")
    model = SoftmaxRegression(solver=solver, verbose=1).fit(WINE, WINE_Y)
    out, err = capsys.readouterr()
    assert err == ""
    assert len(out.splitlines()) == len(model.history_["objective"])
    assert f"{model.history_['objective'][-1]:.8g}" in out.splitlines()[-1]


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_separated_classes_without_a_penalty_warn_and_stay_finite(
    solver, fit_intercept
):
    params = {"C": np.inf, "solver": solver, "fit_intercept": fit_intercept}
    model = SoftmaxRegression(**params)
    with pytest.warns(ConvergenceWarning, match="separated") as caught:
        model.fit(WINE, WINE_Y)
    assert len(caught) == 1
    assert "finite C" in str(caught[0].message)
    assert not model.converged_
    assert np.isfinite(model.coef_).all()
    assert np.isfinite(model.intercept_).all()
    np.testing.assert_array_equal(model.predict(WINE), WINE_Y)


@pytest.mark.parametrize("wide", [False, True], ids=["tall", "wide"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("max_iter", [1, 2, 3, 4])
def test_a_fit_cut_short_warns_once_and_its_gap_holds(solver, max_iter, wide):
    rows, y = (WINE[::18], WINE_Y[::18]) if wide else (WINE, WINE_Y)
    best = SoftmaxRegression(tol=1e-10).fit(rows, y)
    model = SoftmaxRegression(solver=solver, max_iter=max_iter, tol=1e-7)
    caught = fit_recording_warnings(model, rows, y)
    assert model.n_iter_ <= max_iter
    assert not model.converged_ or max_iter > 1 or wide
    assert [w.category for w in caught] == [ConvergenceWarning] * (not model.converged_)
    for warning in caught:
        text = str(warning.message)
        assert solver in text
        assert f"{model.n_iter_} iterations" in text
        assert f"{model.optimality_gap_ / model.objective_:.1e}" in text
        assert "Increase max_iter" in text
        assert warning.filename == __file__
    assert model.objective_ - best.objective_ + 1e-9 >= 0
    assert model.objective_ - best.objective_ <= model.optimality_gap_ + 1e-12
    met = model.optimality_gap_ <= 1e-7 * model.objective_
    assert met == model.converged_


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 0.0])
def test_any_tol_is_met_or_warned_of_once(solver, tol, dtype):
    rows = X.astype(dtype)
    best = SoftmaxRegression(tol=1e-12).fit(X, Y)
    model = SoftmaxRegression(solver=solver, tol=tol)
    caught = fit_recording_warnings(model, rows, Y)
    met = model.optimality_gap_ <= tol * model.objective_
    assert model.converged_ == met
    assert [w.category for w in caught] == [ConvergenceWarning] * (not met)
    assert met or tol < (1e-5 if dtype == np.float32 else 1e-9)
    slack = 1e-12
    assert model.objective_ - best.objective_ <= model.optimality_gap_ + slack


# -- threads and processes ------------------------------------------------------------


@pytest.fixture(scope="module")
def several_blocks():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40000, 20)) * (rng.random((40000, 20)) < 0.5)
    scores = rows @ rng.normal(size=(20, 4)) + rng.gumbel(size=(40000, 4))
    return rows, scores.argmax(axis=1)


def fit_coef(rows, y, n_jobs, solver="auto"):
    model = SoftmaxRegression(n_jobs=n_jobs, solver=solver).fit(rows, y)
    return np.column_stack([model.coef_, model.intercept_])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("form", [np.asarray, np.float32, scipy.sparse.csr_array])
def test_bits_do_not_depend_on_n_jobs(several_blocks, form, solver):
    rows, y = several_blocks
    rows = form(rows)
    one = fit_coef(rows, y, 1, solver)
    for n_jobs in (2, 3, None):
        np.testing.assert_array_equal(fit_coef(rows, y, n_jobs, solver), one)


def test_fits_in_eight_threads_are_the_serial_fits(several_blocks):
    rows, y = several_blocks
    jobs = [(rows[::k], y[::k]) for k in (1, 2, 3, 4)] * 2
    serial = [fit_coef(*job, 1, "newton-cg") for job in jobs]
    started = threading.Barrier(8)

    def fit(job):
        started.wait()
        return fit_coef(*job, 2, "newton-cg")

    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(fit, jobs))
    for left, right in zip(threaded, serial, strict=True):
        np.testing.assert_array_equal(left, right)


def blas_threads():
    return [
        library["num_threads"]
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]


@pytest.fixture
def two_blas_threads():
    if min(blas_threads(), default=1) < 2:
        pytest.skip("BLAS has one thread here")


class Progress:
    """A stdout whose first line from a thread runs that thread's function."""

    def __init__(self):
        self.functions = {}

    def write(self, text):
        self.functions.pop(threading.get_ident(), lambda: None)()

    def flush(self):
        pass


@pytest.mark.parametrize(
    "elsewhere", [False, True], ids=["main thread", "other thread"]
)
def test_blas_has_one_thread_within_a_fit(two_blas_threads, monkeypatch, elsewhere):
    SoftmaxRegression().fit(WINE, WINE_Y)
    progress, seen = Progress(), []
    monkeypatch.setattr("sys.stdout", progress)

    def fit():
        progress.functions[threading.get_ident()] = lambda: seen.append(blas_threads())
        SoftmaxRegression(verbose=1).fit(WINE, WINE_Y)

    if elsewhere:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(fit).result()
    else:
        fit()
    assert set(seen[0]) == {1}


def test_fits_that_overlap_leave_blas_as_it_was(two_blas_threads, monkeypatch):
    before, during = blas_threads(), []
    progress = Progress()
    monkeypatch.setattr("sys.stdout", progress)
    inside = [threading.Event(), threading.Event()]
    leave = [threading.Event(), threading.Event()]

    def fit(turn):
        def wait():
            inside[turn].set()
            assert leave[turn].wait(60)
            during.append(blas_threads())

        progress.functions[threading.get_ident()] = wait
        SoftmaxRegression(verbose=1).fit(WINE, WINE_Y)

    with ThreadPoolExecutor(2) as pool:
        fits = []
        for turn in (0, 1):  # the first to begin is the first to end
            fits.append(pool.submit(fit, turn))
            assert inside[turn].wait(60)
        for turn in (0, 1):
            leave[turn].set()
            fits[turn].result()
    assert blas_threads() == before
    assert all(set(threads) == {1} for threads in during)


def test_fits_in_worker_processes_are_those_of_this_one(several_blocks):
    rows, y = several_blocks
    jobs = [(rows[::k], y[::k], n_jobs) for k in (1, 2) for n_jobs in (None, 2)]
    parallel = joblib.Parallel(n_jobs=2, backend="loky")
    remote = parallel(joblib.delayed(fit_coef)(*job) for job in jobs)
    for job, coef in zip(jobs, remote, strict=True):
        np.testing.assert_array_equal(coef, fit_coef(*job))


def test_workers_of_joblib_share_the_cores():
    parallel = joblib.Parallel(n_jobs=2, backend="loky")
    for n_jobs in (None, -1):
        share = parallel(joblib.delayed(n_threads)(n_jobs) for _ in range(2))
        assert sum(share) <= max(2, joblib.cpu_count())


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_fit_twice_has_the_same_bits(solver):
    rows, y = load_digits(return_X_y=True)
    rows, y = rows[:300, 20:40], y[:300] % 4
    one, two = (fit_coef(rows, y, None, solver) for _ in range(2))
    np.testing.assert_array_equal(one, two)
