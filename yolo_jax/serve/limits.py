"""What a client may ask of the server."""

from dataclasses import dataclass, fields

from PIL import Image

from yolo_jax.core.numbers import whole_number


@dataclass(frozen=True)
class Limits:
    """What a client may ask of the server.

    Attributes:
        body: bytes of a request's body.
        pixels: of an image, by its header.
        concurrency: requests that are worked on at once.
        waiting: further requests that are let in, and whose bodies are read; others are refused
            for now. The bodies that are held never have more than
            `(concurrency + waiting) * body` bytes.
        seconds: in which a request's head, and then its body, have to come.

    Raises:
        ValueError: a number is no whole number above 0, or Pillow decodes no such image.
    """

    body: int = 10_000_000
    pixels: int = 50_000_000
    concurrency: int = 4
    waiting: int = 16
    seconds: int = 20

    def __post_init__(self) -> None:
        for field in fields(self):
            whole_number(f"the limit {field.name}", getattr(self, field.name), 1)
        decoded = 2 * (Image.MAX_IMAGE_PIXELS or self.pixels)
        if self.pixels > decoded:
            raise ValueError(
                f"at most {decoded} pixels of an image are decoded; found a limit of {self.pixels}"
            )
