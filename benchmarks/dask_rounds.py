"""What Dask adds to an evaluation, and what goes over the wire on larger clusters.

    python benchmarks/dask_rounds.py [--repeats N] [--quick] [--output FILE]

Three tables, on a cluster of two worker processes of one thread on this machine:

1. Milliseconds an evaluation with hardly any rows, as 32 and as 128 partitions, in
   turns; and the seconds before the first. Expected before measuring: 15 ms, the same
   for both.
2. Fashion-MNIST as 32 partitions in the workers' memory, beside the fit of the array in
   this process with two threads, in turns. Expected: 1.2 times the fit in memory and
   the overhead of its rounds.
3. Bytes and seconds an evaluation on 2, 16 and 128 workers, by arithmetic from figures
   measured here: the overhead of a round, what each further task adds to it, and the
   rate of the kernels on one core. Networks carry 10 Gb/s; a worker has 16 cores.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import dask.array as da
import numpy as np
from dask import delayed
from distributed import Client, LocalCluster, wait
from problems import load

import softreg._dask
import softreg._sharded
from softreg import SoftmaxRegression

BANDWIDTH = 1.25e9  # bytes a second
CORES = 16
CASES = [
    (60_000, 784, 10),
    (10_000_000, 100, 100),
    (100_000_000, 1000, 100),
    (1_000_000_000, 2048, 1000),
]


def generated(n_rows: int = 2560) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of hardly any work."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 8))
    return X, (X[:, :5] + rng.gumbel(size=(n_rows, 5))).argmax(axis=1)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call, and what it returned."""
    since = time.perf_counter()
    value = call()
    return time.perf_counter() - since, value


def evaluation_seconds(model: SoftmaxRegression) -> float:
    """Return the seconds of an evaluation: of L-BFGS all passes are one."""
    seconds, passes = model.history_["seconds"], model.history_["passes"]
    return (seconds[-1] - seconds[0]) / (passes[-1] - passes[0])


def overheads(repeats: int) -> tuple[list[str], float]:
    """Return the first table, and the seconds an evaluation takes."""
    X, y = generated()
    model = SoftmaxRegression(solver="lbfgs", tol=1e-10)
    found: dict[int, list[tuple[float, float]]] = {32: [], 128: []}
    local = []
    for _ in range(repeats + 1):
        local.append(evaluation_seconds(model.fit(X, y)))
        for n_parts, rows in found.items():
            parts = da.from_array(X, chunks=(len(X) // n_parts, X.shape[1]))
            total, _ = timed(partial(model.fit, parts, y))
            before = total - model.history_["seconds"][-1]
            rows.append((evaluation_seconds(model), before))
    base = statistics.median(local[1:])
    lines = [
        "| partitions | ms an evaluation | beyond memory | s before the first |",
        "|---|---|---|---|",
    ]
    each = {}
    for n_parts, rows in found.items():
        # The first fit of a worker imports the library.
        each[n_parts] = statistics.median(seconds for seconds, _ in rows[1:])
        before = statistics.median(setup for _, setup in rows[1:])
        lines.append(
            f"| {n_parts} | {1e3 * each[n_parts]:.1f} | "
            f"{1e3 * (each[n_parts] - base):.1f} | {before:.2f} |"
        )
    lines += ["", f"128 partitions take {each[128] / each[32]:.2f} of the time of 32."]
    return lines, max(each.values()) - base


def partitions(path: str, X: np.ndarray) -> da.Array:
    """Return rows as 32 partitions, which workers read from a file."""
    np.save(path, X)
    size = -(-len(X) // 32)
    blocks = []
    for start in range(0, len(X), size):
        rows = delayed(read)(path, start, start + size)
        shape = (min(size, len(X) - start), X.shape[1])
        blocks.append(da.from_delayed(rows, shape, dtype=X.dtype))
    return da.concatenate(blocks)


def read(path: str, start: int, stop: int) -> np.ndarray:
    """Return rows of a file."""
    return np.array(np.load(path, mmap_mode="r")[start:stop])


def comparison(repeats: int, overhead: float, quick: bool) -> list[str]:
    """Return the second table."""
    X, y = load("fashion_mnist")
    X, y = X.astype(np.float32)[:: 10 if quick else 1], y[:: 10 if quick else 1]
    lines = [
        "| solver | s in memory | s on Dask | rounds | beside memory + overhead |",
        "|---|---|---|---|---|",
    ]
    rounds: list[int] = []
    with TemporaryDirectory() as folder, counted(rounds):
        parts = partitions(f"{folder}/X.npy", X).persist()
        wait(parts)
        model, rows = SoftmaxRegression(), []
        for _ in range(repeats):
            memory, _ = timed(partial(model.fit, X, y))
            rounds.clear()
            spread, _ = timed(partial(model.fit, parts, y))
            ratio = spread / (memory + len(rounds) * overhead)
            rows.append((memory, spread, ratio))
        middle = [statistics.median(column) for column in zip(*rows, strict=True)]
    lines.append(
        f"| {model.solver_} | {middle[0]:.2f} | {middle[1]:.2f} | {len(rounds)} | "
        f"{middle[2]:.2f} |"
    )
    return lines


@contextmanager
def counted(rounds: list[int]) -> Iterator[None]:
    """Note every round."""
    run = softreg._sharded.Shards.run

    def noted(shards: Any, asked: Any) -> Any:
        rounds.append(1)
        return run(shards, asked)

    with patch.object(softreg._sharded.Shards, "run", noted):
        yield


def task_seconds(client: Client, repeats: int) -> float:
    """Return what each further task adds to a round."""
    cluster = softreg._dask.Cluster(client)
    workers = list(cluster.threads())

    def a_round(n_tasks: int) -> None:
        near = [workers[i % len(workers)] for i in range(n_tasks)]
        cluster.answers([cluster.start(np.zeros, 1000, worker=w) for w in near])

    many, few = (
        statistics.median(timed(partial(a_round, n))[0] for _ in range(repeats))
        for n in (128, 2)
    )
    return (many - few) / 126


def kernel_rate() -> float:
    """Return operations a second of an evaluation in float32, on one thread."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40_000, 500)).astype(np.float32)
    y = rng.integers(0, 100, len(X))
    model = SoftmaxRegression(solver="lbfgs", n_jobs=1, max_iter=5, tol=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    single = model.history_["precision"] == "float32"
    seconds = model.history_["seconds"][single]
    passes = model.history_["passes"][single]
    spent = (seconds[-1] - seconds[0]) / (passes[-1] - passes[0])
    return 4 * X.size * 100 / spent


def arithmetic(overhead: float, a_task: float, rate: float) -> list[str]:
    """Return the third table."""
    lines = [
        "| n x d x K | workers | to each | from each | GB a worker | s computing | "
        "s wire | s Dask | s an evaluation |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for n, d, K in CASES:
        for workers in (2, 16, 128):
            down, up = 4 * K * (d + 1), 8 * (K * (d + 1) + 1)
            wire = sent(down, workers) + gathered(up, workers)
            computing = 4 * n * d * K / (workers * CORES * rate)
            dask = overhead + a_task * (workers - 2)
            lines.append(
                f"| {n:.0e} x {d} x {K} | {workers} | {size_of(down)} | {size_of(up)} "
                f"| {4 * n * d / workers / 1e9:.3g} | {computing:.2g} | {wire:.2g} | "
                f"{dask:.2g} | {computing + wire + dask:.2g} |"
            )
    return lines


def sent(size: float, workers: int) -> float:
    """Return the seconds until all workers have a message."""
    if size <= softreg._dask.MESSAGE_BYTES:
        return workers * size / BANDWIDTH
    # Each worker that has it passes it on to others: it doubles.
    return (1 + math.ceil(math.log2(workers))) * size / BANDWIDTH


def gathered(size: float, workers: int) -> float:
    """Return the seconds until the client has the sum of all answers."""
    if size * workers <= softreg._sharded.GATHERED_BYTES:
        return workers * size / BANDWIDTH
    fan_in = softreg._sharded.FAN_IN
    levels = math.ceil(math.log(workers, fan_in))
    return (levels * (fan_in - 1) + 1) * size / BANDWIDTH


def size_of(size: float) -> str:
    """Return bytes for people."""
    return f"{size / 1e6:.2g} MB" if size >= 1e5 else f"{size / 1e3:.2g} kB"


def main() -> None:
    """Measure, compute and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of the images")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        first, overhead = overheads(options.repeats)
        second = comparison(options.repeats, overhead, options.quick)
        a_task = task_seconds(client, options.repeats)
    rate = kernel_rate()
    lines = [
        "# Rounds on Dask",
        "",
        *first,
        "",
        "## Fashion-MNIST as 32 partitions",
        "",
    ]
    lines += [*second, "", "## By arithmetic", ""]
    lines += [
        f"Measured here: {1e3 * overhead:.1f} ms a round of two tasks, "
        f"{1e3 * a_task:.2f} ms each further task (two",
        f"workers run all of them), {rate / 1e9:.0f} GFLOP/s a core in float32. A",
        f"worker has {CORES} cores, the network carries 10 Gb/s; X is float32.",
        "",
        *arithmetic(overhead, a_task, rate),
    ]
    text = "\n".join(lines)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
