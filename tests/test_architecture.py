"""Imports point one way, optional libraries stay with their owners, names are fixed."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import softreg

ROOT = Path(softreg.__file__).parent
PAGE = ROOT.parent / "docs" / "architecture.md"
NAMES_END = 43  # of the column of names in the page's table


def layers():
    """Return the names of each line of the architecture page's table, lowest first."""
    (table,) = re.findall(r"```\n(21 .*?)```", PAGE.read_text(), re.DOTALL)
    found, number = {}, ""
    for line in table.splitlines():
        number = line[:3].strip() or number  # a line without one goes on
        found.setdefault(int(number), []).extend(line[4:NAMES_END].split())
    return [found[level] for level in range(len(found))]


LAYERS = layers()
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# fmt: off
OWNERS = {
    "cupy": {"_arrays", "_fused", "_streams"},
    "cupyx": {"_arrays", "_streams"},
    "torch": {"_arrays"},
    "threadpoolctl": {"_threads"},
    "joblib": {"_parameters", "_progress"},
    "sklearn": {
        "_parameters", "_labels", "_rows", "_partitions", "_data", "_scores",
        "_prediction", "_softmax", "_hierarchical", "_robust", "_large_margin", "_path",
        "_search", "_cross_validation", "_watching", "callbacks", "display",
        "inference", "onnx",
    },
    "matplotlib": {"display"},
    "pandas": {"inference"},
    "onnx": {"onnx"},
    "skl2onnx": {"onnx"},
    "onnxruntime": set(),
    "skops": set(),
    "dask": {"_dask"},
    "distributed": {"_dask"},
    "h5py": set(),
    "zarr": set(),
}
# fmt: on
FILES = sorted(ROOT.rglob("*.py"))


def module_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """Yield (module, whether it is ours) of every import, lazy ones included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module]
            if node.module == "softreg":
                names = [f"softreg.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, *rest = name.split(".")
            yield (rest[0], True) if first == "softreg" else (first, False)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    module = module_of(path)
    for name, ours in imports(path):
        if ours and name != module:
            assert LEVEL[name] < LEVEL[module], f"{module} imports {name}"
        elif not ours:
            owners = OWNERS.get(name, {module})
            assert module in owners, f"{module} imports {name}"


def test_every_module_has_a_layer():
    assert {module_of(path) for path in FILES} == set(LEVEL)


def test_importing_softreg_loads_no_extra():
    code = (
        "import sys, sklearn.base, sklearn.utils.validation; "
        "before = set(sys.modules); "
        "import softreg; "
        "print(*{'cupy', 'dask', 'distributed', 'matplotlib', 'onnx', 'pandas', "
        "'skl2onnx', 'torch'} & (set(sys.modules) - before))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == ""


def test_public_names_are_fixed():
    assert softreg.__all__ == [
        "HierarchicalSoftmax", "LargeMarginSoftmaxRegression",
        "RobustSoftmaxRegression", "SoftmaxRegression", "SoftmaxRegressionCV",
        "__version__", "callbacks", "display", "functional", "inference", "losses",
        "softmax_path", "solvers",
    ]  # fmt: skip
    assert softreg.losses.__all__ == ["Loss"]
    assert softreg.solvers.__all__ == [
        "LBFGS", "GradientDescent", "Line", "MiniBatch", "NewtonCG", "NewtonCholesky",
        "Objective", "Point", "Solver",
    ]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_function_is_typed_and_fits_a_screen(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef):
            continue
        code = node.body[ast.get_docstring(node) is not None :] or node.body
        assert node.returns is not None, node.name
        lines = code[-1].end_lineno - code[0].lineno + 1
        assert lines <= 60, f"{node.name} has {lines} lines"
