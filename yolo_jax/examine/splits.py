"""The parts of a data set, all of which the doctor looks at."""

from pathlib import Path

from yolo_jax.core.types import Dataset
from yolo_jax.data.doctor import Kind, Problem, held_back
from yolo_jax.data.readers import read_dataset, split_names


def read_parts(
    source: str, split: str | None, class_names_file: Path | None
) -> tuple[dict[str, tuple[Dataset, tuple[Problem, ...]]], list[Problem]]:
    """Reads a split of a data set, or all that it has.

    Args:
        source: a file, a folder or `tfds:NAME`; see `readers.read_dataset`.
        split: to read; None: all.
        class_names_file: has a class a line.

    Returns:
        For each split, or for "" where there are none, the data set and the bad records that it is
        without; and the splits that cannot be read, of several.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: it cannot be read, or none of its splits.
    """
    names = [split] if split is not None else split_names(source) or [None]
    parts: dict[str, tuple[Dataset, tuple[Problem, ...]]] = {}
    unreadable: list[Problem] = []
    for name in names:
        try:
            with held_back():
                read = read_dataset(source, split=name, class_names_file=class_names_file)
        except (ValueError, OSError) as error:
            if len(names) == 1:
                raise
            record = f"split {name}"
            unreadable.append(Problem(Path(source), record, str(error), Kind.UNREADABLE_SPLIT))
        else:
            parts[name or ""] = read
    if not parts:
        reasons = "; ".join(dict.fromkeys(problem.reason for problem in unreadable))
        raise ValueError(f"none of the splits {names} of {source} can be read: {reasons}")
    return parts, unreadable
