"""The import rule of CONTRIBUTING.md, read from the code."""

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import gradquake

PACKAGE = Path(gradquake.__file__).parent

CONTRIBUTING = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def rows(heading):
    """The first column of the table under a heading of CONTRIBUTING.md."""
    section = re.split(r"^#+ ", CONTRIBUTING, flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(f"{heading}\n")]
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


ROOMS = [name.removesuffix(".py").rstrip("/") for name in rows("How data flow")]
ORDER = [
    name
    for room in ROOMS
    for name in (
        [room]
        if room == "errors"
        else [f"{room}.{file.removesuffix('.py').replace('/', '.')}" for file in rows(f"`{room}/`")]
    )
]
# The rooms, and the folders of papers.
PACKAGES = [room for room in ROOMS if room != "errors"]
PACKAGES += sorted({name.rpartition(".")[0] for name in ORDER if name.count(".") == 2})

KERNELS = {name for name in ORDER if "._kernels" in name or name.endswith("._numba")}
FIGURES = {"report.figures", "report.figures_scaling", "report.figures_tensors"}
HOMES = {
    "numba": KERNELS,
    "matplotlib": FIGURES,
    "jinja2": {"report.page"},
    "markupsafe": {"report.page"},
    "powerlaw": {"analysis._tail_likelihoods", "analysis.tails"},
    "sqlite3": {name for name in ORDER if name.startswith("study.")},
    "distributed": {"study.pools"},
    "torch": {
        *(name for name in ORDER if name.startswith("torch.")),
        "files.torch_weights",
        "experiments.transformer",
        "experiments.modular_addition",
    },
    "lightning": {"torch.lightning"},
    "transformers": {"torch.huggingface"},
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


MODULES = dict(modules())
FILES = {name: path for name, path in MODULES.items() if path.stem not in ("__init__", "__main__")}


def imports(path):
    """Every module that a file imports, `from gradquake.study import study` as gradquake.study.study."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name.removeprefix("gradquake.") in MODULES else node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))


def own_imports(path):
    return [i.removeprefix("gradquake.") for i in imports(path) if i.startswith("gradquake.")]


def test_every_file_has_its_place():
    assert sorted(FILES) == sorted(ORDER)
    assert {name for name in MODULES if name not in FILES} == {"", "__main__", *PACKAGES}


def test_files_import_only_from_above():
    against = [
        f"{name} imports {imported}"
        for name, path in FILES.items()
        for imported in own_imports(path)
        if imported not in ORDER[: ORDER.index(name)]
        # A package's face loads what is in it.
        and not (imported in PACKAGES and ROOMS.index(imported) < ROOMS.index(name.split(".")[0]))
    ]
    assert against == []


def test_packages_import_only_from_inside():
    against = [
        f"{name} imports {imported}"
        for name in PACKAGES
        for imported in own_imports(MODULES[name])
        if not imported.startswith(f"{name}.")
    ]
    assert against == []


def test_experiments_do_not_know_of_their_analysis():
    hidden = ("analysis", *ROOMS[ROOMS.index("experiments") + 1 :])
    for name, path in FILES.items():
        if name.startswith("experiments."):
            assert not [i for i in own_imports(path) if i.split(".")[0] in hidden]


@pytest.mark.parametrize("library", list(HOMES))
def test_library_appears_only_at_home(library):
    users = {n for n, path in MODULES.items() for i in imports(path) if i.split(".")[0] == library}
    assert users
    assert users <= HOMES[library]


TESTS = Path(__file__).parent
NEEDED_BY = runpy.run_path(str(TESTS / "conftest.py"))["NEEDED_BY"]


def test_tests_that_need_an_optional_library_are_listed_as_such():
    unlisted = [
        f"{path} imports {library}"
        for path in sorted(TESTS.rglob("*.py"))
        for library in {i.split(".")[0] for i in imports(path)} & set(NEEDED_BY)
        if not any(path.is_relative_to(TESTS / home) for home in NEEDED_BY[library])
    ]
    assert unlisted == []


def test_import_is_light():
    code = "import sys, gradquake; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    heavy = {"numpy", "numba", "scipy", "xarray", "matplotlib", "torch", "rich", "typer", "pandas"}
    assert not heavy & set(loaded.stdout.split())


def test_public_names_are_all_there():
    for name in gradquake.__all__:
        assert getattr(gradquake, name) is not None
    assert set(gradquake.__all__) <= set(dir(gradquake))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'relaxx'"):
        _ = gradquake.relaxx
