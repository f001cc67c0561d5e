"""Checksums of a checkpoint's files: written before it takes its name, checked before a read."""

import json
import zlib
from pathlib import Path
from typing import NotRequired, TypedDict

from orbax.checkpoint.path import atomicity

from yolo_jax.core.json_files import read_json

_CHECKSUMS = "checksums.json"
# Of what a checkpoint holds; a newer one is of a later yolo_jax.
FORMAT = 1
# Orbax writes to these after the rest.
_ORBAX_OWN = ("_CHECKPOINT_METADATA", atomicity.COMMIT_SUCCESS_FILE)


class _List(TypedDict):
    """What `checksums.json` holds; a list that was made before it had a sum of its own has none."""

    format: int
    files: dict[str, int]
    sum: NotRequired[int]


class CheckpointDamaged(ValueError):
    """A checkpoint whose files are not those that were saved."""


def write_checksums(folder: Path) -> None:
    """Writes the list of a checkpoint's files, which are all there."""
    sums = _checksums(folder)
    listed = {"format": FORMAT, "files": sums, "sum": _sum_of(FORMAT, sums)}
    (folder / _CHECKSUMS).write_text(json.dumps(listed, indent=1))


def _checksums(folder: Path) -> dict[str, int]:
    """Returns the CRC-32 of each file, by its path in the folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (_CHECKSUMS, *_ORBAX_OWN):
            total = 0
            with path.open("rb") as file:
                while block := file.read(2**20):
                    total = zlib.crc32(block, total)
            found[name] = total
    return found


def _sum_of(made_by: int, sums: dict[str, int]) -> int:
    """Returns the CRC-32 of a list, lest a flipped bit make it a later version's.

    A later format has to keep it: by it a list's format is believed.
    """
    return zlib.crc32(json.dumps([made_by, sums]).encode())


def verify(folder: Path) -> None:
    """Checks that a checkpoint's files are those that were saved.

    Raises:
        CheckpointDamaged: one is missing, cut short, changed or added, or the list is.
        ValueError: a later version made it.
    """
    listed = folder / _CHECKSUMS
    try:
        saved = read_json(listed, _List)
    except (OSError, ValueError) as error:
        raise CheckpointDamaged(f"its {_CHECKSUMS} cannot be read ({error})") from error
    made_by, sums = saved["format"], saved["files"]
    if "sum" in saved and saved["sum"] != _sum_of(made_by, sums):
        raise CheckpointDamaged(f"{_CHECKSUMS} is not what was saved")
    if made_by > FORMAT:
        raise ValueError(
            f"{folder} has the format {made_by}, which a later yolo_jax made; this one reads up to "
            f"{FORMAT}. Update it, or start in another folder"
        )
    try:
        found = _checksums(folder)
    except OSError as error:
        raise CheckpointDamaged(f"a file cannot be read ({error})") from error
    for name in sorted(sums.keys() | found.keys()):
        if name not in found:
            raise CheckpointDamaged(f"{name} is missing")
        if sums.get(name) != found[name]:
            raise CheckpointDamaged(f"{name} is not what was saved")
