"""Disks that take no more: full, read-only or broken; said in one line."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a disk says that takes no more.
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def refusal(error: BaseException | None) -> int | None:
    """Returns the number of what a disk refused with; tensorstore's errors have it as text."""
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        return error.errno
    said = str(error) if isinstance(error, (OSError, ValueError)) else ""
    return next((number for number in _REFUSALS if os.strerror(number) in said), None)


def _is_news(record: logging.LogRecord) -> bool:
    """Tells whether a record is none of the tracebacks of what a save raises anyway."""
    error = record.exc_info[1] if record.exc_info else None
    return refusal(error) is None


for _name in ("absl", "asyncio"):  # orbax's threads, and its tasks
    logging.getLogger(_name).addFilter(_is_news)


@contextmanager
def failing_clearly(folder: Path) -> Iterator[None]:
    """Raises in one line, with the folder, what the disk refused a save.

    Raises:
        OSError: the disk's word, and the folder.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        number = refusal(error)
        if number is None:
            raise
        raise OSError(
            number,
            f"{os.strerror(number)}: a checkpoint could not be saved; those before it stay",
            str(folder),
        ) from None
