"""Configuration of Sphinx. The documentation is built offline: nothing is fetched, not even inventories."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import mne_labram

REPOSITORY = Path(__file__).resolve().parents[1]
# MNE and MOABB keep settings and results under the home directory; examples must not leave anything there.
scratch = tempfile.TemporaryDirectory(prefix="mne-labram-doc-")
for name in ("_MNE_FAKE_HOME_DIR", "MNE_DATA", "MOABB_RESULTS"):
    os.environ[name] = scratch.name
# Examples run in folders of their own; they find the recordings by this.
SHARED = Path(os.environ.setdefault("MNE_LABRAM_SHARED", str(REPOSITORY.parent / "shared")))

project = "mne_labram"
author = "mne_labram developers"
copyright = f"2026, {author}"
version = release = mne_labram.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_design",  # the badges that Braindecode's models wear
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "literal"
nitpicky = False  # most names here are MNE's, torch's and Braindecode's, whose inventories are not fetched

autodoc_typehints = "none"  # numpydoc says it in words
autodoc_inherit_docstrings = False
autosummary_generate = True
numpydoc_class_members_toctree = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = f"mne_labram {release}"
html_show_sourcelink = False
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}

# An example that reads real recordings is shown without being run where they are absent.
runs = "plot_" if (SHARED / "data").is_dir() else "plot_(?!annotate_seizure)"
sphinx_gallery_conf = {
    "examples_dirs": str(REPOSITORY / "examples"),
    "gallery_dirs": "auto_examples",
    "filename_pattern": runs,
    "reset_modules_order": "both",
    "show_memory": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "within_subsection_order": "FileNameSortKey",
}
suppress_warnings = ["config.cache"]  # of no interest: sphinx-gallery's settings cannot be pickled


def skip_foreign(app, what, name, obj, skip, options):
    """Leave out what classes inherit from torch, Braindecode and scikit-learn: there are a hundred of them."""
    module = getattr(getattr(obj, "fget", obj), "__module__", None) or ""
    return None if module.startswith("mne_labram") else True


def setup(app):
    """Connect what Sphinx calls."""
    app.connect("autodoc-skip-member", skip_foreign)
