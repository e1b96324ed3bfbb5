"""How Sphinx builds these pages; `.ci/run` has the command."""

import sys
from pathlib import Path

import softreg

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "softreg"
author = "The softreg developers"
copyright = author
version = release = softreg.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # or formulas need a network to be read
    "sphinx_gallery.gen_gallery",
    "repository_links",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "gallery/README*"]
nitpicky = True
# Single backticks link what is public here, and are code where nothing is.
default_role = "py:obj"
nitpick_ignore_regex = [("py:obj", ".*")]
highlight_language = "text"

html_theme = "pydata_sphinx_theme"
html_title = f"softreg {version}"
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 6,
}
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
# All but: extended summaries, "See Also" and examples of every method, and values that
# are returned having no name. tests/test_documents.py says who has examples.
numpydoc_validation_checks = {"all", "ES01", "SA01", "EX01", "RT02"}
numpydoc_validation_exclude = {r"\.Objective$"}  # a protocol: nobody calls it

# The scripts are run by the tests, which need minutes.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"^$",
    "plot_gallery": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "within_subsection_order": "FileNameSortKey",
    "copyfile_regex": "",
}


def without_call(app, what, name, *_):
    """Show no signature of what nobody calls."""
    return ("", None) if name.endswith(".Objective") else None


def setup(app):
    """Connect."""
    app.connect("autodoc-process-signature", without_call)
