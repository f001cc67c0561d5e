"""Files and folders that a model is exported to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Gives a file to write to, which takes the path's place when it is complete.

    Raises:
        ValueError: the path is a folder.
        FileNotFoundError: there is no folder to write in.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file to export to")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} in")
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
