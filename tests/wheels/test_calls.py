"""Every call to torch_tensorrt and every name of tensorrt that our engine uses, against the published wheels.

Read off the syntax tree and the bindings' strings; nothing is imported. It proves that the names and the
keywords exist, not what they do: that takes a GPU.
"""

import ast
from pathlib import Path

import pytest

from vderain import engines
from vderain.engines.backends.tensorrt import KNOWN_VERSIONS, check_version
from vderain.errors import EngineLoadError

SOURCE = Path(engines.__file__).parent / "backends" / "tensorrt.py"
CALLS = {
    "convert_exported_program_to_serialized_trt_engine": "dynamo/_compiler.py",
}
# What our module calls things of tensorrt by.
TENSORRT = {"trt", "_trt", "_runtime", "_engine", "engine", "context", "DataType", "TensorIOMode"}


def calls():
    """(name, positional arguments, keywords) of the calls that the wheels are asked for."""
    for node in ast.walk(ast.parse(SOURCE.read_text())):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in CALLS:
                yield name, len(node.args), {keyword.arg for keyword in node.keywords}


def tensorrt_names():
    names = set()
    for node in ast.walk(ast.parse(SOURCE.read_text())):
        if isinstance(node, ast.Attribute):
            owner = getattr(node.value, "attr", getattr(node.value, "id", ""))
            if owner in TENSORRT:
                names.add(node.attr)
    return names - {"inputs", "outputs", "open", "close"}


def signature(folder, name):
    """(positional, keyword-only) parameters of a function, or of a class's __init__."""
    tree = ast.parse((folder / "torch_tensorrt" / CALLS[name]).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            inits = [n for n in node.body if getattr(n, "name", "") == "__init__"]
            return [a.arg for a in inits[0].args.args[1:]], [
                a.arg for a in inits[0].args.kwonlyargs
            ]
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return [a.arg for a in node.args.args], [a.arg for a in node.args.kwonlyargs]
    raise AssertionError(f"{name} is not there")


def test_the_reader_finds_what_the_engine_uses():
    assert {name for name, _, _ in calls()} == set(CALLS)
    assert {
        *("Runtime", "deserialize_cuda_engine", "create_execution_context", "execute_async_v3"),
        *("set_tensor_address", "get_tensor_name", "get_tensor_mode", "num_io_tensors"),
        *("get_tensor_shape", "get_tensor_dtype", "UINT8", "INT32", "HALF", "FLOAT", "INPUT"),
    } <= tensorrt_names()


@pytest.mark.wheels
def test_torch_tensorrt_takes_every_argument_by_name(torch_tensorrt):
    for name, positional, keywords in calls():
        first, by_name = signature(torch_tensorrt, name)
        assert positional <= len(first)
        assert keywords <= {*first[positional:], *by_name}, name  # and not into **kwargs


@pytest.mark.wheels
def test_tensorrt_knows_every_name(tensorrt_bindings):
    assert len(tensorrt_bindings) > 100_000
    missing = {name for name in tensorrt_names() if name.encode() not in tensorrt_bindings}
    assert not missing
    assert b"no_such_name_of_tensorrt" not in tensorrt_bindings


@pytest.mark.parametrize("version", ["2.11.0", "2.12.1", "2.13.0+cu130"])
def test_known_versions_are_taken(version):
    check_version(version)


@pytest.mark.parametrize("version", [None, "2.10.0", "2.14.0", "1.4"])
def test_other_versions_are_refused_with_what_to_install(version):
    with pytest.raises(EngineLoadError, match=r"pip install 'vderain\[nvidia\]'") as refused:
        check_version(version)
    assert version is None or all(known in str(refused.value) for known in KNOWN_VERSIONS)
