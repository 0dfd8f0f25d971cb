"""Every public name is there when it is asked for, and importing gradquake loads none of it."""

import json
import subprocess
import sys
from types import ModuleType

import pytest

import gradquake as gq


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


def test_dir_shows_what_a_user_needs():
    assert dir(gq) == sorted([*gq.__all__, "__version__"])
    for hidden in ("annotations", "importlib", "TYPE_CHECKING"):
        assert hidden not in dir(gq)


def test_every_name_loads_when_it_is_used():
    code = """
import json, sys
import gradquake as gq
heavy = ("numpy", "numba", "xarray", "rich", "matplotlib", "torch")
light = [name for name in heavy if name in sys.modules]
named = [name for name in gq.__all__ if getattr(gq, name) is None]
print(json.dumps([light, named, "torch" in sys.modules]))
"""
    assert fresh(code) == [[], [], False]


def test_every_command_is_a_public_function():
    for command in ("reproduce", "run", "measure", "analyze", "watch", "plot", "info"):
        assert callable(getattr(gq, command))
        assert command in gq.__all__
