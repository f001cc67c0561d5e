"""StableHLO by `jax.export`: one file for several platforms and, if asked for, any batch.

JAX keeps such files readable for six months of its later releases, and for three weeks of earlier
ones (https://docs.jax.dev/en/latest/export/export.html, "Compatibility guarantees").
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jax import export
from jaxtyping import UInt8

from yolo_jax.core.files import open_file, write_whole
from yolo_jax.core.json_files import read_json, save_json
from yolo_jax.core.types import Detections
from yolo_jax.detection.decode import Predictions
from yolo_jax.export.program import FORMAT_VERSION, Metadata, Program

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
DEFAULT_PLATFORMS = ("cpu", "cuda", "tpu")


def metadata_path(path: Path) -> Path:
    """Returns the JSON file beside an exported one."""
    return path.with_name(f"{path.name}.json")


def save_stablehlo(
    path: Path, program: Program, platforms: Sequence[str] = DEFAULT_PLATFORMS
) -> None:
    """Writes a program as a file of StableHLO, and a JSON file beside it.

    Args:
        path: of the file; replaced when it exists.
        program: what is exported.
        platforms: those that it is lowered for, of `PLATFORMS`.

    Raises:
        ValueError: the path is a folder, or there is no such platform, or none is named.
        FileNotFoundError: there is no folder to write in.
    """
    if not platforms or set(platforms) - set(PLATFORMS):
        raise ValueError(
            f"platforms are some of {', '.join(PLATFORMS)}; found {', '.join(platforms) or 'none'}"
        )
    with write_whole(path) as partial:
        run = jax.jit(program.__call__)
        exported = export.export(run, platforms=tuple(dict.fromkeys(platforms)))
        partial.write_bytes(exported(program.input_spec()).serialize())
    save_json(metadata_path(path), program.metadata())


class Exported:
    """A program that was exported as StableHLO, and read again.

    Attributes:
        metadata: what goes with it.
        platforms: that it runs on.
    """

    def __init__(self, exported: export.Exported, metadata: Metadata) -> None:
        self.metadata, self.platforms = metadata, exported.platforms
        self._kind = Detections if "classes" in metadata["outputs"] else Predictions
        self._run = jax.jit(exported.call)

    def __call__(self, images: UInt8[np.ndarray, "b h w 3"]) -> Predictions | Detections:
        """Returns what the network sees; boxes in pixels of the input.

        Args:
            images: RGB, letterboxed as the metadata say.

        Raises:
            ValueError: the images have another shape or dtype, or the device is of a platform that
                the program was not lowered for.
        """
        return self._kind(*self._run(images))


def open_exported(path: Path | str) -> Exported:
    """Opens a file that `save_stablehlo` wrote.

    Raises:
        FileNotFoundError: there is no such file, or its JSON file lacks.
        ValueError: one of them is damaged, or of a later version of this package or of JAX.
    """
    path = Path(path)
    with open_file(path, "an exported model") as file:
        content = file.read()
    metadata = read_json(metadata_path(path), Metadata)
    if metadata["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"{metadata_path(path)} is of version {metadata['format_version']}, and this yolo_jax "
            f"knows none after {FORMAT_VERSION}: open it with a newer one"
        )
    try:
        exported = export.deserialize(bytearray(content))
    except Exception as error:  # flatbuffers has no exceptions of its own
        raise ValueError(
            f"{path} cannot be read as a program of jax.export: it is damaged, or of a JAX "
            f"({metadata['versions']['jax']}) too new for this one ({jax.__version__}): {error}"
        ) from error
    return Exported(exported, metadata)
