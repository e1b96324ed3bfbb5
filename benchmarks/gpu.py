"""Seconds to a proven gap on a GPU, beside scikit-learn, torch and a stand-in of cuML.

    python benchmarks/gpu.py [--problems NAME ...] [--seconds 10] [--data FOLDER]
                             [--output STEM] [--arrays cupy|numpy] [--share 1.0]

The problems: `fashion_mnist` (60000 x 784, 10 classes), `imagenet` (1.28M x 2048, 1000
classes) and `places` (2.45M x 2048, 205 classes), rectified embeddings of a power-law
spectrum made on the device with a tenth of the labels at random, and `text` (400000 x
30000 in CSR, 20 classes). float32, C = 1, a free intercept.

softreg fits once for each gap, with that `tol`: it stops where it has proven it. A fit
of a sixteenth of the rows comes first, as with the rivals in CuPy, which compiles
kernels when they are first used. The others are stopped after --seconds; their gaps are
relative to the lower bound that softreg proves, by the objective that they evaluate
themselves (torch, the stand-in: in float32, and no better than float64 finds at their
end), or in float64 at the end of longer and longer fits (scikit-learn).
scikit-learn on the CPU gets so many rows as one of its fits may take the time for.

Writes STEM.csv with a row for each contender, problem and gap, and STEM.md with the
table, the rates of a pass and the ceilings of the same run: a float32 matrix product
and a copy. With `--arrays numpy --share 0.01` it rehearses on the CPU.
"""

from __future__ import annotations

import argparse
import csv
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# scikit-learn dispatches to CuPy only where SciPy may.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import gpu_rivals as rivals
import numpy as np
from problems import DATA, NotAvailableError, load

from softreg import SoftmaxRegression, solvers
from softreg._data import ingest

TARGETS = (1e-2, 1e-3, 1e-4, 1e-6)
GIGA, TERA = 1e9, 1e12


class Place(NamedTuple):
    """Where the data lie."""

    name: str
    xp: Any
    device: str

    def wait(self) -> None:
        """Wait for the device."""
        if self.name == "cupy":
            self.xp.cuda.Device().synchronize()

    def free(self) -> None:
        """Give unused memory back, so that another library can have it."""
        gc.collect()
        if self.name == "cupy":
            self.xp.get_default_memory_pool().free_all_blocks()
            torch = sys.modules.get("torch")
            if torch is not None and torch.cuda.is_available():
                torch.cuda.empty_cache()

    def seconds(self, call: Callable[[], Any]) -> tuple[float, Any]:
        self.wait()
        start = time.perf_counter()
        result = call()
        self.wait()
        return time.perf_counter() - start, result


class Task(NamedTuple):
    """A problem, and what is done with it."""

    X: Any
    y: Any
    n_classes: int
    sparse: bool = False


class Row(NamedTuple):
    """One line of the table."""

    problem: str
    contender: str
    rows: int
    target: float
    seconds: float | None
    reached: float
    evaluations: int
    note: str


def place_named(name: str) -> Place:
    if name == "numpy":
        return Place("numpy", np, "CPU (a rehearsal)")
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    return Place("cupy", cupy, properties["name"].decode())


# -- the problems ---------------------------------------------------------------------


def fashion(place: Place, share: float, data: Path) -> Task:
    X, y = load("fashion_mnist", data)
    n_rows = int(len(X) * share)
    X = place.xp.asarray(X[:n_rows], dtype=np.float32)
    return Task(X, place.xp.asarray(y[:n_rows]), 10)


def embeddings(
    place: Place, n_rows: int, n_columns: int, n_classes: int, seed: int = 0
) -> Task:
    """Return rows like pooled features of a ResNet, and labels with noise.

    Normal variables of a power-law spectrum (eigenvalues 1 / k), shifted by half of a
    column's spread and cut off at 0, as after a rectifier.
    """
    xp = place.xp
    rng = xp.random.default_rng(seed)
    axes = xp.linalg.qr(rng.standard_normal((n_columns, n_columns)))[0]
    spread = (1 + xp.arange(n_columns)) ** -0.5
    basis = (spread[:, None] * axes).astype(xp.float32)
    shift = xp.linalg.norm(basis, axis=0) / 2
    n_telling = min(256, n_columns)
    teacher = rng.standard_normal((n_telling, n_classes), dtype=xp.float32)
    teacher *= 4 / n_telling**0.5
    X = xp.empty((n_rows, n_columns), dtype=xp.float32)
    y = xp.empty(n_rows, dtype=xp.int64)
    for start in range(0, n_rows, 1 << 14):
        stop = min(start + (1 << 14), n_rows)
        hidden = rng.standard_normal((stop - start, n_columns), dtype=xp.float32)
        X[start:stop] = xp.maximum(hidden @ basis + shift, 0)
        scores = hidden[:, :n_telling] @ teacher
        noise = rng.random(scores.shape, dtype=xp.float32)
        scores -= xp.log(-xp.log(xp.clip(noise, 1e-30, 1 - 6e-8)))
        labels = scores.argmax(axis=1)
        stray = rng.integers(0, n_classes, stop - start)
        labels = xp.where(rng.random(stop - start) < 0.1, stray, labels)
        y[start:stop] = labels
    # No class is missing, however few rows.
    y[:n_classes] = xp.arange(n_classes)
    return Task(X, y, n_classes)


def text(place: Place, n_rows: int, n_words: int, n_classes: int) -> Task:
    """Return rows of 60 words by Zipf's law, a quarter of them of the class's own."""
    import scipy.sparse

    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, n_rows)
    words = (n_words ** rng.random((n_rows, 60))).astype(np.int64) - 1
    own = rng.integers(0, 50, (n_rows, 15)) * n_classes + y[:, None]
    words[:, :15] = own % n_words
    counts = np.ones(words.size, dtype=np.float32) / 60**0.5
    rows = scipy.sparse.csr_matrix(
        (counts, words.ravel().astype(np.int32), np.arange(n_rows + 1) * 60),
        shape=(n_rows, n_words),
    )
    rows.sum_duplicates()
    if place.name == "cupy":
        import cupyx.scipy.sparse

        rows = cupyx.scipy.sparse.csr_matrix(rows)
    return Task(rows, place.xp.asarray(y), n_classes, sparse=True)


def task_of(name: str, place: Place, share: float, data: Path) -> Task:
    columns = 2048 if share == 1 else 64
    if name == "fashion_mnist":
        return fashion(place, share, data)
    if name == "imagenet":
        return embeddings(place, int(1_281_167 * share), columns, 1000)
    if name == "places":
        return embeddings(place, int(2_448_873 * share), columns, 205)
    return text(place, int(400_000 * share), 30_000 if share == 1 else 2000, 20)


# -- the measurements -----------------------------------------------------------------


def ceilings(place: Place, share: float) -> tuple[float, float]:
    """Return FLOP/s of a float32 product and bytes/s of a copy, the best of three."""
    xp = place.xp
    side = 8192 if place.name == "cupy" and share == 1 else 1024
    square = xp.ones((side, side), dtype=xp.float32)
    array = xp.ones(side * side * 4, dtype=xp.float32)
    square @ square, array.copy()
    products = min(place.seconds(lambda: square @ square)[0] for _ in range(3))
    copies = min(place.seconds(array.copy)[0] for _ in range(3))
    return 2 * side**3 / products, 2 * array.nbytes / copies


def rates(place: Place, task: Task) -> tuple[float, float, float]:
    """Return seconds, FLOP/s and bytes/s of a pass: value, gradient and bound.

    Two products, each of which reads X.
    """
    data = ingest(SoftmaxRegression(), task.X, task.y, None)
    l2 = place.xp.asarray([data.weight_decay])
    with data.problem.engine:
        objective = data.problem.objective(l2)
        coef = data.problem.start(1)
        objective.evaluate(coef)
        passes = (place.seconds(lambda: objective.evaluate(coef))[0] for _ in range(3))
        seconds = min(passes)
    stored = task.X.nnz if task.sparse else task.X.size
    flops, size = 4 * stored * task.n_classes, 2 * stored * (8 if task.sparse else 4)
    return seconds, flops / seconds, size / seconds


def softreg(
    place: Place, problem: str, task: Task, where: str, solver: Any = "auto"
) -> tuple[list[Row], float]:
    """Return the rows of a fit for each gap, and the lower bound of the last."""
    few = rivals.some_rows(task)
    SoftmaxRegression(solver=solver).fit(few.X, few.y)
    rows = []
    for target in TARGETS:
        model = SoftmaxRegression(tol=target, solver=solver)
        seconds, _ = place.seconds(lambda model=model: model.fit(task.X, task.y))
        reached = model.optimality_gap_ / model.objective_
        rows.append(
            Row(problem, f"softreg ({where})", task.X.shape[0], target,
                seconds if model.converged_ else None, reached,
                int(model.history_["passes"][-1]), "proven")
        )  # fmt: skip
    return rows, model.objective_ - model.optimality_gap_


def rival_rows(
    problem: str, name: str, n_rows: int, trace: rivals.Trace, lowest: float
) -> list[Row]:
    """Return the rows of a rival, from its objective at each moment.

    What it claims in float32 counts only as far as float64 confirms its end.
    """
    values = np.minimum.accumulate(trace.values)
    reached = (trace.end - lowest) / lowest
    gaps = np.maximum((values - lowest) / lowest, reached)
    rows = []
    for target in TARGETS:
        at = np.flatnonzero(gaps <= target)
        seconds = trace.seconds[at[0]] if len(at) else None
        rows.append(
            Row(problem, name, n_rows, target, seconds, float(reached),
                int(at[0]) + 1 if len(at) else len(values), trace.note)
        )  # fmt: skip
    return rows


def measured(
    place: Place, problem: str, task: Task, limit: float
) -> Iterator[tuple[list[Row], str]]:
    """Yield the rows of each contender, and the line of a pass."""
    seconds, flops, size = rates(place, task)
    line = (
        f"| {problem} | {' x '.join(map(str, task.X.shape))}, {task.n_classes} | "
        f"{seconds:.3g} | {flops / TERA:.3g} | {size / GIGA:.3g} |"
    )
    rows, lowest = softreg(place, problem, task, place.name)
    yield rows, line
    if problem == "fashion_mnist" and place.name == "cupy":
        host = task._replace(X=place.xp.asnumpy(task.X), y=task.y.get())
        yield softreg(Place("numpy", np, ""), problem, host, "CPU")[0], ""
    if place.name == "cupy" and not task.sparse:
        rough = solvers.NewtonCG(tensor_float=True)
        yield softreg(place, problem, task, "cupy, TF32 in CG", rough)[0], ""
    for name, fit in rivals.RIVALS.items():
        place.free()
        try:
            trace = fit(place.xp, task, limit)
        except Exception as error:  # a rival's failure must not cost the race
            print(f"{problem}: {name}: {type(error).__name__}: {error}", flush=True)
            continue
        n_rows, bound = trace.n_rows or task.X.shape[0], lowest
        if trace.n_rows:
            bound = subset_bound(place, task, trace.n_rows)
        yield rival_rows(problem, name, n_rows, trace, bound), ""


def subset_bound(place: Place, task: Task, n_rows: int) -> float:
    """Return the lower bound that softreg proves for some of the rows."""
    model = SoftmaxRegression(tol=1e-6).fit(task.X[:n_rows], task.y[:n_rows])
    return model.objective_ - model.optimality_gap_


# -- the report -----------------------------------------------------------------------


def table(rows: list[Row]) -> list[str]:
    heads = ["problem", "contender", "rows", *(f"{t:.0e}" for t in TARGETS)]
    heads += ["gap at the end", "note"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for index in range(0, len(rows), len(TARGETS)):
        own = rows[index : index + len(TARGETS)]
        first, last = own[0], own[-1]
        cells = ["" if row.seconds is None else f"{row.seconds:.2f}" for row in own]
        lines.append(
            f"| {first.problem} | {first.contender} | {first.rows} | "
            f"{' | '.join(cells)} | {last.reached:.1e} | {last.note} |"
        )
    return lines


def write(stem: Path, place: Place, rows: list[Row], text: list[str]) -> None:
    with stem.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("device", *Row._fields))
        writer.writerows((place.device, *row) for row in rows)
    stem.with_suffix(".md").write_text("\n".join(text) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = ["fashion_mnist", "imagenet", "places", "text"]
    parser.add_argument("--problems", nargs="*", default=names, choices=names)
    parser.add_argument("--arrays", default="cupy", choices=["cupy", "numpy"])
    parser.add_argument("--share", type=float, default=1.0, help="of the rows")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each rival")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    place = place_named(options.arrays)
    product, copy = ceilings(place, options.share)
    passes = [
        f"On {place.device}: a float32 product at {product / TERA:.3g} TFLOP/s, a "
        f"copy at {copy / GIGA:.4g} GB/s.",
        "",
        "| problem | n x d, K | seconds a pass | TFLOP/s | GB/s of X, read twice |",
        "|---|---|---|---|---|",
    ]
    rows: list[Row] = []
    for name in options.problems:
        try:
            task = task_of(name, place, options.share, options.data)
        except NotAvailableError as error:
            print(f"{name}: {error}", flush=True)
            continue
        for own, line in measured(place, name, task, options.seconds):
            rows += own
            passes += [line] if line else []
            print("\n".join(table(own)[0 if line else 2 :]), flush=True)
            if options.output:
                text = [*passes, "", "Seconds to each relative gap:", "", *table(rows)]
                write(options.output, place, rows, text)
        del task
        place.free()
    print("\n".join(passes))


if __name__ == "__main__":
    main()
