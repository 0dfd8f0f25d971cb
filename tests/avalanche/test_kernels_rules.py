"""Rules that make every kernel give the same bits on every processor."""

import ast
import inspect

from kernel_cases import (
    KERNEL_FILES,
)

# Exact, or correctly rounded.
FIXED = {"sqrt", "frexp", "ldexp", "isnan", "inf", "nan"}


def test_no_kernel_may_be_compiled_with_fastmath():
    compiled = {
        kernel for file in KERNEL_FILES for kernel in vars(file).values() if hasattr(kernel, "py_func")
    }
    assert len(compiled) > 40
    assert not any(kernel.targetoptions.get("fastmath") for kernel in compiled)


def test_no_kernel_calls_a_mathematical_library():
    functions = [
        node
        for file in KERNEL_FILES
        for node in ast.parse(inspect.getsource(file)).body
        if isinstance(node, ast.FunctionDef)
    ]
    used = {
        node.attr
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "math"
    }
    assert used <= FIXED
