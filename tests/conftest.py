"""Fixtures: the array libraries, and raw data sets."""

import sys
from pathlib import Path

import array_api_strict
import numpy as np
import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


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
