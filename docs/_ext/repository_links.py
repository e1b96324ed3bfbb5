"""Links between files of the repository, as links between pages."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from sphinx import addnodes
from sphinx.transforms import SphinxTransform


class RepositoryLinks(SphinxTransform):
    """Take `../examples/x.py` to its page in the gallery, `../CHANGELOG.md` to its own.

    Pages link to files as viewers of the repository want it. MyST would offer those
    outside of docs/ for download.
    """

    default_priority = 5

    def apply(self, **kwargs: Any) -> None:
        """Replace the links of one page."""
        for node in list(self.document.findall(addnodes.download_reference)):
            page = page_of(node["reftarget"])
            if page is None:
                continue
            link = addnodes.pending_xref(
                "",
                *node.children,
                refdoc=self.env.docname,
                refdomain="std",
                reftype="doc",
                reftarget=f"/{page}",
                refexplicit=True,
                refwarn=True,
            )
            node.replace_self(link)


def page_of(target: str) -> str | None:
    """Return the page that shows a file of the repository, if there is one."""
    path = PurePosixPath(target.removeprefix("../").removeprefix("/"))
    if path.parts[0] == "examples":
        return f"gallery/{path.stem}" if path.suffix == ".py" else "gallery/index"
    return {"CHANGELOG.md": "changelog"}.get(path.name)


def setup(app: Any) -> dict[str, bool]:
    """Register the transform."""
    app.add_transform(RepositoryLinks)
    return {"parallel_read_safe": True}
