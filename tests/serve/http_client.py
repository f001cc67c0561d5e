"""HTTP by hand: requests that no library would send."""

import asyncio
import io
import json
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

PATIENCE = 120  # s; more than a busy machine takes


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    content: Any


def head(path: str = "/detect", method: str = "POST", **headers: object) -> bytes:
    """Returns the head of a request, whose connection is closed afterwards."""
    fields = {"Host": "localhost", "Connection": "close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def post(body: bytes, path: str = "/detect", **headers: object) -> bytes:
    """Returns a request with a body."""
    return head(path, Content_Length=len(body), **headers) + body


async def ask(port: int, request: bytes) -> Answer | None:
    """Sends bytes and returns the answer; None if the connection ends without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await answer(reader)
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> Answer | None:
    """Reads an answer of JSON to its end."""
    async with asyncio.timeout(PATIENCE):
        received = await reader.read()
    if not received:
        return None
    top, _, body = received.partition(b"\r\n\r\n")
    first, *lines = top.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    assert int(headers["content-length"]) == len(body)
    assert headers["content-type"] == "application/json"
    return Answer(int(first.split()[1]), headers, json.loads(body))


async def ask_until_served(port: int, request: bytes) -> Answer | None:
    """Asks again, as it is told to, while the server has no place."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await ask(port, request)
            if found is None or found.status != 503:
                return found
            await asyncio.sleep(int(found.headers["retry-after"]))


def picture(width: int, height: int, kind: str = "PNG") -> bytes:
    """Returns a file of noise."""
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def huge_png() -> bytes:
    """Returns a PNG whose header tells of 100,000 × 100,000 px."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return picture(8, 8)[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + picture(8, 8)[33:]
