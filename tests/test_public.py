"""Every public name is there when it is asked for, and importing gradquake loads none of it."""

import json
import subprocess
import sys
from types import ModuleType

import pytest

import gradquake as gq

SUBMODULES = {
    "gradquake.experiments": {"modular_addition", "readings", "synthetic", "xor"},
    "gradquake.analysis": {
        "collapse", "early_warning", "ladder", "power", "resampling", "scaling", "specifications",
        "sweep", "tails", "timing", "transitions",
    },
}  # fmt: skip


def fresh(code):
    """Return what a new process prints as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


MODULES = [name for name in gq.__all__ if isinstance(getattr(gq, name), ModuleType)]


@pytest.mark.parametrize("name", MODULES)
def test_a_public_module_has_the_names_that_it_lists(name):
    module = getattr(gq, name)
    public = [one for one in dir(module) if not one.startswith("_")]
    assert public
    for one in public:
        assert hasattr(module, one)


def test_the_modules_of_a_package_load_when_they_are_used():
    code = """
import json, sys
import gradquake as gq
light = [name for name in ("numpy", "numba", "xarray") if name in sys.modules]
run = gq.experiments.xor.XorRun(3, 0)
print(json.dumps([light, run.n_parameters, "gradquake.experiments.synthetic" in dir(gq.experiments)]))
"""
    assert fresh(code) == [[], 13, False]


@pytest.mark.parametrize(("package", "modules"), SUBMODULES.items())
def test_a_package_lists_its_modules(package, modules):
    code = f"import json, {package}; print(json.dumps(dir({package})))"
    assert set(fresh(code)) == modules
    code = f"import json, {package} as of; print(json.dumps(hasattr(of, 'nothing')))"
    assert fresh(code) is False
