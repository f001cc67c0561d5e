"""Groups of trials that share one state: who is in them, for they go on as they were begun."""

import zlib
from collections.abc import Sequence
from pathlib import Path

from yolo_jax.config import ExperimentConfig
from yolo_jax.core.json_files import read_json, save_json
from yolo_jax.run_folder import GROUP_MEMBERS, RunFolder


def group_folder(configs: Sequence[ExperimentConfig]) -> Path:
    """Returns where the checkpoints of trials lie that are trained together."""
    names = "\n".join(config.name for config in configs)
    return configs[0].runs / f"together_{zlib.crc32(names.encode()):08x}"


def note_group(configs: Sequence[ExperimentConfig]) -> Path:
    """Notes that trials share a state from now on; returns the folder of their checkpoints."""
    folder = group_folder(configs)
    folder.mkdir(parents=True, exist_ok=True)
    save_json(folder / GROUP_MEMBERS, [config.name for config in configs])
    return folder


def begun_groups(runs: Path) -> dict[Path, tuple[str, ...]]:
    """Returns the names of the trials of each group that was begun, in their order, by its folder.

    Args:
        runs: folder of the trials' run folders.

    Raises:
        ValueError: a file of theirs is damaged.
    """
    files = sorted(runs.glob(f"together_*/{GROUP_MEMBERS}"))
    return {file.parent: tuple(map(str, read_json(file, list))) for file in files}


def check_group(configs: Sequence[ExperimentConfig]) -> None:
    """Checks that no trial was begun with others than these, or alone where these are several.

    It would be trained from its start, and written over.

    Raises:
        ValueError: one was.
    """
    names, begun = tuple(config.name for config in configs), begun_groups(configs[0].runs)
    for config in configs:
        for folder, group in begun.items():
            if config.name in group and group != names:
                raise ValueError(
                    f"{config.name} shares one state with the trials {', '.join(group)}, in "
                    f"{folder}; go on with all of them in this order, as `yolo-jax sweep` does, or "
                    "delete that folder to give the state up"
                )
        run = RunFolder(config.runs / config.name)
        if len(configs) > 1 and run.is_begun and names not in begun.values():
            raise ValueError(
                f"{config.name} was begun apart, in {run.path}, and one program with "
                f"{', '.join(name for name in names if name != config.name)} would train it from "
                "its start; go on with it alone, or choose another name"
            )
