"""The examples in public docstrings are true."""

import doctest
import importlib

import pytest

from softreg import _softmax, inference
from softreg.functional import _distributions, _losses


@pytest.mark.parametrize("module", [_softmax, _distributions, _losses, inference])
def test_docstrings_are_true(module):
    check(module)


def test_docstrings_on_export_are_true():
    pytest.importorskip("skl2onnx")
    pytest.importorskip("onnxruntime")
    check(importlib.import_module("softreg.onnx"))


def check(module):
    results = doctest.testmod(
        module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert results.attempted > 0
    assert results.failed == 0
