"""Numbers on the command line."""

import argparse


def count(text: str) -> int:
    """Reads a number of 1 or more from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a whole number of 1 or more")
    return int(text)
