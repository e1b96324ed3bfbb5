"""Links to files of the repository outside of docs/, as links to the pages of them.

Pages link as viewers of the repository want it, to `../examples/x.py`, of which the
gallery has a page. Files without one are offered for download.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform


class RepositoryLinks(SphinxTransform):
    """Replace MyST's links to files outside of docs/."""

    default_priority = 5

    def apply(self, **kwargs: Any) -> None:
        """Replace those of one page."""
        docs = Path(self.env.srcdir)
        for node in list(self.document.findall(is_link_of_myst)):
            target = node["reftarget"]
            if node["refdomain"] == "doc":
                target += ".md"
            path = (docs / target).resolve()
            if not path.is_relative_to(docs) and path.is_relative_to(docs.parent):
                own = path.relative_to(docs.parent)
                node.replace_self(self.link_to(own, node.children))

    def link_to(self, path: Path, children: list[nodes.Node]) -> nodes.Element:
        """Return a link to the page of a file, or to the file."""
        page = page_of(path)
        if page is None:
            return addnodes.download_reference(
                "", *children, refdoc=self.env.docname, reftarget=f"../{path}"
            )
        return addnodes.pending_xref(
            "",
            *children,
            refdoc=self.env.docname,
            refdomain="std",
            reftype="doc",
            reftarget=f"/{page}",
            refexplicit=True,
            refwarn=True,
        )


def is_link_of_myst(node: nodes.Node) -> bool:
    """Return whether a node is a link that MyST made of a path."""
    kinds = addnodes.download_reference | addnodes.pending_xref
    return isinstance(node, kinds) and node.get("reftype") == "myst"


def page_of(path: Path) -> str | None:
    """Return the page that shows a file of the repository, None where there is none."""
    if path.parts[0] == "examples":
        return f"gallery/{path.stem}" if path.suffix == ".py" else "gallery/index"
    return {"CHANGELOG.md": "changelog", "README.md": "index"}.get(str(path))


def setup(app: Any) -> dict[str, bool]:
    """Register the transform."""
    app.add_transform(RepositoryLinks)
    return {"parallel_read_safe": True}
