"""`origin.json`: what each start of a run had around it, and how two starts differ."""

import hashlib
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions, requires, version
from pathlib import Path
from typing import Any, TypedDict

import jax
from flax import nnx

from yolo_jax.agreement import checksum, versions
from yolo_jax.config import ExperimentConfig
from yolo_jax.core.json_files import read_json, save_json
from yolo_jax.core.types import Dataset
from yolo_jax.networks.pretrained import cache_folder
from yolo_jax.networks.yolov3 import Network
from yolo_jax.provenance.checkout import Checkout, checkout_of
from yolo_jax.provenance.checksums import checksums, file_checksum
from yolo_jax.run_folder import RunFolder

ORIGIN = "origin.json"
_SETS = ("train", "validation", "held_out")
_LARGEST_PATCH = 2**20  # bytes
# What JAX runs on; of the installed packages, those whose names begin so.
_PLATFORMS = ("jax-", "libtpu", "nvidia-")
# Of the environment, beside `JAX_*`: what changes numbers.
_VARIABLES = ("LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE", "XLA_FLAGS")
# What two starts may differ in and still be of one kind.
_OWN = frozenset(
    {"time", "argv", "folder", "goes_on", "reproduces", "config_file", "config_checkout"}
)
_PLAIN = re.compile(r"^(packages|environment)\.")
# Of data and patches, where they lie.
_PLACES = ("read_from", "file")


class _Start(TypedDict):
    """What is asked of an entry; see `note_start` for the rest."""

    argv: list[str]
    folder: str
    goes_on: bool


class _Origin(TypedDict):
    starts: list[_Start]


def note_start(
    run: RunFolder,
    config: ExperimentConfig,
    network: Network,
    datasets: Sequence[Dataset],
    *,
    goes_on: bool,
    source: Path | None = None,
    reproduces: Path | None = None,
) -> dict[str, Any]:
    """Adds this start to those in a run folder's `origin.json`, and returns it.

    Of the environment's variables those alone are kept that JAX and the device's library read. What
    a checkout has changed is kept beside it as `origin.patch`, if it has less than 1 MB.

    Args:
        run: its folder.
        config: of the run, resolved.
        network: with its first weights.
        datasets: for training, validation and the held-out figures.
        goes_on: the run was begun before.
        source: file that the config was read from, if any.
        reproduces: folder of the run that this one repeats.

    Raises:
        ValueError: the file is damaged.
    """
    starts = read_starts(run.path)
    weights = Path(config.network.weights)
    if config.network.weights == "yolov3-tiny":
        weights = cache_folder() / "yolov3-tiny.weights"
    device = jax.devices()[0]
    start = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "argv": list(sys.argv),
        "folder": str(Path.cwd()),
        "goes_on": goes_on,
        "reproduces": None if reproduces is None else str(reproduces),
        "config_file": None if source is None else str(source),
        **_checkouts(run.path, source),
        "packages": _packages(),
        "platform": platform.platform(),
        "processor": _processor(),
        "devices": {
            "kind": device.device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
        },
        "environment": _environment(),
        "seed": config.seed,
        "data": {name: checksums(one) for name, one in zip(_SETS, datasets, strict=True)},
        "weights": {
            "file": file_checksum(weights) if weights.is_file() else None,
            "arrays": checksum(jax.tree.leaves(nnx.state(network))),
        },
    }
    save_json(run.path / ORIGIN, {"starts": [*starts, start]})
    return start


def read_starts(folder: Path) -> list[dict[str, Any]]:
    """Returns the starts of a run, the first one first; none of one from before they were kept.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / ORIGIN
    if not path.is_file():
        return []
    return read_json(path, _Origin)["starts"]


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns what differs in the surroundings of two starts, a line each.

    Args:
        then: a start.
        now: a later one.
    """
    old, new = dict(_flat(then)), dict(_flat(now))
    return [
        f"{_PLAIN.sub('', name)}: {_shown(old, name)} then, {_shown(new, name)} now"
        for name in sorted(old.keys() | new.keys())
        if name.partition(".")[0] not in _OWN and old.get(name) != new.get(name)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name in _PLACES and prefix.startswith(("data.", "checkout.")):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _shown(values: Mapping[str, Any], name: str) -> str:
    """Returns a value as a line shows it: of checksums and commits the beginning."""
    value = values.get(name, "none")
    if isinstance(value, str):
        return value[:12] if re.fullmatch(r"[0-9a-f]{40,64}", value) else value
    return "none" if value is None else str(value)


def _processor() -> str:
    """Returns the name and number of the processor's cores, by which XLA chooses instructions."""
    told = Path("/proc/cpuinfo")
    text = told.read_text(encoding="utf-8") if told.is_file() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return f"{name[1] if name else platform.processor()}, {os.cpu_count()} cores"


def _environment() -> dict[str, str]:
    """Returns the environment's variables that numbers depend on."""
    found = sorted(os.environ.items())
    return {n: value for n, value in found if n in _VARIABLES or n.startswith("JAX_")}


def _packages() -> dict[str, str]:
    """Returns the versions of what yolo_jax asks for, and of what JAX runs on."""
    asked = [line for line in requires("yolo_jax") or [] if "extra ==" not in line]
    found = {name: version(name) for line in asked for name in re.findall(r"^[\w.-]+", line)}
    for one in distributions():
        name = (_name(one) or "").lower()
        if name.startswith(_PLATFORMS):
            found[name] = one.version
    return dict(sorted((found | versions()).items()))


def _name(package: Distribution) -> str | None:
    """Returns an installed package's name, or None where its folder is damaged."""
    try:
        return package.name
    except FileNotFoundError:  # as the backport says it, which trackers' libraries put in place
        return None


def _checkouts(folder: Path, source: Path | None) -> dict[str, Any]:
    """Returns the checkout of this package, and that of the config where it is another."""
    own = checkout_of(Path(__file__).parents[1] / "__init__.py")
    noted = {"checkout": _noted(own, folder)}
    if source is not None and source.is_file():
        other = checkout_of(source.resolve())
        if other is None or own is None or other.root != own.root:
            noted["config_checkout"] = _noted(other, folder)
    return noted


def _noted(checkout: Checkout | None, folder: Path) -> dict[str, Any] | None:
    """Returns what is kept of a checkout; what it has changed goes to a file, if it is small."""
    if checkout is None:
        return None
    noted: dict[str, Any] = {
        "commit": checkout.commit,
        "dirty": checkout.is_dirty,
        "untracked": list(checkout.untracked),
        "patch": None,
    }
    if checkout.diff:
        is_small = len(checkout.diff) < _LARGEST_PATCH
        noted["patch"] = {
            "sha256": hashlib.sha256(checkout.diff).hexdigest(),
            "bytes": len(checkout.diff),
            "file": _keep(checkout.diff, folder) if is_small else None,
        }
    return noted


def _keep(patch: bytes, folder: Path) -> str:
    """Returns the name of the file that holds a patch, which is written where none does."""
    number = 1
    while True:
        path = folder / ("origin.patch" if number == 1 else f"origin.{number}.patch")
        if not path.is_file():
            path.write_bytes(patch)
        if path.read_bytes() == patch:
            return path.name
        number += 1
