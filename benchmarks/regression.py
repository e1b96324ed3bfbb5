"""Time a base revision against the working tree, side by side in one run.

    python benchmarks/regression.py [--base REVISION] [--rounds N] [--data FOLDER]

For use before a change of the numerical core is merged. Each round fits every problem
in a fresh process of either side, in turn; the table has the median seconds of both,
their ratio, and the passes. Shared data sets are used where they are found.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
FIT = """
import json, sys, time, warnings
from pathlib import Path
from sklearn.datasets import load_digits, load_wine, make_classification
from softreg import SoftmaxRegression
problems = {"wine": load_wine(return_X_y=True), "digits": load_digits(return_X_y=True)}
problems["20000 x 50 x 10"] = make_classification(
    20_000, 50, n_informative=10, n_classes=10, n_clusters_per_class=1, random_state=0
)
sys.path.insert(0, sys.argv[2])
from problems import NotAvailableError, load
for name in ("letter", "covtype20k", "shuttle", "isolet", "clinc150"):
    try:
        problems[name] = load(name, Path(sys.argv[1]))
    except NotAvailableError:
        pass
warnings.simplefilter("ignore")
for name, (X, y) in problems.items():
    SoftmaxRegression(max_iter=1).fit(X, y)
    start = time.perf_counter()
    model = SoftmaxRegression().fit(X, y)
    seconds = time.perf_counter() - start
    print(json.dumps([name, seconds, float(model.history_["passes"][-1])]))
"""


def fits(tree: Path, data: Path) -> dict[str, tuple[float, float]]:
    """Return seconds and passes of every problem, fitted by one tree's softreg."""
    out = subprocess.run(
        [sys.executable, "-c", FIT, str(data), str(ROOT / "benchmarks")],
        env=os.environ | {"PYTHONPATH": str(tree)},
        cwd=tree,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in out.stdout.splitlines()]
    return {name: (seconds, passes) for name, seconds, passes in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="HEAD")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = ["git", "-C", str(ROOT), "archive", options.base, "softreg"]
        tar = subprocess.run(archive, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=tar, check=True)
        rounds = [
            (fits(Path(folder), options.data), fits(ROOT, options.data))
            for _ in range(options.rounds)
        ]
    print(f"{'problem':18} {'base s':>8} {'tree s':>8} {'tree/base':>10}  passes")
    for name in rounds[0][0]:
        base = median(old[name][0] for old, _ in rounds)
        tree = median(new[name][0] for _, new in rounds)
        ratio = median(new[name][0] / old[name][0] for old, new in rounds)
        passes = f"{rounds[0][0][name][1]:.0f} -> {rounds[0][1][name][1]:.0f}"
        print(f"{name:18} {base:8.3f} {tree:8.3f} {ratio:10.2f}  {passes}")


if __name__ == "__main__":
    main()
