"""Images and videos with what was found in them."""

import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import cv2
from PIL import Image

from yolo_jax.inference.found import Found
from yolo_jax.inference.sources import is_address, is_camera, is_video

_RATE = 25.0  # frames a second of a drawn video whose source says none, such as a camera's


def drawing_name(source: str) -> str:
    """Returns the name of a source's drawing: its own, or as PNG what Pillow cannot write.

    A video's is an MP4.
    """
    if is_camera(source):
        return f"camera_{source}.mp4"
    if is_address(source):
        name = Path(urllib.parse.unquote(urllib.parse.urlparse(source).path)).name or "image"
    else:
        name = Path(source).name
    if is_video(source):
        return f"{Path(name).stem}.mp4"
    writable = Image.registered_extensions().get(Path(name).suffix.lower()) in Image.SAVE
    return name if writable else f"{name}.png"


def check_places(folder: Path, sources: Sequence[str]) -> None:
    """Checks that no drawing takes another's place, or that of its own source.

    Raises:
        ValueError: one would.
    """
    places: dict[Path, str] = {}
    for source in sources:
        place = (folder / drawing_name(source)).resolve()
        if place in places:
            raise ValueError(
                f"{places[place]} and {source} would both be drawn as {place.name}; --out would "
                "lose one of them"
            )
        places[place] = source
    for source in sources:
        if not is_address(source) and Path(source).resolve() in places:
            raise ValueError(f"--out {folder} would draw over {source} itself; name another folder")


class Drawings:
    """Writes drawings to a folder as what was found comes in; of a video frame by frame.

    Args:
        folder: made where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._video: cv2.VideoWriter | None = None
        self._name = ""
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Drawings":
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the last video."""
        self._close()

    def add(self, found: Found) -> None:
        """Draws an image, or the next frame of a video.

        Raises:
            OSError: the drawing cannot be written.
        """
        path, picture = self.folder / drawing_name(found.name), found.plot()
        if found.frame is None:
            Image.fromarray(picture).save(path)
            return
        if self._video is None or found.name != self._name:
            self._close()
            height, width = picture.shape[:2]
            # The codec that every build of OpenCV's writes.
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._video = cv2.VideoWriter(str(path), code, found.rate or _RATE, (width, height))
            self._name = found.name
            if not self._video.isOpened():
                raise OSError(f"{path} cannot be written by OpenCV")
        self._video.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def _close(self) -> None:
        if self._video is not None:
            self._video.release()
        self._video = None
