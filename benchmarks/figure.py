"""Draw the README's figure from the committed race: what a proven answer costs.

    python benchmarks/figure.py [--race CSV] [--output PNG]

For each problem of `benchmarks/results/peers.csv`: the time of each library to a true
relative gap of 1e-4, in units of softreg's. A hollow marker did not arrive: it stands
at the longest time that its library was given.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from peers import seconds_to

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
TARGET = 1e-4
MARKERS = "osD^v"


def read(path: Path) -> dict[tuple[str, int, int, int], dict[str, list[Any]]]:
    """Return the fits of a race by problem and library."""
    groups: dict[Any, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    with path.open() as file:
        for row in csv.DictReader(file):
            numbers: dict[str, Any] = {
                name: float(row[name]) for name in ("tol", "seconds", "gap")
            }
            problem = row["problem"], int(row["n"]), int(row["d"]), int(row["K"])
            groups[problem][row["library"]].append(numbers)
    return groups


def ratios(by_library: dict[str, list[Any]]) -> dict[str, tuple[float, bool]]:
    """Return the time of each peer over softreg's, and whether it arrived."""
    ours = seconds_to(by_library["softreg"], TARGET)
    found = {}
    for library, rows in by_library.items():
        seconds = seconds_to(rows, TARGET)
        arrived = bool(np.isfinite(seconds))
        longest = max(row["seconds"] for row in rows)
        found[library] = (seconds if arrived else longest) / ours, arrived
    return found


def draw(race: Path, output: Path) -> None:
    groups = read(race)
    libraries = list(dict.fromkeys(name for of in groups.values() for name in of))
    figure, ax = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    names = []
    for place, (problem, by_library) in enumerate(groups.items()):
        name, n, d, K = problem
        names.append(f"{name}\n{n} x {d}, {K} classes")
        for library, (ratio, arrived) in ratios(by_library).items():
            if library == "softreg":
                continue
            number = libraries.index(library)
            ax.plot(
                ratio, place, MARKERS[number - 1], color=f"C{number}",
                markerfacecolor=f"C{number}" if arrived else "none",
            )  # fmt: skip
    for number, library in enumerate(libraries[1:], start=1):
        ax.plot([], [], MARKERS[number - 1], color=f"C{number}", label=library)
    ax.axvline(1, color="C0", linewidth=3, label="softreg")
    ax.set_xscale("log")
    ax.set_xlabel(
        f"time to a relative gap of {TARGET:.0e}, in units of softreg's\n"
        "(hollow: not reached, with the longest time given)"
    )
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside right center", fontsize=8)
    figure.savefig(output, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser()
    race = ROOT / "benchmarks/results/peers.csv"
    parser.add_argument("--race", type=Path, default=race)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/images/peers.png")
    options = parser.parse_args()
    draw(options.race, options.output)
    for problem, by_library in read(options.race).items():
        row = ", ".join(
            f"{library} {ratio:.2f}{'' if arrived else ' (not reached)'}"
            for library, (ratio, arrived) in ratios(by_library).items()
            if library != "softreg"
        )
        print(f"{problem[0]}: {row}")


if __name__ == "__main__":
    main()
