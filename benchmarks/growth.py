"""Time and memory of a fit as n, d and K double, dense and sparse.

    python benchmarks/growth.py [--solver NAME] [--doublings N] [--output STEM]

Every fit runs in a process of its own, on generated data, for a fixed number of
iterations. Seconds are those of one pass over X (the fit's seconds over its passes, so
that preconditioners are counted); memory is the peak above that of the process with
its data. The exponents are slopes of log seconds and log memory over log n, d or K.
Writes STEM.csv and STEM.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

BASE = {
    "dense": {"n": 40_000, "d": 100, "K": 10},
    "sparse": {"n": 40_000, "d": 4_000, "K": 10},
}
MAX_ITER = 6
FIT = """
import json, sys, threading, time, warnings
import numpy as np, scipy.sparse
from softreg import SoftmaxRegression

kind, n, d, K, solver, max_iter = sys.argv[1], *map(int, sys.argv[2:5]), *sys.argv[5:]
rng = np.random.default_rng(0)
y = rng.integers(0, K, n)
y[:K] = np.arange(K)
if kind == "dense":
    X = rng.normal(size=(n, d))
else:
    # 20 words a row, as frequent as 1 / rank.
    words = np.minimum(np.exp(rng.random(20 * n) * np.log(d)).astype(np.int32), d - 1)
    starts = np.arange(0, 20 * n + 1, 20)
    X = scipy.sparse.csr_array((rng.random(20 * n), words, starts), shape=(n, d))
    X.sum_duplicates()
warnings.simplefilter("ignore")
SoftmaxRegression(max_iter=1).fit(rng.normal(size=(3000, 5)), np.arange(3000) % 3)

def megabytes():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024

peak, done, before = [0.0], threading.Event(), megabytes()
def poll():
    while not done.wait(0.002):
        peak[0] = max(peak[0], megabytes())
poller = threading.Thread(target=poll)
poller.start()
start = time.perf_counter()
model = SoftmaxRegression(solver=solver, max_iter=int(max_iter), tol=1e-12).fit(X, y)
seconds = time.perf_counter() - start
done.set()
poller.join()
passes = float(model.history_["passes"][-1])
print(json.dumps(dict(seconds=seconds, passes=passes, memory_mb=peak[0] - before)))
"""


def measure(kind: str, shape: dict[str, int], solver: str, rounds: int) -> dict:
    """Return the median seconds a pass and the peak memory of some fits."""
    rows = []
    for _ in range(rounds):
        sizes = [str(shape[name]) for name in ("n", "d", "K")]
        out = subprocess.run(
            [sys.executable, "-c", FIT, kind, *sizes, solver, str(MAX_ITER)],
            capture_output=True,
            text=True,
            check=True,
        )
        rows.append(json.loads(out.stdout))
    a_pass = float(np.median([row["seconds"] / row["passes"] for row in rows]))
    return {
        "passes": rows[0]["passes"],
        "ms_a_pass": 1e3 * a_pass,
        "memory_mb": float(np.median([row["memory_mb"] for row in rows])),
    }


def exponent(sizes: list[int], values: list[float]) -> float:
    """Return the slope of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 0.1)), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--solver", default="auto")
    parser.add_argument("--doublings", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("growth"))
    options = parser.parse_args()
    command = " ".join(["python", "benchmarks/growth.py", *sys.argv[1:]])
    cores = len(os.sched_getaffinity(0))
    lines = [
        "# Growth of a fit", "",
        f"`{command}`, {cores} cores. Milliseconds a pass / peak megabytes beyond the "
        "data.", "",
        "| X | grows | " + " | ".join(f"x {2**k}" for k in range(options.doublings + 1))
        + " | exponent of time / memory |",
        "|---" * (options.doublings + 4) + "|",
    ]  # fmt: skip
    print("\n".join(lines), flush=True)
    table: list[dict[str, Any]] = []
    for kind, base in BASE.items():
        for name in ("n", "d", "K"):
            sizes = [base[name] * 2**k for k in range(options.doublings + 1)]
            found = []
            for size in sizes:
                shape = base | {name: size}
                row = measure(kind, shape, options.solver, options.rounds)
                found.append(row)
                table.append({"X": kind, "grows": name, **shape, **row})
            times = [row["ms_a_pass"] for row in found]
            memory = [row["memory_mb"] for row in found]
            cells = [f"{t:.3g} / {m:.0f}" for t, m in zip(times, memory, strict=True)]
            both = f"{exponent(sizes, times):.2f} / {exponent(sizes, memory):.2f}"
            lines.append(f"| {kind} | {name} | " + " | ".join(cells) + f" | {both} |")
            print(lines[-1], flush=True)
    options.output.with_suffix(".md").write_text("\n".join(lines) + "\n")
    with options.output.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
