"""On a CUDA GPU with CuPy: the numbers of the CPU. Skipped and counted without one."""

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB

from softreg import (
    HierarchicalSoftmax,
    LargeMarginSoftmaxRegression,
    RobustSoftmaxRegression,
    SoftmaxRegression,
    SoftmaxRegressionCV,
    softmax_path,
    solvers,
)
from softreg import _fused as fused
from softreg import _kernels as kernels
from softreg._arrays import gpu_reference, to_numpy

try:
    gpu_reference("cuda")
    MISSING = ""
except RuntimeError as error:
    MISSING = str(error)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(MISSING), reason=f"no GPU: {MISSING}"),
]

WINE = load_wine(return_X_y=True)
DIGITS = load_digits(return_X_y=True)
WEIGHT = np.random.default_rng(0).exponential(size=178)
CASES = {
    "wine": (*WINE, {}),
    "two classes": (*load_breast_cancer(return_X_y=True), {}),
    "balanced": (*WINE, {"class_weight": "balanced"}),
    "margin": (*WINE, {"margin": 0.5, "label_smoothing": 0.1}),
    "entmax15": (*WINE, {"loss": "entmax15"}),
    "sparsemax": (*WINE, {"loss": "sparsemax", "C": 1e-2}),
    "top-k": (WINE[0] / WINE[0].std(axis=0), WINE[1], {"loss": "topk-2", "C": 0.1}),
    "soft": (WINE[0], np.random.default_rng(0).dirichlet(np.ones(4), 178), {}),
    "lbfgs": (*WINE, {"solver": "lbfgs"}),
    "SciPy's": (*WINE, {"solver": solvers.LBFGS(on_host=True)}),
    "newton-cholesky": (*WINE, {"solver": "newton-cholesky"}),
    "newton-cg": (*DIGITS, {"solver": "newton-cg", "C": 1e-2}),
    "minibatch": (*DIGITS, {"solver": "minibatch", "C": 1e-2}),
    "by columns": (np.asfortranarray(DIGITS[0]), DIGITS[1], {"C": 1e-3}),
    "bytes": (DIGITS[0].astype(np.uint8), DIGITS[1], {"C": 1e-3}),
    "wide": (DIGITS[0][:40, :], DIGITS[1][:40], {}),
}  # fmt: skip


@pytest.mark.parametrize("way", ["cupy", "resident", "streamed"])
@pytest.mark.parametrize("case", CASES)
def test_a_fit_is_that_of_the_host(case, way, monkeypatch):
    import cupy

    X, y, params = CASES[case]
    model = SoftmaxRegression(tol=1e-9, **params)
    weight = None if len(X) != 178 else WEIGHT
    expected = clone(model).fit(X, y, weight)
    if way == "cupy":
        other = clone(model).fit(cupy.asarray(X), cupy.asarray(y), weight)
        assert isinstance(other.coef_, cupy.ndarray)
        proba = other.predict_proba(cupy.asarray(X))
        assert isinstance(proba, cupy.ndarray)
    else:
        if way == "streamed":
            monkeypatch.setattr("softreg._rows.RESIDENT_SHARE", 0.0)
            monkeypatch.setattr("softreg._problem.gpu_block_rows", lambda *shape: 50)
        other = clone(model).set_params(device="cuda").fit(X, y, weight)
        assert type(other.coef_) is np.ndarray
        proba = other.predict_proba(X)
        assert type(proba) is np.ndarray
    assert other.objective_ == pytest.approx(expected.objective_, rel=1e-8)
    np.testing.assert_allclose(to_numpy(other.coef_), expected.coef_, atol=1e-4)
    np.testing.assert_allclose(to_numpy(proba), expected.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("streamed", [False, True])
def test_weights_count_to_the_last_digits(streamed, monkeypatch):
    if streamed:
        monkeypatch.setattr("softreg._rows.RESIDENT_SHARE", 0.0)
    X, y = WINE
    repeats = np.arange(178) % 3
    model = SoftmaxRegression(C=1e-3, tol=1e-13, device="cuda", class_weight="balanced")
    other = clone(model).fit(np.repeat(X, repeats, axis=0), np.repeat(y, repeats))
    model.fit(X, y, repeats)
    np.testing.assert_allclose(model.coef_, other.coef_, atol=1e-6)
    host = clone(model).set_params(device=None).fit(X, y, repeats)
    np.testing.assert_allclose(model.coef_, host.coef_, atol=1e-6)


@pytest.mark.parametrize("way", ["cupy", "resident", "streamed"])
def test_sparse_rows(way, monkeypatch):
    import cupyx.scipy.sparse

    rng = np.random.default_rng(0)
    words = [" ".join(f"w{i}" for i in rng.zipf(1.3, 30) % 300) for _ in range(400)]
    X = CountVectorizer().fit_transform(words).astype(float)
    y = rng.integers(0, 4, 400)
    expected = SoftmaxRegression(1e-2).fit(X, y)
    # Blocks that begin anywhere in the stored entries: libraries differ in what they
    # ask of where memory begins.
    monkeypatch.setattr("softreg._problem.gpu_block_rows", lambda *shape: 61)
    if way == "cupy":
        rows = cupyx.scipy.sparse.csr_matrix(X)
        other = SoftmaxRegression(1e-2).fit(rows, y)
        labels = to_numpy(other.predict(rows))
    else:
        if way == "streamed":
            monkeypatch.setattr("softreg._rows.RESIDENT_SHARE", 0.0)
        other = SoftmaxRegression(1e-2, device="cuda").fit(X, y)
        labels = other.predict(X)
    assert other.objective_ == pytest.approx(expected.objective_, rel=1e-4)
    np.testing.assert_allclose(to_numpy(other.coef_), expected.coef_, atol=1e-3)
    assert (labels == expected.predict(X)).mean() > 0.99


@pytest.mark.parametrize(
    "model",
    [
        LargeMarginSoftmaxRegression(C=0.1, tol=1e-6),
        HierarchicalSoftmax(SoftmaxRegression(C=0.1, tol=1e-6)),
        HierarchicalSoftmax(MultinomialNB()),
    ],
    ids=str,
)
def test_margins_and_trees_of_sparse_rows(model):
    import cupy
    import cupyx.scipy.sparse

    X, y = scipy.sparse.csr_matrix(DIGITS[0] / 16), DIGITS[1]
    expected = clone(model).fit(X, y)
    rows = cupyx.scipy.sparse.csr_matrix(X)
    other = clone(model).fit(rows, y)
    proba = other.predict_proba(rows)
    assert isinstance(proba, cupy.ndarray)
    np.testing.assert_allclose(proba.get(), expected.predict_proba(X), atol=1e-3)
    assert other.score(rows, y) == pytest.approx(expected.score(X, y), abs=1e-2)


@pytest.mark.parametrize("dtype", [bool, np.float32, np.float64])
def test_entries_in_any_order_and_stored_twice(dtype):
    import cupyx.scipy.sparse

    rng = np.random.default_rng(0)
    entries = rng.integers(0, 2, 6000).astype(dtype)
    parts = entries, rng.integers(0, 30, 6000), np.arange(301) * 20
    rows = scipy.sparse.csr_matrix(parts, shape=(300, 30))
    y = rng.integers(0, 3, 300)
    expected = SoftmaxRegression(1e-2, tol=1e-9).fit(rows.toarray(), y)
    X = cupyx.scipy.sparse.csr_matrix(rows)
    there = SoftmaxRegression(1e-2, tol=1e-9).fit(X, y)
    assert X.nnz == 6000
    moved = SoftmaxRegression(1e-2, tol=1e-9, device="cuda").fit(rows, y)
    assert rows.nnz == 6000
    for model in (there, moved):
        assert model.objective_ == pytest.approx(expected.objective_, rel=1e-8)
        np.testing.assert_allclose(to_numpy(model.coef_), expected.coef_, atol=1e-4)


@pytest.mark.parametrize("n_classes", [2, 10, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fused_kernels_are_the_plain_operations(n_classes, dtype, monkeypatch):
    import cupy

    rng = np.random.default_rng(0)
    n_rows = 5000
    X = cupy.asarray(rng.normal(size=(n_rows, 20)), dtype=dtype)
    y = cupy.asarray(rng.integers(0, n_classes, n_rows))
    called = []
    for name in ("residual", "curved", "line"):
        own = getattr(fused, name)
        monkeypatch.setattr(
            fused, name, lambda *a, own=own, name=name: called.append(name) or own(*a)
        )
    model = SoftmaxRegression(1e-3, tol=1e-7, solver="newton-cg").fit(X, y)
    assert set(called) == {"residual", "curved", "line"}
    monkeypatch.setattr(kernels, "_fused_codes", lambda *args: None)
    plain = clone(model).fit(X, y)
    assert model.objective_ == pytest.approx(plain.objective_, rel=1e-7)
    np.testing.assert_allclose(to_numpy(model.coef_), to_numpy(plain.coef_), atol=1e-4)


def test_two_fits_have_the_same_bits():
    first = SoftmaxRegression(device="cuda").fit(*DIGITS)
    second = SoftmaxRegression(device="cuda").fit(*DIGITS)
    np.testing.assert_array_equal(first.coef_, second.coef_)


def test_no_array_of_the_coefficients_size_visits_the_host(monkeypatch):
    import cupy

    X = cupy.asarray(np.tile(DIGITS[0], (10, 1)))
    y = np.tile(DIGITS[1], 10)
    sizes = []

    def counted(array):
        sizes.append(array.size)
        return array if isinstance(array, np.ndarray) else array.get()

    for module in ("_loop", "_newton_cg", "_lbfgs"):
        monkeypatch.setattr(f"softreg.solvers.{module}.to_numpy", counted)
    for module in ("_objective", "_solve"):
        monkeypatch.setattr(f"softreg.{module}.to_numpy", counted)
    for solver in ("newton-cg", "lbfgs"):
        SoftmaxRegression(1e-3, solver=solver).fit(X, y)
    assert sizes
    assert max(sizes) <= 2


def test_the_estimators_around_it(monkeypatch):
    # Several blocks: the folds' weights of one are then no contiguous memory.
    monkeypatch.setattr("softreg._problem.gpu_block_rows", lambda *shape: 500)
    X, y = DIGITS
    path, other = softmax_path(X, y, Cs=3), softmax_path(X, y, Cs=3, device="cuda")
    np.testing.assert_allclose(other.objectives, path.objectives, rtol=2e-4)
    search = SoftmaxRegressionCV([1e-3, 1e-1], cv=3).fit(X, y)
    there = SoftmaxRegressionCV([1e-3, 1e-1], cv=3, device="cuda").fit(X, y)
    assert there.C_ == search.C_
    np.testing.assert_allclose(there.scores_, search.scores_, atol=1e-2)
    for wrap in (RobustSoftmaxRegression, HierarchicalSoftmax):
        host = wrap(SoftmaxRegression(1e-3)).fit(X, y)
        gpu = wrap(SoftmaxRegression(1e-3, device="cuda")).fit(X, y)
        assert (gpu.predict(X) == host.predict(X)).mean() > 0.99


def test_the_estimators_around_it_stay_where_x_is():
    import cupy

    X, y = DIGITS
    for model in (
        SoftmaxRegressionCV([1e-3, 1e-1], cv=3),
        SoftmaxRegressionCV([1e-3, 1e-1], cv=3, scoring="f1_macro"),
        RobustSoftmaxRegression(SoftmaxRegression(1e-3)),
        LargeMarginSoftmaxRegression(C=1e-3),
        HierarchicalSoftmax(SoftmaxRegression(1e-3)),
        HierarchicalSoftmax(SoftmaxRegression(1e-3), tree="huffman"),
        HierarchicalSoftmax(MultinomialNB()),
    ):
        here = clone(model).fit(X, y)
        there = clone(model).fit(cupy.asarray(X), cupy.asarray(y))
        labels = there.predict(cupy.asarray(X))
        for answer in (there.classes_, labels, there.predict_proba(cupy.asarray(X))):
            assert isinstance(answer, cupy.ndarray)
        assert (cupy.asnumpy(labels) == here.predict(X)).mean() > 0.99
        score = there.score(cupy.asarray(X), cupy.asarray(y))
        assert score == pytest.approx(here.score(X, y), abs=1e-2)


def test_offsets_are_of_64_bits(monkeypatch):
    import cupy

    if cupy.cuda.Device().mem_info[0] < 60e9:
        pytest.skip("needs 60 GB")
    n_rows, n_classes = 2_200_000, 1000
    rng = cupy.random.default_rng(0)
    X = rng.standard_normal((n_rows, 2), dtype=cupy.float32)
    y = rng.integers(0, n_classes, n_rows)
    model = SoftmaxRegression(tol=1e-3)
    expected = clone(model).fit(X, y)
    # One block, of 2.2e9 scores.
    monkeypatch.setattr("softreg._problem.even_cuts", lambda n, most: [(0, n)])
    sizes = []
    own = fused.residual
    monkeypatch.setattr(
        fused,
        "residual",
        lambda scores, *args: sizes.append(scores.size) or own(scores, *args),
    )
    model.fit(X, y)
    assert min(sizes) > 2**31
    assert model.objective_ == pytest.approx(expected.objective_, rel=1e-6)
    np.testing.assert_allclose(
        to_numpy(model.coef_), to_numpy(expected.coef_), atol=1e-4
    )


def test_another_gpu_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r"device='cuda:99' needs .* GPUs"):
        SoftmaxRegression(device="cuda:99").fit(*WINE)


def test_rows_of_the_host_for_a_fit_of_cupy_are_refused():
    import cupy

    model = SoftmaxRegression().fit(cupy.asarray(WINE[0]), WINE[1])
    with pytest.raises(ValueError, match=r"same namespace and device .* got numpy"):
        model.predict(WINE[0])
    with pytest.raises(ValueError, match="same namespace and device"):
        model.predict(scipy.sparse.csr_array(WINE[0]))


def test_tensor_cores_leave_the_optimum_exact():
    import cupy

    rng = np.random.default_rng(0)
    X = rng.normal(size=(50_000, 64)).astype(np.float32)
    y = (X[:, :20] + rng.gumbel(size=(50_000, 20))).argmax(axis=1)
    solver = solvers.NewtonCG(tensor_float=True)
    model = SoftmaxRegression(tol=1e-6, solver=solver).fit(cupy.asarray(X), y)
    assert model.optimality_gap_ <= 1e-6 * model.objective_
    exact = SoftmaxRegression(tol=1e-6).fit(X, y)
    assert model.objective_ == pytest.approx(exact.objective_, rel=3e-6)
    # Products are exact again.
    square = cupy.asarray(X[:64, :])
    exact = X[:64, :] @ X[:64, :]
    np.testing.assert_allclose((square @ square).get(), exact, rtol=1e-4, atol=1e-4)
