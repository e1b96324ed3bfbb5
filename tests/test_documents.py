"""Every page of docs/ runs as it stands, keeps what it promises, and is linked."""

import ast
import re

import pytest
from pages import DOCS, ROOT, code_of

# Pages whose code another test runs, or that need a cluster.
ELSEWHERE = {
    "out-of-core.md": "test_sources.py",
    "reading-a-model.md": "test_inference.py",
    "scaling-out.md": None,
}
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
