"""The examples of public docstrings are true."""

import doctest
import importlib
from pathlib import Path

import pytest

import softreg

ROOT = Path(softreg.__file__).parent
FILES = [path for path in sorted(ROOT.rglob("*.py")) if ">>>" in path.read_text()]
EXTRAS = {"onnx": ("skl2onnx", "onnxruntime"), "inference": ("pandas",)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_docstrings_are_true(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    for extra in EXTRAS.get(parts[1], ()):
        pytest.importorskip(extra)
    name = ".".join(part for part in parts if part != "__init__")
    results = doctest.testmod(
        importlib.import_module(name),
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE,
    )
    assert results.attempted > 0
    assert results.failed == 0
