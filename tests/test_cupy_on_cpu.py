"""The tests of the GPU on a stand-in of CuPy, which finds mistakes of Python.

See tests/cupy_on_cpu/README.md. It must not be imported here: others look for CuPy.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
STAND_IN = TESTS / "cupy_on_cpu"
STRICTNESS = str(STAND_IN / "strictness.py")
GPU = str(TESTS / "test_gpu.py")

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="no C++ compiler",
)


def run(*args):
    """Run a script of Python with the stand-in on the path."""
    paths = [str(STAND_IN), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    out = subprocess.run(
        [sys.executable, *args],
        env=environment, cwd=TESTS.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert out.returncode == 0, out.stdout[-6000:] + out.stderr[-2000:]
    return out.stdout


def pytest_of(*args):
    options = ("-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist")
    return run("-m", "pytest", *options, "-m", "gpu", *args)


@needs_compiler
def test_it_is_strict_and_fits_pass_on_it():
    out = pytest_of(STRICTNESS, GPU, "-k", "strictness or wine or sparse or refused")
    # The tests of strictness pass where those of the GPU find none.
    assert " passed" in out
    assert "skipped" not in out.lower()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@needs_compiler
def test_all_tests_of_the_gpu_pass_on_it():
    out = pytest_of(GPU)
    assert " passed" in out


@pytest.mark.slow
@needs_compiler
def test_the_race_on_the_gpu_is_rehearsed_on_it(tmp_path):
    options = ("--arrays", "cupy", "--share", "0.001", "--seconds", "0.2")
    stem = tmp_path / "race"
    out = run(
        "benchmarks/gpu.py", *options, "--problems", "text", "places", "--output", stem
    )
    assert "On CPU stand-in of CuPy" in out
    assert "softreg (cupy)" in out
    assert stem.with_suffix(".csv").read_text().count("CPU stand-in of CuPy") >= 16


def test_it_is_not_in_use_by_accident():
    assert not any(Path(path).resolve() == STAND_IN for path in sys.path)
