"""Values on the command line."""

import argparse
import json
from typing import Any


def count(text: str) -> int:
    """Reads a number of 1 or more from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a whole number of 1 or more")
    return int(text)


def changes(text: str) -> dict[str, Any]:
    """Reads values by a config's dotted fields, as JSON, from the command line."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(
            f"""found {text!r}; expected JSON such as {{"optimizer.learning_rate": 0.01}}"""
        )
    return found
