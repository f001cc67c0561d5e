"""Images and videos with what was found in them."""

from pathlib import Path
from types import TracebackType

import cv2
from PIL import Image

from yolo_jax.data.readers.records import IMAGE_SUFFIXES
from yolo_jax.inference.found import Found
from yolo_jax.inference.sources import file_name, is_video

_RATE = 25.0  # frames a second of a drawn video whose source says none, such as a camera's
_QUALITY = 95  # of what JPEG and its like make of thin lines and letters


def drawing_name(source: str) -> str:
    """Returns the name of a source's drawing: its own, or as PNG what Pillow cannot write.

    A video's is an MP4.
    """
    name = file_name(source)
    if is_video(source):
        return f"{Path(name).stem}.mp4"
    suffix = Path(name).suffix.lower()
    # Of the rest some hold no colours, or small pictures alone.
    writable = suffix in IMAGE_SUFFIXES and Image.registered_extensions().get(suffix) in Image.SAVE
    return name if writable else f"{name}.png"


class Drawings:
    """Writes drawings to a folder as what was found comes in; of a video frame by frame.

    Args:
        folder: of the drawings, which is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._video: cv2.VideoWriter | None = None
        self._name = ""

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
            Image.fromarray(picture).save(path, quality=_QUALITY)
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
