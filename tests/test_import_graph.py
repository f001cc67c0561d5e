"""The floors of the package: imports point down, stand at the top, and start no device."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "yolo_jax"

# What may know what: a part may import parts of lower floors and itself.
FLOORS = {
    "core": 0,
    "data": 1,
    "networks": 1,
    "detection": 2,
    "training": 3,
    "evaluation": 3,
    "model": 4,
    "inference": 5,
    "export": 5,
    "keras_yolo3": 5,
    "config": 6,
    # Half a floor up: they are given an ExperimentConfig, and config knows none of them.
    "run_folder": 6.5,
    "report": 6.6,  # of run folders
    "launch": 6.9,  # of a plan: what a slice is
    "score": 6.7,
    "agreement": 6.7,
    "provenance": 6.72,
    "experiment": 6.75,
    "plan": 6.8,  # of an experiment
    "sweep": 6.95,  # of experiments, launched
    "use": 6.75,
    "convert": 6.75,
    "examine": 6.75,
    "serve": 6.75,
    "evaluate": 6.8,  # of an experiment's data, put to use
    "cli": 7,
    "__main__": 8,
}
# Re-exports: free to import anything; who imports them depends on what they re-export, the model.
DOORS = {"__init__", "layers", "losses", "metrics", "optimizers", "regularizers", "callbacks"}
DOOR_FLOOR = FLOORS["model"]


def imported_modules(node: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    """Names what a statement imports; `package` is the one that relative imports start in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    origin = node.module or ""
    if node.level:
        parts = package.split(".")
        origin = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [origin])])
    # `from yolo_jax import core` reaches core, not the package's own names.
    return [f"{origin}.{alias.name}" if origin == "yolo_jax" else origin for alias in node.names]


def violations(path: str, source: str) -> Iterator[str]:
    """Yields what is wrong with the imports of one file; `path` is relative to the package."""
    parts = Path(path).with_suffix("").parts
    own = parts[0]
    package = ".".join(["yolo_jax", *parts[:-1]])
    if own not in FLOORS and own not in DOORS:
        yield f"{path}: {own} has no floor; give it one in this test and in ARCHITECTURE.md"
        return
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    yield f"{path}:{inner.lineno}: import inside the function {node.name}"
        if not isinstance(node, ast.Import | ast.ImportFrom) or own in DOORS:
            continue
        for module in imported_modules(node, package):
            top, _, rest = module.partition(".")
            part = rest.partition(".")[0]
            if top != "yolo_jax" or part == own:
                continue
            floor = FLOORS.get(part, DOOR_FLOOR)
            if floor >= FLOORS[own]:
                where = "the same floor" if floor == FLOORS[own] else "a floor above"
                yield f"{path}:{node.lineno}: imports {module}, on {where}"


def test_imports_point_down():
    found = [
        problem
        for file in sorted(PACKAGE.rglob("*.py"))
        for problem in violations(str(file.relative_to(PACKAGE)), file.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("core/boxes.py", "from yolo_jax.networks.blocks import BatchNorm", "a floor above"),
        ("core/boxes.py", "import yolo_jax.model.model as m", "a floor above"),
        ("core/boxes.py", "from yolo_jax import model", "a floor above"),
        ("core/boxes.py", "from ..detection import loss", "a floor above"),
        ("core/boxes.py", "from .. import Model", "a floor above"),
        ("data/readers/coco.py", "from yolo_jax.networks import blocks", "the same floor"),
        ("training/step.py", "if True:\n  import yolo_jax.evaluation.curves", "the same floor"),
        ("model/model.py", "from yolo_jax.callbacks import Callback", "the same floor"),
        ("cli/train.py", "def f():\n  import json", "inside the function f"),
        ("layers.py", "class A:\n  def g(self):\n    from os import path", "inside the function g"),
        ("utils.py", "", "has no floor"),
    ],
)
def test_checker_finds_a_violation(path, source, complaint):
    found = list(violations(path, source))
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("model/fit.py", "from yolo_jax.model.graph import Graph\nfrom . import history"),
        ("model/fit.py", "from yolo_jax.core.types import Batch\nimport jax, os.path"),
        ("data/readers/coco.py", "from ..images import letterbox"),
        ("losses.py", "from yolo_jax.model.losses import Joint"),
        ("__main__.py", "from yolo_jax.cli import main"),
        ("sweep.py", "from yolo_jax.config import ExperimentConfig"),
    ],
)
def test_checker_allows_what_points_down(path, source):
    assert list(violations(path, source)) == []


def test_importing_everything_starts_no_device():
    """JAX refuses a new number of CPU devices once a back end has started; so ask it."""
    modules = ["yolo_jax"]
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[-1] != "__main__":
            modules.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    script = f"""
import importlib
for name in {modules!r}:
    importlib.import_module(name)
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.numpy.zeros(1)
try:
    jax.config.update("jax_num_cpu_devices", 3)
except RuntimeError:
    print("asked twice")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The second refusal shows that the first question would have been refused too.
    assert done.stdout.strip() == "asked twice"
