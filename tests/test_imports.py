"""The import rule of CONTRIBUTING.md, read from the code."""

import ast
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import gradquake

PACKAGE = Path(gradquake.__file__).parent

# A file may import only what stands above it.
ORDER = [
    "errors",
    "_kernels",
    "graphs",
    "neurons",
    "cascade",
    "collective",
    "pieces",
    "probe",
    "surrogates",
    "recording",
    "store",
    "execution",
    "analysis",
    "analysis.resampling",
    "analysis.scaling",
    "analysis.transitions",
    "analysis.tails",
    "analysis.collapse",
    "analysis.sweep",
    "analysis.ladder",
    "analysis.timing",
    "analysis.power",
    "analysis.specifications",
    "analysis.early_warning",
    "experiments",
    "experiments.xor",
    "experiments.synthetic",
    "experiments.replay",
    "experiments.modular_addition",
    "scrutiny",
    "sensitivity",
    "tables",
    "objects",
    "figures",
    "live",
    "paper",
    "paper.conditions",
    "paper.evidence",
    "paper.verdicts",
    "paper.folder",
    "paper.quantities",
    "paper.claims",
    "paper.scrutiny_plates",
    "paper.plates",
    "paper.pages",
    "paper.reproduce",
    "paper.modadd",
    "paper.modadd.evidence",
    "paper.modadd.claims",
    "paper.modadd.pages",
    "paper.modadd.plates",
    "paper.modadd.reproduce",
    "formats",
    "steps",
    "files",
    "series",
    "torch.guest",
    "torch.schedules",
    "torch.loggers",
    "torch.exchange",
    "torch.topology",
    "torch.gradients",
    "torch.device",
    "torch.measurement",
    "torch.labels",
    "torch.journal",
    "torch.quake",
    "torch",
    "torch.callback",
    "torch.lightning",
    "torch.huggingface",
    "torch.weights",
    "cli",
    "__main__",
]
HIDDEN_FROM_EXPERIMENTS = (
    "store", "execution", "analysis", "scrutiny", "sensitivity", "tables", "objects",
    "figures", "live", "paper", "torch", "cli",
)  # fmt: skip
HOMES = {
    "numba": "_kernels",
    "matplotlib": "figures",
    "powerlaw": "analysis.tails",
    "sqlite3": "store",
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def imports(path):
    """Every module that a file imports, `from gradquake import graphs` as gradquake.graphs."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in names if name.removeprefix("gradquake.") in ORDER]
            yield from known or [node.module]


MODULES = dict(modules())
RULED = {name: path for name, path in MODULES.items() if name}


def test_every_module_has_its_place():
    assert set(RULED) == set(ORDER)


@pytest.mark.parametrize("name", list(RULED))
def test_imports_only_from_above(name):
    allowed = ORDER[: ORDER.index(name)]
    for imported in imports(RULED[name]):
        if imported.startswith("gradquake."):
            assert imported.removeprefix("gradquake.") in allowed, f"{name} imports {imported}"


@pytest.mark.parametrize("name", [name for name in RULED if name.startswith("experiments")])
def test_experiments_do_not_know_of_their_analysis(name):
    own = [i.removeprefix("gradquake.") for i in imports(RULED[name]) if i.startswith("gradquake.")]
    assert not [i for i in own if i.split(".")[0] in HIDDEN_FROM_EXPERIMENTS]


@pytest.mark.parametrize(("library", "home"), list(HOMES.items()))
def test_library_appears_only_in_its_home(library, home):
    users = {n for n, path in RULED.items() for i in imports(path) if i.split(".")[0] == library}
    assert users == {home}


def test_torch_and_its_frameworks_stay_in_their_rooms():
    found = {
        name: {i.split(".")[0] for i in imports(path)} & {"torch", "lightning", "transformers"}
        for name, path in MODULES.items()
    }
    users = {name for name, libraries in found.items() if libraries}
    assert {name for name in users if not name.startswith("torch")} == {"experiments.modular_addition"}
    assert {name for name in users if found[name] - {"torch"}} == {
        "torch.lightning",
        "torch.huggingface",
    }


TESTS = Path(__file__).parent
NEEDED_BY = runpy.run_path(str(TESTS / "conftest.py"))["NEEDED_BY"]


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.stem)
def test_tests_that_need_an_optional_library_are_listed_as_such(path):
    used = {i.split(".")[0] for i in imports(path)} & set(NEEDED_BY)
    for library in used:
        homes = [TESTS / home for home in NEEDED_BY[library]]
        assert any(path.is_relative_to(home) for home in homes), f"{path} imports {library}"


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


def public_objects():
    for name, path in RULED.items():
        pending = [(name, node) for node in ast.parse(path.read_text(encoding="utf-8")).body]
        while pending:
            place, node = pending.pop()
            named = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if named and not node.name.startswith("_"):
                yield f"{place}.{node.name}", ast.get_docstring(node)
                if isinstance(node, ast.ClassDef):
                    pending += [(f"{place}.{node.name}", child) for child in node.body]


@pytest.mark.parametrize(("name", "docstring"), list(public_objects()))
def test_public_object_has_a_docstring(name, docstring):
    assert docstring, f"{name} has no docstring"
