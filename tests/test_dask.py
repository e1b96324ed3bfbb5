"""Dask: the same fit wherever the rows lie, and whatever happens to a worker."""

import gc
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import scipy.sparse

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("distributed")
pd = pytest.importorskip("pandas")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import softreg._dask  # noqa: E402
import softreg._sharded  # noqa: E402
from softreg import (  # noqa: E402
    HierarchicalSoftmax,
    LargeMarginSoftmaxRegression,
    RobustSoftmaxRegression,
    SoftmaxRegression,
    SoftmaxRegressionCV,
    softmax_path,
)
from softreg._sharded import dealt  # noqa: E402

pytestmark = pytest.mark.timeout(90)
N, D, K = 600, 5, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, D))
Y = (X[:, :K] + RNG.gumbel(size=(N, K))).argmax(axis=1)
X = X * [1, 3, 0.1, 1, 1] + [0, 0, 5, 0, 0]
LABELS = np.array(["cat", "dog", "owl"])[Y]
WEIGHT = RNG.random(N)
SOFT = RNG.dirichlet(np.ones(K), size=N)
FRAME = pd.DataFrame(X, columns=list("abcde"))
CLOSE = {"rtol": 0, "atol": 1e-8}


@pytest.fixture(scope="module")
def workers():
    """A client of two worker processes."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(params=["local", "cluster"])
def place(request):
    """Where Dask computes: in this process, or on workers."""
    if request.param == "cluster":
        request.getfixturevalue("workers")
        yield request.param
    else:
        with dask.config.set(scheduler="threads"):
            yield request.param


def dask_array(values, rows, columns=None):
    rest = values.shape[1:] if columns is None else (columns,)
    return da.from_array(values, chunks=(rows, *rest))


def assert_same(model, reference):
    np.testing.assert_allclose(model.coef_, reference.coef_, **CLOSE)
    np.testing.assert_allclose(model.intercept_, reference.intercept_, **CLOSE)
    assert type(model.coef_) is type(model.intercept_) is np.ndarray
    np.testing.assert_array_equal(model.classes_, reference.classes_)
    assert model.converged_
    np.testing.assert_allclose(model.objective_, reference.objective_, rtol=1e-10)


def keys_on(client):
    """Return the tasks that the cluster knows."""
    keys = client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.tasks])
    return set(keys)


def leaves_nothing(client, before):
    """Return whether no task is there that was not, once there was time to drop it."""
    for _ in range(50):
        gc.collect()  # an error holds the frames it passed
        if keys_on(client) <= before:
            return True
        time.sleep(0.1)
    return False


# -- the same fit ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "solver",
    [
        pytest.param("newton-cholesky", marks=pytest.mark.slow),
        *("newton-cg", "lbfgs"),
        pytest.param("gd", marks=pytest.mark.slow),
    ],
)
def test_arrays_in_any_chunks(place, solver):
    model = SoftmaxRegression(solver=solver, tol=1e-11)
    reference = SoftmaxRegression(solver=solver, tol=1e-11)
    reference.fit(X, LABELS, sample_weight=WEIGHT)
    columns_too = dask_array(X, 70, 2)
    model.fit(columns_too, dask_array(LABELS, 111), sample_weight=dask_array(WEIGHT, 9))
    assert_same(model, reference)


def test_labels_and_weights_in_memory(place):
    reference = SoftmaxRegression(tol=1e-11).fit(X, Y, sample_weight=WEIGHT)
    model = SoftmaxRegression(tol=1e-11).fit(dask_array(X, 200), Y, WEIGHT)
    assert_same(model, reference)


def test_unknown_chunk_sizes_and_empty_partitions(place):
    chosen = X[:, 0] > 1
    chosen[:100] = False
    rows = dask_array(X, 50)[dask_array(chosen, 50)]
    labels = dask_array(Y, 120)
    labels = labels[dask_array(chosen, 120)]
    assert np.isnan(rows.shape[0])
    reference = SoftmaxRegression(tol=1e-11).fit(X[chosen], Y[chosen])
    assert_same(SoftmaxRegression(tol=1e-11).fit(rows, labels), reference)


def test_frames(place):
    frame = dd.from_pandas(FRAME.assign(label=LABELS, weight=WEIGHT), npartitions=7)
    reference = SoftmaxRegression(tol=1e-11).fit(FRAME, LABELS, sample_weight=WEIGHT)
    model = SoftmaxRegression(tol=1e-11)
    model.fit(frame[list("abcde")], frame["label"], sample_weight=frame["weight"])
    assert_same(model, reference)
    assert model.feature_names_in_.tolist() == list("abcde")
    with pytest.raises(ValueError, match=r"numeric columns only, got 'label' \(str"):
        model.fit(frame, frame["label"])


@pytest.mark.parametrize(
    "kind",
    [
        scipy.sparse.csr_array,
        pytest.param(scipy.sparse.csc_matrix, marks=pytest.mark.slow),
    ],
)
def test_sparse_blocks(place, kind):
    rows = scipy.sparse.random(N, 40, density=0.1, format="csr", random_state=0)
    blocks = dask_array(rows.toarray(), 90, 15).map_blocks(kind)
    for solver in ("newton-cg", "lbfgs"):
        own = {"solver": solver, "tol": 1e-11}
        reference = SoftmaxRegression(**own).fit(rows, Y)
        assert_same(SoftmaxRegression(**own).fit(blocks, dask_array(Y, 50)), reference)


def test_soft_targets(place):
    reference = SoftmaxRegression(tol=1e-11).fit(X, SOFT)
    model = SoftmaxRegression(tol=1e-11).fit(dask_array(X, 99), dask_array(SOFT, 77, 2))
    assert_same(model, reference)


@pytest.mark.parametrize(
    "dtype", [np.float32, pytest.param(np.uint8, marks=pytest.mark.slow)]
)
def test_small_dtypes(place, dtype):
    # Over a million entries: these are multiplied in float32 first.
    noise = RNG.normal(size=(60 * N, 25))
    rows = np.column_stack([np.tile(X, (60, 1)), noise]) * 20 + 100
    rows, y = np.clip(rows, 0, 255).astype(dtype), np.tile(Y, 60)
    own = {"solver": "newton-cg", "tol": 1e-6}
    reference = SoftmaxRegression(**own).fit(rows, y)
    model = SoftmaxRegression(**own).fit(dask_array(rows, 5000), dask_array(y, 7000))
    assert model.coef_.dtype == np.float32
    assert model.history_["precision"][0] == "float32"
    np.testing.assert_allclose(model.coef_, reference.coef_, atol=1e-3)
    assert model.optimality_gap_ <= 1e-6 * model.objective_


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "entmax15"},
        pytest.param({"loss": "topk-2", "tol": 1e-7}, marks=pytest.mark.slow),
        {"class_weight": "balanced", "penalize_intercept": True},
        {"label_smoothing": 0.1, "margin": 0.5, "temperature": 2.0},
        {"fit_intercept": False, "C": np.inf, "solver": "newton-cg"},
    ],
    ids=["entmax", "topk", "balanced", "softened", "unpenalised"],
)
def test_options(place, options):
    options = {"tol": 1e-11, **options}
    reference = SoftmaxRegression(**options).fit(X, Y)
    model = SoftmaxRegression(**options).fit(dask_array(X, 123), dask_array(Y, 123))
    assert_same(model, reference)


def test_more_columns_than_rows(place, monkeypatch):
    rows, y = np.random.default_rng(1).normal(size=(40, 150)), np.arange(40) % 3
    reference = SoftmaxRegression(tol=1e-12).fit(rows, y)
    assert_same(SoftmaxRegression(tol=1e-12).fit(dask_array(rows, 9), y), reference)
    # What is too large to be fetched is solved in its own columns.
    monkeypatch.setattr("softreg._partitions.FETCHED_BYTES", 0)
    model = SoftmaxRegression(tol=1e-12).fit(dask_array(rows, 9), y)
    np.testing.assert_allclose(model.coef_, reference.coef_, atol=1e-6)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.sampled_from("nl"))
def test_any_partitioning_gives_the_same(workers, chunks, solver):
    # Sorted: most partitions lack a class.
    n_rows = max(sum(chunks), 30)
    chunks = (*chunks, n_rows - sum(chunks)) if n_rows > sum(chunks) else tuple(chunks)
    order = np.argsort(Y[:n_rows], kind="stable")
    rows, y = X[order], Y[order]
    own = {"solver": "lbfgs" if solver == "l" else "newton-cg", "tol": 1e-11}
    reference = SoftmaxRegression(**own).fit(rows, y)
    model = SoftmaxRegression(**own).fit(da.from_array(rows, chunks=(chunks, D)), y)
    assert_same(model, reference)


def test_partitions_of_one_row(place):
    reference = SoftmaxRegression(tol=1e-11).fit(X[:60], Y[:60])
    assert_same(
        SoftmaxRegression(tol=1e-11).fit(dask_array(X[:60], 1), Y[:60]), reference
    )


def test_a_worker_without_rows(workers):
    reference = SoftmaxRegression(tol=1e-11).fit(X, Y)
    assert_same(SoftmaxRegression(tol=1e-11).fit(dask_array(X, N), Y), reference)


def test_warm_start(place):
    rows = dask_array(X, 100)
    model = SoftmaxRegression(warm_start=True, solver="lbfgs", tol=1e-8).fit(rows, Y)
    assert model.fit(rows, Y).n_iter_ <= 1


@pytest.mark.parametrize("scoring", [None, "neg_log_loss"])
def test_cross_validation(place, scoring):
    own = {"Cs": [0.01, 1.0], "cv": 3, "tol": 1e-11, "scoring": scoring}
    reference = SoftmaxRegressionCV(**own).fit(X, LABELS, sample_weight=WEIGHT)
    model = SoftmaxRegressionCV(**own)
    model.fit(dask_array(X, 77), dask_array(LABELS, 50), dask_array(WEIGHT, 60))
    assert_same(model, reference)
    np.testing.assert_allclose(model.scores_, reference.scores_, **CLOSE)
    np.testing.assert_allclose(model.coefs_paths_, reference.coefs_paths_, **CLOSE)
    assert reference.C_ == model.C_
    given = dask_array(X, 77), dask_array(LABELS, 50)
    assert model.score(*given) == pytest.approx(reference.score(X, LABELS))


def test_cross_validation_of_soft_targets(place):
    own = {"Cs": [0.01, 1.0], "cv": [(np.arange(400), np.arange(400, N))] * 2}
    own |= {"tol": 1e-11, "scoring": "neg_log_loss"}
    reference = SoftmaxRegressionCV(**own).fit(X, SOFT)
    model = SoftmaxRegressionCV(**own).fit(dask_array(X, 77), dask_array(SOFT, 50))
    assert_same(model, reference)
    np.testing.assert_allclose(model.scores_, reference.scores_, **CLOSE)


def test_path(place):
    reference = softmax_path(X, Y, Cs=[0.01, 1.0], tol=1e-11)
    path = softmax_path(dask_array(X, 77), dask_array(Y, 50), Cs=[0.01, 1.0], tol=1e-11)
    np.testing.assert_allclose(path.coefs, reference.coefs, **CLOSE)


# -- prediction -----------------------------------------------------------------------

METHODS = [
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "proba_jacobian",
]


@pytest.fixture(scope="module")
def fitted():
    return SoftmaxRegression().fit(X, LABELS)


@pytest.mark.parametrize("method", METHODS)
def test_predictions_are_lazy(place, fitted, method):
    looked = []

    def look(block):
        looked.append(len(block))
        return block

    rows = dask_array(X, 250, 2).rechunk({1: -1})
    lazy = getattr(fitted, method)(rows.map_blocks(look, meta=np.empty((0, 0))))
    assert not looked
    expected = getattr(fitted, method)(X)
    assert isinstance(lazy, da.Array)
    assert lazy.shape == expected.shape
    assert lazy.chunks[0] == (250, 250, 100)
    assert lazy.dtype == expected.dtype
    found = lazy.compute()
    assert found.dtype == expected.dtype
    if method == "predict":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-12)
    unknown = getattr(fitted, method)(rows[rows[:, 0] > 0])
    assert np.isnan(unknown.shape[0])
    assert unknown.compute().shape == expected[X[:, 0] > 0].shape


def test_predictions_of_frames_and_sparse_blocks(place):
    model = SoftmaxRegression().fit(FRAME, LABELS)
    frame = dd.from_pandas(FRAME, npartitions=4)
    proba = model.predict_proba(frame)
    assert isinstance(proba, da.Array)
    expected = model.predict_proba(FRAME)
    np.testing.assert_allclose(proba.compute(), expected, atol=1e-12)
    with pytest.raises(ValueError, match="same order"):
        model.predict(frame[list("edcba")])
    with pytest.warns(UserWarning, match="valid feature names"):
        lazy = model.predict_proba(dask_array(X, 99).map_blocks(scipy.sparse.csr_array))
    np.testing.assert_allclose(lazy.compute(), expected, atol=1e-12)
    assert model.score(frame, dask_array(LABELS, 70)) == model.score(FRAME, LABELS)


# -- errors ---------------------------------------------------------------------------


def with_nan():
    bad = X.copy()
    bad[-1, -1] = np.nan
    return bad


@pytest.mark.parametrize(
    ("rows", "labels", "options"),
    [
        (with_nan(), Y, {}),
        (X, Y[:-1], {}),
        (X, Y * 0, {}),
        (X, SOFT * 2, {}),
        (X, Y, {"sample_weight": -WEIGHT}),
        (X, Y, {"sample_weight": WEIGHT[1:]}),
        (X[:, :0], Y, {}),
        (X[:0], Y[:0], {}),
    ],
    ids=["nan", "short", "class", "simplex", "negative", "weights", "columns", "rows"],
)
def test_errors_are_those_of_memory(place, rows, labels, options):
    with pytest.raises(ValueError) as expected:  # noqa: PT011
        SoftmaxRegression().fit(rows, labels, **options)
    lazy = {name: dask_array(value, 50) for name, value in options.items()}
    model = SoftmaxRegression().fit(dask_array(X, 99), Y)
    before = dict(model.__dict__)
    with pytest.raises(ValueError) as found:  # noqa: PT011
        model.fit(dask_array(rows, 99), dask_array(labels, 99), **lazy)
    first = str(expected.value).partition("(shape")[0].splitlines()[0]
    assert str(found.value).startswith(first)
    assert model.__dict__ == before


def test_what_cannot_be_fitted_is_refused(place):
    rows = dask_array(X, 99)
    for other in (
        HierarchicalSoftmax(),
        LargeMarginSoftmaxRegression(),
        RobustSoftmaxRegression(),
    ):
        with pytest.raises(TypeError, match=r"must be in memory.*X\.compute\(\)"):
            other.fit(rows, Y)
    with pytest.raises(ValueError, match="Expected 2D array, got 1D"):
        SoftmaxRegression().fit(rows[:, 0], Y)
    with pytest.raises(ValueError, match="Expected 2D array, got Delayed"):
        SoftmaxRegression().fit(dask.delayed(X), Y)
    with pytest.raises(ValueError, match="sparse partitions or dense ones"):
        SoftmaxRegression().fit(
            da.concatenate([rows, rows.map_blocks(scipy.sparse.csr_array)]),
            np.tile(Y, 2),
        )
    with pytest.raises(ValueError, match=r"scoring must be.*'f1_macro'"):
        SoftmaxRegressionCV(scoring="f1_macro").fit(rows, Y)


def test_minibatches_want_rows_in_this_process(place):
    rows, model = dask_array(X, 99), SoftmaxRegression(solver="minibatch", tol=1e-11)
    if place == "local":
        reference = SoftmaxRegression(tol=1e-11).fit(X, Y)
        np.testing.assert_allclose(model.fit(rows, Y).coef_, reference.coef_, atol=1e-4)
    else:
        with pytest.raises(ValueError, match="needs rows in this process"):
            model.fit(rows, Y)
    with pytest.raises(TypeError, match="must be in memory"):
        model.partial_fit(rows, Y, classes=[0, 1, 2])


def unreadable(block):
    raise OSError("no such file")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_error_of_the_source_is_raised_as_it_is(place):
    rows = dask_array(X, 99).map_blocks(unreadable, meta=np.empty((0, 0)))
    with pytest.raises(OSError, match="no such file"):
        SoftmaxRegression().fit(rows, Y)


# -- rounds ---------------------------------------------------------------------------


def test_one_task_a_worker_and_evaluation(workers, monkeypatch):
    rounds = []
    run = softreg._sharded.Shards.run
    monkeypatch.setattr(
        softreg._sharded.Shards, "run", lambda *args: rounds.append(1) or run(*args)
    )
    started = []
    start = softreg._dask.Cluster.start

    def count(self, function, *args, worker):
        started.append(function.__name__)
        return start(self, function, *args, worker=worker)

    monkeypatch.setattr(softreg._dask.Cluster, "start", count)
    for rows in (20, 100):
        rounds.clear()
        started.clear()
        SoftmaxRegression(solver="lbfgs").fit(dask_array(X, rows), Y)
        assert started.count("answer") == 2 * len(rounds) > 4
        assert started.count("make_shard") == started.count("make_pile") == 2


def test_large_messages_and_sums_go_other_ways(workers, monkeypatch):
    monkeypatch.setattr(softreg._dask, "MESSAGE_BYTES", 0)
    monkeypatch.setattr(softreg._sharded, "GATHERED_BYTES", 0)
    before = keys_on(workers)
    reference = SoftmaxRegression(tol=1e-11).fit(X, Y)
    assert_same(SoftmaxRegression(tol=1e-11).fit(dask_array(X, 98), Y), reference)
    assert leaves_nothing(workers, before)


def test_nothing_is_left_after_a_fit_or_an_error(workers):
    before = keys_on(workers)
    SoftmaxRegression().fit(dask_array(X, 97), Y)
    assert leaves_nothing(workers, before)
    with pytest.raises(ValueError, match="NaN"):
        SoftmaxRegression().fit(dask_array(with_nan(), 97), Y)
    assert leaves_nothing(workers, before)


def test_parts_are_dealt_by_threads_and_where_they_lie():
    equal = {"a": 1, "b": 1}
    assert dealt(["b", "a", "b", "a"], [9] * 4, equal) == {"a": [1, 3], "b": [0, 2]}
    # All on one worker, or nowhere: shared out.
    assert dealt(["a"] * 4, [9] * 4, equal) == {"a": [0, 1], "b": [2, 3]}
    assert dealt(["", "gone"], [9] * 2, equal) == {"a": [0], "b": [1]}
    assert dealt(["a"] * 4, [9] * 4, {"a": 3, "b": 1}) == {"a": [0, 1, 2], "b": [3]}
    # Partitions without rows are nobody's, and so may a worker be.
    assert dealt(["a", "b"], [9, 0], equal) == {"a": [0]}


def test_two_fits_at_once(workers):
    reference = SoftmaxRegression(solver="lbfgs", tol=1e-11).fit(X, Y)
    other = SoftmaxRegression(solver="newton-cg", tol=1e-11).fit(X[::2], Y[::2])
    models = [
        SoftmaxRegression(solver="lbfgs", tol=1e-11),
        SoftmaxRegression(solver="newton-cg", tol=1e-11),
    ]
    given = [(dask_array(X, 99), Y), (dask_array(X[::2], 50), Y[::2])]
    threads = [
        threading.Thread(target=m.fit, args=g)
        for m, g in zip(models, given, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same(models[0], reference)
    assert_same(models[1], other)


def fit_in_a_task(rows, y):
    fits = [SoftmaxRegression(tol=1e-11).fit(da.from_array(rows, 99), y) for _ in "12"]
    return fits[1]


def test_fits_within_tasks(workers):
    reference = SoftmaxRegression(tol=1e-11).fit(X, Y)
    tasks = [workers.submit(fit_in_a_task, X, Y, pure=False) for _ in range(3)]
    for model in workers.gather(tasks):
        assert_same(model, reference)


def peak_megabytes():
    with open("/proc/self/status") as status:
        return next(int(s.split()[1]) / 1024 for s in status if s.startswith("VmHWM"))


def made(number):
    return np.random.default_rng(number).normal(size=(20000, 100))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_worker_holds_its_rows_once():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        SoftmaxRegression().fit(dask_array(X, 99), Y)
        before = client.run(peak_megabytes)
        parts = [
            da.from_delayed(dask.delayed(made)(i), (20000, 100), dtype=float)
            for i in range(20)
        ]
        labels = np.arange(400_000) % 3
        SoftmaxRegression(tol=1.0).fit(da.concatenate(parts), labels)
        after = client.run(peak_megabytes)
    # 160 MB of rows each; work space, labels and weights beside them.
    assert max(after[w] - before[w] for w in before) < 1.3 * 160


def test_n_jobs_and_threads_of_a_worker():
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=4, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
    ):
        rows = np.tile(X, (20, 1))
        y = np.tile(Y, 20)
        fits = [
            SoftmaxRegression(tol=1e-11, n_jobs=n).fit(dask_array(rows, 999), y)
            for n in (None, 1)
        ]
    np.testing.assert_array_equal(fits[0].coef_, fits[1].coef_)
    assert_same(fits[0], SoftmaxRegression(tol=1e-11).fit(rows, y))


def test_numpy_fits_do_not_import_dask():
    code = (
        "import sys, numpy as np; from softreg import SoftmaxRegression; "
        "m = SoftmaxRegression().fit(np.eye(6), [0, 1] * 3); m.predict(np.eye(6)); "
        "m.score(np.eye(6), [0, 1] * 3); "
        "print({'dask', 'distributed'} & set(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "set()"
