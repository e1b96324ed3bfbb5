"""The benchmarks run, and their tables hold together."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
pytestmark = pytest.mark.slow


def run(name, *args):
    out = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    return out.stdout


def test_peers_race_to_the_same_objective(tmp_path):
    libraries = ["softreg", "scikit-learn newton-cg"]
    report = run(
        "peers.py", "--problems", "digits", "--libraries", *libraries,
        "--rounds", 1, "--limit", 3, "--output", tmp_path / "race",
    )  # fmt: skip
    assert report.endswith((tmp_path / "race.md").read_text() + "\n")
    assert report.count("*geometric mean*") == 4
    assert (tmp_path / "race.png").stat().st_size > 10_000
    with (tmp_path / "race.csv").open() as file:
        rows = list(csv.DictReader(file))
    for library in libraries:
        gaps = [float(row["gap"]) for row in rows if row["library"] == library]
        assert min(gaps) < 1e-7
        assert min(gaps) > -1e-9


def test_the_figure_of_the_readme_is_that_of_the_results(tmp_path):
    said = run("figure.py", "--output", tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    table = (BENCHMARKS / "results" / "peers.md").read_text()
    cells = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    *problems, mean = [row[2:5] for row in cells if row[1:2] == ["1e-04"]]
    for name, fastest, ratio in problems:
        (line,) = [line for line in said.splitlines() if line.startswith(f"{name}: ")]
        assert f"{fastest} {ratio}" in line
    readme = (BENCHMARKS.parent / "README.md").read_text()
    ratios = [float(ratio) for *_, ratio in problems]
    assert f"{min(ratios):.2f} to {max(ratios):.2f} times as fast" in readme
    assert f"(geometric mean {mean[2]})" in readme


def test_rounds_on_dask_are_timed(tmp_path, shared):
    pytest.importorskip("distributed")
    table = tmp_path / "dask.md"
    report = run("dask_rounds.py", "--quick", "--repeats", 1, "--output", table)
    assert report == table.read_text()
    assert report.count("| newton-cg |") == 1
    assert report.count("x 2048 x 1000 |") == 3


def test_ratios_answer_a_question(tmp_path):
    table = run("ratios.py", "predict", "--rounds", 1, "--output", tmp_path / "out.md")
    assert table == (tmp_path / "out.md").read_text()
    assert table.count("| predict_proba |") == 4


def test_the_search_is_raced(tmp_path):
    table = run("cross_validation.py", "digits", "--output", tmp_path / "cv.md")
    assert table in (tmp_path / "cv.md").read_text()
    own, theirs = table.splitlines()[2].split("|")[4:6]
    assert float(own) > 1
    assert float(theirs) > 1


def test_growth_has_an_exponent_a_row(tmp_path):
    run("growth.py", "--doublings", 1, "--rounds", 1, "--output", tmp_path / "growth")
    lines = (tmp_path / "growth.md").read_text().splitlines()
    assert sum(line.startswith(("| dense", "| sparse")) for line in lines) == 6


def test_the_race_on_a_gpu_rehearses_without_one(tmp_path):
    run(
        "gpu.py", "--arrays", "numpy", "--share", 0.001, "--seconds", 1,
        "--problems", "places", "text", "--output", tmp_path / "gpu",
    )  # fmt: skip
    with (tmp_path / "gpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["problem"] for row in rows} == {"places", "text"}
    own = [row for row in rows if row["contender"] == "softreg (numpy)"]
    assert len(own) == 8
    for row in own:
        assert row["seconds"]
        assert 0 <= float(row["reached"]) <= float(row["target"])
    stand_in = [row for row in rows if row["contender"] == "cuml-qn stand-in"]
    assert min(float(row["reached"]) for row in stand_in) < 1e-3
    assert min(float(row["reached"]) for row in rows) > -1e-6
    assert "GB/s" in (tmp_path / "gpu.md").read_text()
