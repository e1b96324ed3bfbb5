"""Fixtures: the array libraries, and raw data sets."""

import importlib.util
import sys
from pathlib import Path

import array_api_strict
import numpy as np
import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_report_header():
    """Say where CuPy is not CuPy."""
    found = importlib.util.find_spec("cupy")
    if found is not None and "cupy_on_cpu" in str(found.origin):
        return "cupy: a stand-in on the CPU, no GPU"
    return None


@pytest.fixture(params=["numpy", "strict"])
def xp(request):
    """Array namespaces the core is tested on."""
    return np if request.param == "numpy" else array_api_strict


@pytest.fixture(scope="session")
def shared():
    """The loader of the shared data sets; tests that want it skip without it."""
    if not (SHARED_DATA / "load.py").exists():
        pytest.skip("no ../shared/data beside this checkout")
    sys.path.insert(0, str(SHARED_DATA))
    import load

    return load
