"""What is wrong with a data set, record by record."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from yolo_jax.core.types import Dataset

_log = logging.getLogger(__name__)
_SHOWN = 10


class Kind(StrEnum):
    """What sort of thing is wrong; the gravest first."""

    UNREADABLE_SPLIT = "split that cannot be read"
    NOTHING = "nothing to learn"
    UNREADABLE = "unreadable image"
    OTHER_SIZE = "image of another size than its record"
    IN_TWO_SPLITS = "image in two splits"
    CLASS_NAMES = "class names that differ between splits"
    UNKNOWN_CLASS = "box of an unknown class"
    OUTSIDE = "box outside the image"
    NO_SIZE = "box without width or height"
    STICKS_OUT = "box that sticks out"
    DOUBLE_BOX = "duplicate box"
    DOUBLE_IMAGE = "duplicate image"
    CROWDED = "image of more boxes than max_boxes"
    OTHER = "other bad record"


class Fault(NamedTuple):
    """What is wrong with a record.

    Attributes:
        reason: what was found, and what was done about it.
        kind: of fault.
    """

    reason: str
    kind: Kind = Kind.OTHER


@dataclass(frozen=True)
class Problem:
    """One bad record.

    Attributes:
        file: that holds it.
        record: which: `image 3`, `annotation 17`.
        reason: what was found, and what was done about it.
        kind: of fault.
        loses_image: an image that was meant to be in the data set is not.
    """

    file: Path
    record: str
    reason: str
    kind: Kind = Kind.OTHER
    loses_image: bool = False

    def __str__(self) -> str:
        """Returns `file: record: reason`."""
        return f"{self.file}: {self.record}: {self.reason}"


def listed(values: Iterable[object], between: str = ", ") -> str:
    """Returns the first ten of some values in words, and how many more there are."""
    values = list(values)
    more = [f"… and {len(values) - _SHOWN:,} more"] if len(values) > _SHOWN else []
    return between.join([*map(str, values[:_SHOWN]), *more])


def report(problems: Sequence[Problem], *, strict: bool) -> None:
    """Warns of bad records, or raises.

    Args:
        problems: found by a reader, which has dealt with the records.
        strict: raise rather than warn.

    Raises:
        ValueError: strict, and there are problems; the message has the first ten and their count.
    """
    if not problems:
        return
    lines = [str(problem) for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"… and {len(problems) - _SHOWN:,} more; yolo-jax doctor lists all")
    text = f"{len(problems):,} bad records:\n" + "\n".join(lines)
    if strict:
        raise ValueError(text)
    _log.warning("%s", text)


@contextmanager
def held_back() -> Iterator[None]:
    """Keeps `report` from warnings, for who shows the problems himself.

    When an error ends it, nobody will show them, and the warnings come before it.
    """
    records: list[logging.LogRecord] = []

    def hold(record: logging.LogRecord) -> bool:
        records.append(record)
        return False

    _log.addFilter(hold)
    try:
        yield
    except BaseException:
        _log.removeFilter(hold)
        for record in records:
            _log.handle(record)
        raise
    finally:
        _log.removeFilter(hold)


def check_trainable(dataset: Dataset) -> None:
    """Refuses a data set that has nothing to learn: no image has a box that is not a crowd.

    A reader keeps images without boxes, and such a set may well be scored for false alarms; but
    training on it ends, without an error, in a network that finds nothing.

    Args:
        dataset: to train on.

    Raises:
        ValueError: no image has a usable box; names the file.
    """
    annotations = dataset.annotations
    if any((~annotation.crowd).any() for annotation in annotations):
        return
    crowds = sum(len(annotation.crowd) for annotation in annotations)
    raise ValueError(
        f"{dataset.origin} cannot be trained on: of its {len(annotations)} images none has a box "
        f"to learn ({crowds} crowd boxes, which are no targets); add boxes, or mend the records "
        "that are reported"
    )
