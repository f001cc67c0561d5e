"""Checksums of a checkpoint's files: written before it takes its name, checked before a read."""

import json
import zlib
from pathlib import Path

from orbax.checkpoint.path import atomicity

_CHECKSUMS = "checksums.json"
# Of what a checkpoint holds; a newer one is of a later yolo_jax.
FORMAT = 1
# Orbax writes to these after the rest.
_ORBAX_OWN = ("_CHECKPOINT_METADATA", atomicity.COMMIT_SUCCESS_FILE)


class CheckpointDamaged(ValueError):
    """A checkpoint whose files are not those that were saved."""


def write_checksums(folder: Path) -> None:
    """Writes the list of a checkpoint's files, which are all there."""
    listed = {"format": FORMAT, "files": _checksums(folder)}
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


def verify(folder: Path) -> None:
    """Checks that a checkpoint's files are those that were saved.

    Raises:
        CheckpointDamaged: one is missing, cut short, changed or added, or the list is.
        ValueError: a later version made it.
    """
    listed = folder / _CHECKSUMS
    try:
        saved = json.loads(listed.read_text())
        made_by, sums = int(saved["format"]), dict(saved["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointDamaged(f"its {_CHECKSUMS} cannot be read ({error})") from error
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
