"""Files that the user names, opened and written with errors that say what is wrong with a name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def open_file(path: Path | str, kind: str) -> BinaryIO:
    """Opens a file of the user's to read its bytes.

    Args:
        path: of the file.
        kind: of file that is expected, for the message: `an image file`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a directory, may not be read, or the path is one that no file can have.
    """
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a directory, not {kind}; name a file in it") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be opened: {error.strerror}") from error
    except ValueError as error:  # a NUL or half a surrogate pair, which only repr can print
        raise ValueError(f"{str(path)!r} is not a path that a file can have: {error}") from error


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Gives a file to write to, which takes the path's place when it is complete.

    Args:
        path: of a file of the user's; one that is there stays as it is when the writing fails.

    Raises:
        ValueError: the path is a folder.
        FileNotFoundError: there is no folder to write in.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} in")
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
