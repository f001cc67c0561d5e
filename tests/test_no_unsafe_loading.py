"""Nothing that is read can run code: the calls that could are listed here, each with its reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("yolo_jax", "experiments")
# Modules whose loaders run what they read, and XML's that expand entities.
UNSAFE = {
    *("pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"),
    *("xml", "lxml", "xmlrpc", "defusedxml", "runpy", "code", "imp"),
}
LOADS = {"load", "loads", "load_all", "unsafe_load", "full_load", "Unpickler", "open", "parse"}
LOADS |= {"fromstring", "XML", "iterparse", "XMLParser", "ParserCreate", "run_path", "run_module"}
# Functions by the module's own name, whoever imports it under which other.
ALWAYS = {"eval", "exec", "compile", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "os.system"}
ALWAYS |= {"yaml.full_load", "torch.load", "numpy.load", "os.popen"}
ALLOWED = {
    ("yolo_jax/model/worker_processes.py", "pickle.loads"): (
        "the user's own Sequence, which this process laid for its workers into a folder of its "
        "own; and an exception that was pickled in the same line"
    ),
    ("yolo_jax/config/files.py", ".exec_module"): "a config is a Python file that the user names",
    ("yolo_jax/data/readers/yolo.py", "yaml.load"): (
        "with a loader that makes texts, lists and mappings alone, and refuses aliases"
    ),
    ("yolo_jax/data/readers/voc_xml.py", "xml.etree.ElementTree.XMLParser"): (
        "refuses a DOCTYPE, without which there are no entities"
    ),
    ("yolo_jax/data/readers/voc_xml.py", "xml.etree.ElementTree.parse"): "by that parser",
    ("yolo_jax/data/readers/columns.py", "numpy.load"): "with allow_pickle=False",
    ("experiments/data/prepare_tree_crowns.py", "xml.etree.ElementTree.fromstring"): (
        "files of a wheel whose checksum is known, when the shipped set is made again"
    ),
}


def imported(tree: ast.Module) -> dict[str, str]:
    """Returns what the imported names stand for, in full."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return names


def full_name(function: ast.expr, names: dict[str, str]) -> str:
    """Returns what is called: `numpy.load` of `np.load`, `.read` of a value's method."""
    parts: list[str] = []
    while isinstance(function, ast.Attribute):
        parts.insert(0, function.attr)
        function = function.value
    if not isinstance(function, ast.Name) or (parts and function.id not in names):
        return f".{parts[-1]}" if parts else ""
    return ".".join([names.get(function.id, function.id), *parts])


def unsafe_calls(source: str) -> Iterator[tuple[int, str]]:
    """Yields line and name of the calls in a file that may run what they read."""
    tree = ast.parse(source)
    names = imported(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = full_name(node.func, names)
        top, last = name.partition(".")[0], name.rpartition(".")[2]
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if name in ALWAYS or last == "exec_module" or (top in UNSAFE and last in LOADS):
            yield node.lineno, name
        elif given.get("allow_pickle", "False") != "False":
            yield node.lineno, f"{name}(allow_pickle)"
        elif given.get("shell", "False") != "False":
            yield node.lineno, f"{name}(shell)"


def test_nothing_that_is_read_runs_code():
    found = {
        (file.relative_to(ROOT).as_posix(), name): line
        for folder in FOLDERS
        for file in sorted((ROOT / folder).rglob("*.py"))
        for line, name in unsafe_calls(file.read_text(encoding="utf-8"))
    }
    told = [f"{file}:{line}: {name}" for (file, name), line in found.items()
            if (file, name) not in ALLOWED]  # fmt: skip
    assert not told, "\n".join(told)
    assert ALLOWED.keys() <= found.keys(), "an entry of the list is not needed any more"


def test_columns_refuse_pickled_objects():
    source = (ROOT / "yolo_jax/data/readers/columns.py").read_text(encoding="utf-8")
    calls = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
    (load,) = [call for call in calls if ast.unparse(call.func) == "np.load"]
    assert {k.arg: ast.unparse(k.value) for k in load.keywords} == {"allow_pickle": "False"}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import pickle\npickle.load(f)", "pickle.load"),
        ("import pickle as p\np.Unpickler(f)", "pickle.Unpickler"),
        ("from cloudpickle import loads as read\nread(b)", "cloudpickle.loads"),
        ("import joblib\njoblib.load('a')", "joblib.load"),
        ("import shelve\nshelve.open('a')", "shelve.open"),
        ("eval(text)", "eval"),
        ("exec(text)", "exec"),
        ("import yaml\nyaml.load(text, yaml.Loader)", "yaml.load"),
        ("import torch\ntorch.load(path)", "torch.load"),
        ("import numpy as np\nnp.load(path)", "numpy.load"),
        ("import numpy as np\nnp.lib.format.read_array(f, allow_pickle=True)",
         "numpy.lib.format.read_array(allow_pickle)"),
        ("from xml.etree import ElementTree as E\nE.parse(path)", "xml.etree.ElementTree.parse"),
        ("import xml.dom.minidom\nxml.dom.minidom.parse(path)", "xml.dom.minidom.parse"),
        ("from lxml import etree\netree.parse(path)", "lxml.etree.parse"),
        ("import subprocess\nsubprocess.run(text, shell=True)", "subprocess.run(shell)"),
        ("import os\nos.system(text)", "os.system"),
        ("spec.loader.exec_module(module)", ".exec_module"),
    ],
)  # fmt: skip
def test_the_check_finds_it(source, name):
    assert [found for _, found in unsafe_calls(source)] == [name]


@pytest.mark.parametrize(
    "source",
    [
        "import json\njson.load(f)",
        "import yaml\nyaml.safe_load(text)",
        "import pickle\npickle.dumps(x)",
        "graph.eval()",
        "path.open('rb')",
        "import re\nre.compile('a')",
        "import numpy as np\nnp.savez(f, allow_pickle=False)",
        "import subprocess\nsubprocess.run(['ls'], shell=False)",
    ],
)
def test_the_check_lets_pass(source):
    assert list(unsafe_calls(source)) == []
