"""What a public function raises by itself, its docstring says, or that of its class."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "yolo_jax"
SPECIAL = ("__init__", "__call__", "__post_init__")


def unsaid(node: ast.AST, said: str = "") -> Iterator[str]:
    """Yields the errors that public functions raise, by name, and do not tell of."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if child.name.startswith("_") and child.name not in SPECIAL:
            continue
        # A property's setter has no docstring: the property's own is of both.
        if any(ast.unparse(one).endswith(".setter") for one in child.decorator_list):
            continue
        own = said + (ast.get_docstring(child) or "")
        if isinstance(child, ast.ClassDef):
            yield from unsaid(child, own)
            continue
        for inner in ast.walk(child):
            # What a subclass has to write raises NotImplementedError, whatever it says of itself.
            if isinstance(inner, ast.Raise) and isinstance(inner.exc, ast.Call):
                raised = ast.unparse(inner.exc.func)
                if raised[0].isupper() and raised not in f"{own} NotImplementedError":
                    yield f"{child.lineno}: {child.name} raises {raised}"


def test_docstrings_name_the_errors():
    found = [
        f"{file.relative_to(PACKAGE)}:{one}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for one in unsaid(ast.parse(file.read_text()))
    ]
    assert found == []


def test_one_that_does_not_is_found():
    said = 'class A:\n "Raises KeyError."\n def f(self):\n  raise KeyError(1)\n'
    assert list(unsaid(ast.parse(said))) == []
    found = list(unsaid(ast.parse(said + " def g(self):\n  raise OSError(1)")))
    assert found == ["5: g raises OSError"]
