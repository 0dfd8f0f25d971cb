"""The site: Sphinx reads this file. `make docs` builds it, without the network."""

import os
import re
import sys
from pathlib import Path

from numpydoc.xref import DEFAULT_LINKS

import gradquake

os.environ.setdefault("MPLBACKEND", "agg")
# The small networks of the gallery are slower on several threads, and far slower on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

project = "gradquake"
author = "The gradquake developers"
project_copyright = author
release = version = gradquake.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "reference_pages",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery", "gallery_of/*.ipynb", "gallery_of/*.py"]
nitpicky = True

# The pages are read on the repository's web view too, so they use little beyond plain Markdown.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# The reference. Docstrings give types with their shapes, so signatures leave them out.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["lightning", "pytorch_lightning", "transformers"]
autodoc_default_options = {"member-order": "bysource"}
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {
    **{name: name for name in DEFAULT_LINKS},  # str, int and the like are no links
    "array": "numpy.ndarray",
    **{name: f"gradquake.{name}" for name in ("Avalanche", "AvalancheBatch", "Graph", "Probe", "Study")},
    **{name: f".{name}" for name in ("xarray.Dataset", "xarray.DataArray", "matplotlib.axes.Axes")},
    **{name: f".{name}" for name in ("torch.nn.Module", "torch.optim.Optimizer")},
    "Executor": "concurrent.futures.Executor",
    "Path": "pathlib.Path",
    "Quake": "gradquake.torch.Quake",
}

# Other projects' names. The lists in _inventories/ hold those that are used; without them a build would
# need the network.
SITES = {
    "matplotlib": "https://matplotlib.org/stable/",
    "numpy": "https://numpy.org/doc/stable/",
    "python": "https://docs.python.org/3/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "xarray": "https://docs.xarray.dev/en/stable/",
}
intersphinx_mapping = {name: (site, f"_inventories/{name}.txt") for name, site in SITES.items()}

# Examples are scripts; the build runs them.
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "gallery_of",
    "filename_pattern": r"/plot_",
    "abort_on_example_error": True,
    "min_reported_time": 60,
    "show_memory": False,
    "capture_repr": ("_repr_html_",),
    "show_signature": False,
    "download_all_examples": False,
    "within_subsection_order": "FileNameSortKey",
    "doc_module": ("gradquake",),
    "reference_url": {"gradquake": None},
    "backreferences_dir": None,
    "copyfile_regex": "",
}

html_theme = "pydata_sphinx_theme"
html_title = "gradquake"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["analyze.schema.json"]
html_copy_source = False
html_show_sourcelink = False
# Pages without a section of their own have no list of its pages.
html_sidebars = {page: [] for page in ("index", "start", "peers", "benchmarks", "changelog")}
html_theme_options = {
    "navbar_start": ["navbar-logo"],
    "navbar_persistent": ["search-button"],
    "navbar_end": ["version-switcher", "theme-switcher"],
    "switcher": {"json_url": "_static/switcher.json", "version_match": version},
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

linkcheck_timeout = 20
linkcheck_retries = 2


# Links that work in the repository, and the pages of the site that stand for their targets.
STANDS_FOR = {
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "gallery/": "gallery_of/index.rst",
    "analyze.schema.json": "api/json.md",
    "../src/gradquake/__init__.py": "api/gradquake.rst",
    "../src/gradquake/torch/__init__.py": "api/gradquake.torch.rst",
    "../src/gradquake/cli/": "api/command-line.md",
}


def _to_the_site(content):
    """Point the links of a page, in place, at pages of the site."""
    text = content[0].replace("](docs/", "](")
    for there, here in STANDS_FOR.items():
        text = text.replace(f"]({there})", f"]({here})")
    content[0] = re.sub(r"\]\(\.\./src/gradquake/(\w+)/\)", r"](api/room-\1.rst)", text)


def _included(app, path, parent, content):  # noqa: ARG001
    _to_the_site(content)


def _read(app, page, content):  # noqa: ARG001
    if not page.startswith("api/"):
        _to_the_site(content)


def setup(app):
    """Let Sphinx call the functions above."""
    app.connect("include-read", _included)
    app.connect("source-read", _read)
