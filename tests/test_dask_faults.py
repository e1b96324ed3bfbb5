"""A worker killed during a fit costs a recomputation, never the answer."""

import gc
import os
import signal
import time
from contextlib import contextmanager

import numpy as np
import pytest

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

import softreg._dask  # noqa: E402
import softreg._sharded  # noqa: E402
from softreg import SoftmaxRegression, SoftmaxRegressionCV  # noqa: E402

pytestmark = pytest.mark.timeout(90)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(900, 6))
Y = (2 * X[:, :3] + RNG.gumbel(size=(900, 3))).argmax(axis=1)


@contextmanager
def cluster_of(n_workers):
    """A client of worker processes, with their cluster."""
    with (
        distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client, cluster


@pytest.fixture
def both():
    """A client of two worker processes, which nobody else will meet again."""
    with cluster_of(2) as (client, _):
        yield client


@pytest.fixture(scope="module")
def reference():
    return SoftmaxRegression(solver="newton-cg", tol=1e-11).fit(X, Y)


def rows(size=90):
    return da.from_array(X, chunks=(size, 6))


def kill(client, address):
    """Kill a worker's process as the system would that is out of memory."""
    os.kill(client.run(os.getpid, workers=[address])[address], signal.SIGKILL)


class Assassin:
    """Kills the worker of the n-th task of a kind, once the task is on its way."""

    def __init__(self, monkeypatch, client, victims):
        self.client, self.victims, self.seen = client, dict(victims), {}
        self.killed = []
        start = softreg._dask.Cluster.start

        def watched(cluster, function, *args, worker):
            future = start(cluster, function, *args, worker=worker)
            self.note(function.__name__, worker)
            return future

        monkeypatch.setattr(softreg._dask.Cluster, "start", watched)

    def note(self, kind, worker):
        self.seen[kind] = self.seen.get(kind, 0) + 1
        if self.seen[kind] in self.victims.get(kind, ()):
            alive = self.client.run(os.getpid)
            address = worker if worker in alive else min(alive)
            kill(self.client, address)
            self.killed.append(kind)


def assert_optimum(model, reference):
    np.testing.assert_allclose(model.coef_, reference.coef_, rtol=0, atol=1e-8)
    np.testing.assert_allclose(model.intercept_, reference.intercept_, atol=1e-8)
    assert model.converged_


@pytest.mark.parametrize(
    "victims",
    [
        pytest.param({"make_pile": [1]}, marks=pytest.mark.slow),
        pytest.param({"make_shard": [2]}, marks=pytest.mark.slow),
        {"answer": [3]},
        pytest.param({"answer": [9, 20]}, marks=pytest.mark.slow),
    ],
    ids=["piles", "shards", "round", "twice"],
)
def test_a_killed_worker_changes_nothing(both, monkeypatch, reference, victims):
    assassin = Assassin(monkeypatch, both, victims)
    model = SoftmaxRegression(solver="newton-cg", tol=1e-11).fit(rows(), Y)
    assert len(assassin.killed) == sum(map(len, victims.values()))
    assert_optimum(model, reference)


@pytest.mark.slow
def test_what_was_sent_is_sent_again(both, monkeypatch, reference):
    # Labels, weights and coefficients go apart from the tasks, as large ones do.
    monkeypatch.setattr(softreg._dask, "MESSAGE_BYTES", 0)
    assassin = Assassin(monkeypatch, both, {"answer": [8]})
    model = SoftmaxRegression(solver="newton-cg", tol=1e-11).fit(rows(), Y)
    assert assassin.killed
    assert_optimum(model, reference)


@pytest.mark.slow
def test_sums_among_workers_survive(both, monkeypatch, reference):
    monkeypatch.setattr(softreg._sharded, "GATHERED_BYTES", 0)
    assassin = Assassin(monkeypatch, both, {"added": [4]})
    model = SoftmaxRegression(solver="newton-cg", tol=1e-11).fit(rows(), Y)
    assert assassin.killed
    assert_optimum(model, reference)


@pytest.mark.slow
def test_what_a_worker_kept_is_made_again(both, monkeypatch, reference):
    forgotten, products = [], []
    run = softreg._sharded.Shards.run

    def watched(shards, asked):
        kernel = asked.kernel.__name__
        products.append(kernel == "hessian_product")
        if products[-1] and sum(products) == 2:
            kill(both, min(both.run(os.getpid)))
        try:
            return run(shards, asked)
        except softreg._sharded.ForgottenError:
            forgotten.append(kernel)
            raise

    monkeypatch.setattr(softreg._sharded.Shards, "run", watched)
    model = SoftmaxRegression(solver="newton-cg", tol=1e-11).fit(rows(), Y)
    # A Hessian product asks for scores that the lost worker had kept.
    assert forgotten == ["hessian_product"]
    assert_optimum(model, reference)


@pytest.mark.slow
def test_a_search_survives(both, monkeypatch):
    own = {"Cs": [0.01, 1.0], "cv": 3, "tol": 1e-10}
    reference = SoftmaxRegressionCV(**own).fit(X, Y)
    assassin = Assassin(monkeypatch, both, {"answer": [12], "make_shard": [4]})
    model = SoftmaxRegressionCV(**own).fit(rows(), Y)
    assert len(assassin.killed) == 2
    assert_optimum(model, reference)
    np.testing.assert_allclose(model.scores_, reference.scores_, atol=1e-8)


@pytest.mark.slow
def test_rows_that_nobody_can_read_again_are_an_error(both, monkeypatch):
    parts = both.scatter([X[:300], X[300:600], X[600:]])
    lazy = [da.from_delayed(dask.delayed(p), (300, 6), dtype=float) for p in parts]
    scattered = da.concatenate(lazy)
    Assassin(monkeypatch, both, {"answer": [5, 7]})
    with pytest.raises(RuntimeError, match=r"rows of X must come from a source"):
        SoftmaxRegression(solver="newton-cg").fit(scattered, Y)
    del parts, lazy, scattered
    gc.collect()


@pytest.mark.slow
def test_no_worker_left_is_an_error_in_time(monkeypatch):
    monkeypatch.setattr(softreg._dask, "GRACE_SECONDS", 1.0)
    with cluster_of(1) as (_, cluster):
        model = SoftmaxRegression(tol=1e-8).fit(rows(), Y)
        before, since = dict(model.__dict__), []
        during_the_first_round(monkeypatch, since, lambda: cluster.scale(0))
        with pytest.raises(RuntimeError, match=r"must have a live worker, got none"):
            model.fit(rows(), Y)
        assert time.monotonic() - since[0] < 10
        assert model.__dict__ == before
        # From the start there is none.
        started = time.monotonic()
        with pytest.raises(RuntimeError, match=r"must have a live worker, got none"):
            model.fit(rows(), Y)
        assert time.monotonic() - started < 5


@pytest.mark.slow
def test_a_scheduler_that_is_gone_is_an_error_in_time(monkeypatch):
    monkeypatch.setattr(softreg._dask, "GRACE_SECONDS", 1.0)
    with cluster_of(1) as (_, cluster):
        since = []
        during_the_first_round(monkeypatch, since, cluster.close)
        with pytest.raises(RuntimeError, match=r"must have a live worker, got none"):
            SoftmaxRegression().fit(rows(), Y)
        assert time.monotonic() - since[0] < 20


def during_the_first_round(monkeypatch, since, event):
    """Have something happen as a fit's first round begins, and note when it did."""
    run = softreg._sharded.Shards.run

    def watched(shards, asked):
        if not since:
            since.append(time.monotonic())
            event()
        return run(shards, asked)

    monkeypatch.setattr(softreg._sharded.Shards, "run", watched)


def dies(block):
    os._exit(1)


@pytest.mark.slow
def test_a_task_that_kills_its_workers_is_an_error():
    allowed = {"distributed.scheduler.allowed-failures": 0}
    with dask.config.set(allowed), cluster_of(1):
        deadly = rows().map_blocks(dies, meta=np.empty((0, 0)))
        with pytest.raises(RuntimeError, match=r"survive their tasks.*memory"):
            SoftmaxRegression().fit(deadly, Y)
