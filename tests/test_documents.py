"""Every page of docs/ runs as it stands, keeps what it promises, and is linked."""

import ast
import inspect
import re

import pytest
from pages import DOCS, ROOT, code_of

import softreg
import softreg.onnx

# Pages whose code another test runs, or that need a cluster.
ELSEWHERE = {
    "interoperability.md": "test_interoperability.py",
    "out-of-core.md": "test_sources.py",
    "reading-a-model.md": "test_inference.py",
    "scaling-out.md": None,
}
MODULES = [softreg, *(m for m in vars(softreg).values() if inspect.ismodule(m))]
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in MODULES
    if not module.__name__.startswith("softreg._")
    for name in getattr(module, "__all__", ())
    if callable(getattr(module, name))
}
# What nobody makes or calls by hand has no example.
WITHOUT_EXAMPLE = {"Line", "Objective", "Point"}
# Methods for the library, and for scikit-learn's.
UNLISTED = {"log_proba_of", "get_metadata_routing"}
PAGES = [page for page in sorted(DOCS.glob("*.md")) if code_of(page)]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.name not in ELSEWHERE], ids=lambda page: page.stem
)
def test_code_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "__main__"}
    for number, code in enumerate(code_of(page)):
        exec(compile(code, f"{page.name}[{number}]", "exec"), scope)


@pytest.mark.parametrize("page", ELSEWHERE)
def test_pages_run_elsewhere_are_named_there(page):
    assert (DOCS / page) in PAGES
    if ELSEWHERE[page] is not None:
        assert page in (ROOT / "tests" / ELSEWHERE[page]).read_text()


def test_a_loss_and_a_solver_take_less_than_forty_lines():
    lengths = {}
    for code in code_of(DOCS / "extending.md"):
        for node in ast.parse(code).body:
            if isinstance(node, ast.ClassDef):
                lengths[node.name] = len(
                    [line for line in code.splitlines() if line.strip()]
                )
    assert set(lengths) == {"FermiDirac", "State", "BarzilaiBorwein"}
    assert max(lengths.values()) < 40


def test_tests_that_the_promises_name_exist():
    named = re.findall(
        r"`(test_\w+\.py)::(test_\w+)`", (DOCS / "promises.md").read_text()
    )
    assert len(named) > 30
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"


def test_every_page_is_in_a_table_of_contents():
    listed = []
    for page in DOCS.glob("*.md"):
        for toc in re.findall(r"```{toctree}\n(.*?)```", page.read_text(), re.DOTALL):
            listed += re.findall(r"^([\w-]+)$", toc, re.M)
    assert sorted([*listed, "index"]) == sorted(page.stem for page in DOCS.glob("*.md"))


def test_the_reference_has_every_public_name():
    text = (DOCS / "api.md").read_text()
    listed = set()
    for part in text.split(".. currentmodule:: ")[1:]:
        module, _, rest = part.partition("\n")
        names = re.findall(r"^   (\w+)$", rest, re.M)
        listed |= {f"{module}.{name}" for name in names}
    assert listed == set(PUBLIC)


def sections_of(thing):
    return set(re.findall(r"^ *(\w[\w ]*)\n *---+$", inspect.getdoc(thing), re.M))


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_say_what_numpydoc_asks(name):
    thing, wanted = PUBLIC[name], set()
    if name.rpartition(".")[2] not in WITHOUT_EXAMPLE:
        wanted |= {"Examples"}
    if inspect.isfunction(thing):
        signature = inspect.signature(thing)
        wanted |= {"Parameters"} if signature.parameters else set()
        wanted |= {"Returns"} if signature.return_annotation != "None" else set()
    assert wanted <= sections_of(thing)


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.count(".") == 1])
def test_methods_say_what_they_return_and_raise(name):
    for method, function in inspect.getmembers(PUBLIC[name], inspect.isfunction):
        ours = inspect.getmodule(function).__name__.startswith("softreg.")
        if ours and not method.startswith("_") and method not in UNLISTED:
            assert {"Returns", "Raises"} <= sections_of(function), method


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem
)
def test_examples_begin_as_the_gallery_wants(path):
    title, line, *rest = ast.get_docstring(ast.parse(path.read_text())).splitlines()
    assert line == "=" * len(title)
    assert f"    python examples/{path.name}" in "\n".join(rest)
