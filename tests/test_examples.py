"""Examples run without a warning, and leave the figures they promise."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = pytest.mark.slow


def run(name, *args, cwd):
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *args]
    out = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    return out.stdout


def test_comparison_prints_a_table_and_draws_a_figure(tmp_path):
    table = run("compare_with_sklearn.py", "--quick", cwd=tmp_path)
    ours = [r for r in table.splitlines() if r.startswith("  SoftmaxRegression")]
    assert len(ours) == 4
    assert all(row.endswith("none") for row in ours)
    assert (tmp_path / "compare_with_sklearn.png").stat().st_size > 10_000


def test_three_searches_agree_and_are_drawn(tmp_path):
    table = run("choose_C.py", cwd=tmp_path).splitlines()
    ours, grid, theirs = (line.split() for line in table[1:4])
    assert [row[0] for row in (ours, grid)] == ["SoftmaxRegressionCV", "GridSearchCV"]
    assert ours[2:] == grid[2:]
    assert ours[-1] == "0"
    assert float(grid[1]) > 1
    assert float(theirs[1]) > 1
    assert (tmp_path / "choose_C.png").stat().st_size > 10_000


def test_grid_search_chooses_c(tmp_path):
    assert "SoftmaxRegression" in run("grid_search.py", cwd=tmp_path)


def test_a_file_larger_than_the_cap_is_streamed(tmp_path):
    says = run("stream_parquet.py", "--rows", "150000", cwd=tmp_path)
    assert "same bits: True" in says
    one, every = (
        float(line.split()[-1]) for line in says.splitlines() if " batch" in line[:14]
    )
    assert 0.6 < one < every
    if "no cap" not in says:
        assert "the file read as a whole: refused" in says


def test_a_fit_is_stopped_early(tmp_path):
    lines = run("early_stopping.py", cwd=tmp_path).splitlines()
    optimum, stopped, chosen = (float(line.split()[-1]) for line in lines)
    assert optimum + 0.05 < stopped <= chosen


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sparse_probabilities.py", "sparsemax"),
        ("margins.py", "margin of the cost"),
        ("label_noise.py", "40% wrong"),
        ("distillation.py", "rows' probabilities"),
        ("many_classes.py", "cluster"),
        ("calibration.py", "calibrated by temperature"),
        ("reading_a_fit.py", "magnesium"),
    ],
)
def test_each_technique_has_a_short_example(name, says, tmp_path):
    assert len((EXAMPLES / name).read_text().splitlines()) < 60
    assert says in run(name, cwd=tmp_path)
    for figure in tmp_path.iterdir():
        assert figure.stat().st_size > 10_000
