"""From a request's body to the pixels of its image, within limits, and never on a disk."""

import asyncio
from email.message import Message

import numpy as np
from jaxtyping import UInt8
from starlette.exceptions import HTTPException
from starlette.requests import Request

from yolo_jax.data.images import ImageError, TooManyPixels, UnknownFormat, open_image, rgb_of
from yolo_jax.serve.limits import Limits

# What browsers show. Others of Pillow's readers start programs (EPS), or have headers by which a
# small file takes much memory (TIFF's tiles).
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")
_NAME = "the image"
_MOST_DIGITS = 20  # of a length in a header; Python reads no number of thousands of them


async def read_body(request: Request, limits: Limits) -> bytes:
    """Returns the body of a request, of which no more is read than is taken.

    Raises:
        HTTPException: 400 it is empty; 408 it did not come in time; 413 it is too large.
        ClientDisconnect: the client went away midway.
    """
    told = request.headers.get("content-length", "")
    if told.isdecimal() and (len(told) > _MOST_DIGITS or int(told) > limits.body):
        raise _too_large(f"has {told:.{_MOST_DIGITS}} bytes", limits)
    content = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > limits.body:
                    raise _too_large("is longer", limits)
    except TimeoutError as error:
        raise HTTPException(
            408,
            f"of the body {len(content)} bytes came within {limits.seconds} s, and not all",
        ) from error
    if not content:
        raise HTTPException(
            400, "the body is empty; expected an image, as curl --data-binary @photo.jpg sends it"
        )
    return bytes(content)


def _too_large(found: str, limits: Limits) -> HTTPException:
    return HTTPException(413, f"the body {found}; at most {limits.body} bytes are taken")


def image_of_body(body: bytes, content_type: str) -> bytes:
    """Returns the first file of a form (multipart/form-data, RFC 7578), or any other body whole.

    Args:
        body: of a request.
        content_type: its header of that name.

    Raises:
        HTTPException: 400 the form names no boundary, is cut short, or has no file.
    """
    header = Message()
    header["Content-Type"] = content_type
    if header.get_content_type() != "multipart/form-data":
        return body
    boundary = (header.get_boundary() or "").encode("latin-1", "replace")
    if not boundary:
        raise HTTPException(
            400, "the form's Content-Type names no boundary; leave that header to curl -F"
        )
    # Parts lie between lines of the boundary; before the first one stands nothing that counts.
    _, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if not parts or not parts[-1].startswith(b"--"):
        raise HTTPException(400, "the form is cut short: the line that ends it is not there")
    for part in parts[:-1]:
        head, gap, content = part.partition(b"\r\n\r\n")
        if gap and b"filename" in head.lower():
            return content
    raise HTTPException(400, "the form has no file; curl -F image=@photo.jpg sends one")


def decode(encoded: bytes, limits: Limits) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image to RGB as `yolo_jax.data.images.decode_image` does, if it is not too large.

    Raises:
        HTTPException: 400 it is damaged; 413 its header tells of too many pixels; 415 it is no
            image of a format that is taken.
    """
    most = f"at most {limits.pixels} pixels are taken"
    try:
        with open_image(encoded, _NAME, _FORMATS) as file:
            if file.width * file.height > limits.pixels:
                raise HTTPException(413, f"{_NAME} has {file.width} × {file.height} px; {most}")
            return rgb_of(file, _NAME)
    except UnknownFormat as error:
        raise HTTPException(415, f"{error}; expected one of {', '.join(_FORMATS)}") from error
    except TooManyPixels as error:  # for Pillow, whose words are for who runs the server
        raise HTTPException(413, f"{_NAME} is far too large; {most}") from error
    except ImageError as error:
        raise HTTPException(400, str(error)) from error
