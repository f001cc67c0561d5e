"""Files and functions stay short enough to be read in a few minutes."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE_LINES, FUNCTION_LINES = 350, 60


def test_files_and_functions_are_short():
    found = []
    for folder in ("yolo_jax", "experiments"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            source = file.read_text(encoding="utf-8")
            name, lines = file.relative_to(ROOT), len(source.splitlines())
            if lines > FILE_LINES:
                found.append(f"{name} has {lines} lines")
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    # What a function says of itself is no burden on who reads its code.
                    doc = ast.get_docstring(node, clean=False) or ""
                    length = (node.end_lineno or 0) - node.lineno + 1 - len(doc.splitlines())
                    if length > FUNCTION_LINES:
                        found.append(f"{name}:{node.lineno} {node.name} has {length} lines")
    assert not found, "\n".join(found)
