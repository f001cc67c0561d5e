"""Every image of a data set, read as training reads it, for what a record cannot tell."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.images import ImageError, decode_to_fit, read_annotated


class Scanned(NamedTuple):
    """What an image is.

    Attributes:
        fault: why it cannot be read, or "".
        size: (width, height) as it is to be seen, px; (0, 0) where it cannot be read.
        digest: SHA-256 of the file's content, in hexadecimal; "" where there is none.
        contrast: by what the pixels of a channel differ at most, 0–255; of every eighth pixel.
        remark: on what is odd in the file, though no pixel need be wrong, or "".
    """

    fault: str
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    contrast: int = 0
    remark: str = ""


def scan_images(dataset: Dataset, shape: tuple[int, int], workers: int) -> list[Scanned]:
    """Reads every image of a data set once, and shows how far it is.

    Args:
        dataset: the annotations.
        shape: (height, width) of the network's input, px: large images are decoded reduced.
        workers: threads; decoders let others run meanwhile.

    Returns:
        What each annotation's image is, in their order.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        read = pool.map(partial(_scan, dataset, shape), dataset.annotations)
        images = len(dataset.annotations)
        return list(tqdm(read, f"images of {dataset.origin.name}", images, disable=None))
    finally:
        pool.shutdown(cancel_futures=True)  # or Ctrl-C would wait for all that are queued


def _scan(dataset: Dataset, shape: tuple[int, int], annotation: Annotation) -> Scanned:
    digest = ""
    try:
        encoded = read_annotated(dataset, annotation)
        digest = hashlib.sha256(encoded).hexdigest()
        pixels, (height, width), remark = decode_to_fit(encoded, annotation.path, shape)
    except (ImageError, FileNotFoundError) as error:
        # The path is told beside it.
        fault = str(error).removeprefix(f"{annotation.path} ")
        return Scanned(fault, digest=digest)
    contrast = int(np.ptp(pixels[::8, ::8], axis=(0, 1)).max())
    return Scanned("", (width, height), digest, contrast, remark)
