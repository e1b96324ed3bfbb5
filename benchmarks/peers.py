"""Seconds to a relative objective gap: softreg beside its peers, on the same data.

    python benchmarks/peers.py [--quick] [--data FOLDER] [--problems NAME ...]
                               [--libraries NAME ...] [--output STEM]

Every library that is installed fits each problem in a process of its own, the libraries
in turn, with its tolerance tightened a decade at a time, from 10^4 on: what a tolerance
means differs, and one bound is looser than another. The objective at what it returns is
evaluated by one function here, whatever the library. Short fits are repeated for
medians. Writes STEM.csv (every fit), STEM.md (the tables) and STEM.png after each
problem.

Optional peers: scikit-learn-intelex and cyanure, from PyPI.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import resource
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import numpy as np
from judge import objective
from problems import DATA, PROBLEMS, NotAvailableError, load

TARGETS = (1e-2, 1e-4, 1e-6, 1e-8)
TOLERANCES = tuple(10.0**-k for k in range(-4, 11))
CORES = len(os.sched_getaffinity(0))
# Figures of one fit are repeated where all of a process's fits took at most this.
SHORT_SECONDS = 20.0

Fit = Callable[[Any, np.ndarray, float], tuple[np.ndarray, np.ndarray]]


# -- the contenders -------------------------------------------------------------------


def softreg(X: Any, y: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray]:
    from softreg import SoftmaxRegression

    model = SoftmaxRegression(tol=tol, max_iter=10_000, n_jobs=CORES).fit(X, y)
    return model.coef_, model.intercept_


def scikit_learn(solver: str) -> Fit:
    def fit(X: Any, y: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(solver=solver, tol=tol, max_iter=100_000)
        model.fit(X, y)
        return model.coef_, model.intercept_

    return fit


def intelex(X: Any, y: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray]:
    from sklearnex.linear_model import LogisticRegression

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore
    logger = logging.getLogger("sklearnex")
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]
    model = LogisticRegression(tol=tol, max_iter=100_000).fit(X, y)
    if any("fallback" in line for line in said):
        raise NotImplementedError("falls back to scikit-learn")
    return model.coef_, model.intercept_


def cyanure(X: Any, y: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray]:
    from cyanure.estimators import Classifier

    model = Classifier(
        loss="multiclass-logistic",
        penalty="l2",
        lambda_1=1 / X.shape[0],
        fit_intercept=True,
        tol=tol,
        max_iter=100_000,
        n_threads=CORES,
        verbose=False,
    ).fit(X, y)
    return model.coef_.T, np.ravel(model.intercept_)


LIBRARIES: dict[str, tuple[str, Fit]] = {
    "softreg": ("softreg", softreg),
    "scikit-learn lbfgs": ("scikit-learn", scikit_learn("lbfgs")),
    "scikit-learn newton-cg": ("scikit-learn", scikit_learn("newton-cg")),
    "scikit-learn newton-cholesky": ("scikit-learn", scikit_learn("newton-cholesky")),
    "scikit-learn-intelex": ("scikit-learn-intelex", intelex),
    "Cyanure": ("cyanure", cyanure),
}


def installed() -> dict[str, str]:
    """Return the version of each library that is there."""
    found = {}
    for name, (package, _) in LIBRARIES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            print(f"{name}: not installed, left out")
    return found


# -- one process ----------------------------------------------------------------------


def say(**row: Any) -> None:
    print(json.dumps(row), flush=True)


def work(problem: str, library: str, data: Path, enough: float) -> None:
    """Fit at one tolerance after the other until the objective is at most `enough`."""
    warnings.simplefilter("ignore")
    X, y = load(problem, data)
    fit = LIBRARIES[library][1]
    few = np.concatenate([np.flatnonzero(y == k)[:5] for k in range(3)])
    fit(X[few], y[few], 1e-1)  # imports and thread pools
    for tol in TOLERANCES:
        say(begin=time.time(), tol=tol)
        start = time.perf_counter()
        coef, intercept = fit(X, y, tol)
        seconds = time.perf_counter() - start
        value = objective(X, y, coef, intercept)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        say(tol=tol, seconds=seconds, objective=value, peak_mb=peak)
        if value <= enough:
            break


def reference(problem: str, data: Path) -> None:
    """Say the shape and the optimum, proven to 1e-10."""
    from softreg import SoftmaxRegression

    X, y = load(problem, data)
    model = SoftmaxRegression(tol=1e-10, max_iter=10_000, n_jobs=CORES).fit(X, y)
    value = objective(X, y, model.coef_, model.intercept_)
    say(
        n=X.shape[0], d=X.shape[1], K=len(model.classes_), optimum=value,
        proven=model.optimality_gap_ / model.objective_,
    )  # fmt: skip


# -- all processes --------------------------------------------------------------------


def spawn(*arguments: str, step_limit: float | None = None) -> tuple[list[dict], str]:
    """Return what a process says, and why it ended; a step past the limit ends it."""
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(CORES)
    )
    process = subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | threads,
    )
    limit = None if step_limit is None else 4 * step_limit
    try:
        out, error = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        out, error = process.communicate()
        rows = _rows(out)
        if rows and "begin" in rows[-1]:
            last = rows.pop()
            spent = time.time() - last["begin"]
            rows.append({"tol": last["tol"], "seconds": spent, "objective": np.inf})
        return [row for row in rows if "begin" not in row], "out of time"
    rows = [row for row in _rows(out) if "begin" not in row]
    ended = "" if process.returncode == 0 else (error.strip().splitlines() or ["?"])[-1]
    return rows, ended


def _rows(out: str) -> list[dict[str, Any]]:
    """Return the lines that are ours: some libraries print unasked."""
    lines = [line for line in out.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines]


def race(
    problem: str, libraries: dict[str, str], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Yield a row for each fit."""
    data = ["--data", str(options.data)]
    said, ended = spawn("--reference", problem, *data)
    if not said:
        print(f"{problem}: left out, {ended}")
        return
    facts = said[0]
    print(f"{problem}: {facts}", flush=True)
    enough = facts["optimum"] * (1 + TARGETS[-1] / 2)
    slow: set[str] = set()
    for number in range(options.rounds):
        for library, its_version in libraries.items():
            if library in slow:
                continue
            rows, ended = spawn(
                "--work", problem, library, *data, "--enough", repr(enough),
                step_limit=options.limit,
            )  # fmt: skip
            if ended or sum(row["seconds"] for row in rows) > SHORT_SECONDS:
                slow.add(library)
            if ended:
                print(f"  {library}: {ended}", flush=True)
            for row in rows:
                gap = row["objective"] / facts["optimum"] - 1
                yield {
                    "problem": problem,
                    **{key: facts[key] for key in ("n", "d", "K")},
                    "library": library,
                    "version": its_version,
                    "cores": CORES,
                    "round": number,
                    **row,
                    "gap": gap,
                }


def steps(rows: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Return (median seconds, gap) of each tolerance of one library on one problem."""
    by_tol: dict[float, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_tol[row["tol"]].append(row)
    return [
        (median(r["seconds"] for r in fits), max(r["gap"] for r in fits))
        for _, fits in sorted(by_tol.items(), reverse=True)
    ]


def seconds_to(rows: list[dict[str, Any]], target: float) -> float:
    """Return the seconds of the fastest step within the target, or infinity."""
    return min((s for s, gap in steps(rows) if gap <= target), default=np.inf)


def tables(table: list[dict[str, Any]], libraries: dict[str, str]) -> str:
    """Return the report: seconds to each gap, and the ratios to the peers."""
    command = " ".join(["python", "benchmarks/peers.py", *sys.argv[1:]])
    versions = ", ".join(f"{name} {v}" for name, v in libraries.items())
    lines = [
        "# Seconds to a relative objective gap", "",
        f"`{command}`, {CORES} cores. {versions}.", "",
        "Seconds to a true gap of " + " / ".join(f"{t:.0e}" for t in TARGETS) + "; "
        "`-`: did not arrive, with the longest time it was given.", "",
        "| problem | " + " | ".join(libraries) + " |",
        "|---" * (len(libraries) + 1) + "|",
    ]  # fmt: skip
    groups: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in table:
        of_problem = groups.setdefault(row["problem"], {})
        of_problem.setdefault(row["library"], []).append(row)
    for problem, by_library in groups.items():
        cells = [_cell(by_library.get(name, [])) for name in libraries]
        lines.append(f"| {problem} | " + " | ".join(cells) + " |")
    lines += [
        "", "Seconds of the fastest peer, and of scikit-learn's default solver, over "
        "softreg's:", "",
        "| gap | problem | fastest peer | ratio | lbfgs, ratio |",
        "|---" * 5 + "|",
    ]  # fmt: skip
    for target in TARGETS:
        lines += _ratios(groups, target)
    return "\n".join(lines) + "\n"


def _cell(rows: list[dict[str, Any]]) -> str:
    times = [seconds_to(rows, target) for target in TARGETS]
    text = " / ".join(f"{t:.3g}" if np.isfinite(t) else "-" for t in times)
    if rows and not np.isfinite(times[-1]):
        text += f" ({max(row['seconds'] for row in rows):.3g})"
    return text if rows else ""


def _ratios(groups: dict[str, Any], target: float) -> Iterator[str]:
    to_best, to_default = [], []
    for problem, by_library in groups.items():
        ours = seconds_to(by_library["softreg"], target)
        # A peer that does not arrive counts with its longest time.
        peers = {
            name: min(seconds_to(rows, target), max(row["seconds"] for row in rows))
            for name, rows in by_library.items()
            if name != "softreg"
        }
        arrived = {
            name: seconds
            for name, seconds in peers.items()
            if np.isfinite(seconds_to(by_library[name], target))
        }
        best = min(arrived or peers, key=peers.__getitem__)
        default = peers.get("scikit-learn lbfgs", np.nan)
        to_best.append(peers[best] / ours)
        to_default.append(default / ours)
        name = best if arrived else f"none arrives, {best}"
        yield (
            f"| {target:.0e} | {problem} | {name} | {to_best[-1]:.2f} "
            f"| {to_default[-1]:.1f} |"
        )
    # Where softreg itself does not arrive its ratio is 0, and so is the mean.
    means = [
        0.0 if 0 in ratios else geometric_mean(ratios)
        for ratios in (to_best, to_default)
    ]
    yield f"| {target:.0e} | *geometric mean* | | {means[0]:.2f} | {means[1]:.1f} |"


def draw(table: list[dict[str, Any]], libraries: dict[str, str], path: Path) -> None:
    """Draw a panel for each problem: the gap over the seconds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    problems = list(dict.fromkeys(row["problem"] for row in table))
    columns = min(4, len(problems))
    lines = -(-len(problems) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.6 * columns, 3.2 * lines), squeeze=False,
        layout="constrained", sharey=True,
    )  # fmt: skip
    for axis in axes.flat[len(problems) :]:
        axis.set_visible(False)
    for axis, problem in zip(axes.flat, problems, strict=False):
        for index, library in enumerate(libraries):
            rows = [
                row
                for row in table
                if (row["problem"], row["library"]) == (problem, library)
            ]
            points = [(s, g) for s, g in steps(rows) if np.isfinite(g)]
            if not points:
                continue
            seconds = [s for s, _ in points]
            # Below 1e-10 the reference itself is not known.
            gaps = [max(gap, 1e-10) for _, gap in points]
            bold = {"linewidth": 2.5, "zorder": 3} if library == "softreg" else {}
            axis.plot(
                seconds, gaps, marker="o", markersize=3, color=f"C{index}",
                label=library, **bold,
            )  # fmt: skip
        row = next(row for row in table if row["problem"] == problem)
        axis.set_title(
            f"{problem}\n{row['n']} x {row['d']}, {row['K']} classes", fontsize=9
        )
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_ylim(5e-11, 10)
        axis.grid(alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel("relative objective gap")
    for axis in axes.flat[max(0, len(problems) - columns) : len(problems)]:
        axis.set_xlabel("seconds")
    handles = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=110)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three minutes in all")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS)
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES)
    parser.add_argument("--rounds", type=int, help="of the short fits")
    parser.add_argument("--limit", type=float, help="a quarter of a process's seconds")
    parser.add_argument("--output", type=Path, help="STEM of .csv, .md and .png")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--enough", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--reference", help=argparse.SUPPRESS)
    options = parser.parse_args()
    quick = options.quick
    options.rounds = options.rounds or (1 if quick else 3)
    options.limit = options.limit or (2.5 if quick else 60.0)
    everything = [name for name in PROBLEMS if name not in ("digits", "khan")]
    options.problems = options.problems or (
        ["digits", "letter", "isolet"] if quick else everything
    )
    return options


def main() -> None:
    options = parsed()
    if options.reference:
        return reference(options.reference, options.data)
    if options.work:
        return work(*options.work, options.data, options.enough)
    libraries = installed()
    if options.libraries:
        libraries = {name: libraries[name] for name in options.libraries}
    table: list[dict[str, Any]] = []
    for name in options.problems:
        table += race(name, libraries, options)
        if options.output and table:
            save(table, tables(table, libraries), libraries, options.output)
    print(tables(table, libraries))
    return None


def save(
    table: list[dict[str, Any]], report: str, libraries: dict[str, str], stem: Path
) -> None:
    with stem.with_suffix(".csv").open("w", newline="") as file:
        fields = list(dict.fromkeys(key for row in table for key in row))
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    stem.with_suffix(".md").write_text(report)
    draw(table, libraries, stem.with_suffix(".png"))


if __name__ == "__main__":
    try:
        main()
    except (NotAvailableError, NotImplementedError) as error:
        sys.exit(str(error))
