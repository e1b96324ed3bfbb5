"""The examples in docstrings are true."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import softreg

NAMES = [
    found.name
    for found in pkgutil.walk_packages(softreg.__path__, "softreg.")
    if ">>>" in Path(importlib.util.find_spec(found.name).origin).read_text()
]


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_are_true(name):
    results = doctest.testmod(
        importlib.import_module(name),
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE,
    )
    assert results.attempted > 0
    assert results.failed == 0
