"""Two hundred clients at once, a third of them with something broken."""

import asyncio
import time

import psutil
import pytest
from http_client import ask, ask_until_served, head, huge_png, picture, post
from tiny_server import LIMITS

CLIENTS = 200
# Bytes. In three rounds after the first it grew by 0.4 MB here; a body that is kept of each
# broken request would be 20 MB a round, and an image of each sound one 7.
FLAT = 4 << 20
WHOLE = picture(160, 120, "JPEG")
BROKEN = [
    (post(WHOLE[:-5000]), 400),
    (post(b""), 400),
    (post(b"hello" * 1000), 415),
    (post(huge_png()), 413),
    (post(bytes(2 * LIMITS.body)), 413),
    (head("/detect", "GET"), 405),
    (post(WHOLE, "/detect?conf=7"), 422),
    (head(Content_Length=len(WHOLE)) + WHOLE[:9000], None),  # and goes away
]


async def goes_away(port: int, request: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.transport.abort()


async def client(port: int, number: int) -> tuple[object, object]:
    """Returns what came of a request, and what was to come."""
    if number % 3 == 0:
        request, status = BROKEN[number // 3 % len(BROKEN)]
        if status is None:
            return await goes_away(port, request), None
        found = await ask_until_served(port, request)
        return found and found.status, status
    # Sizes of which no two clients have the same tell whose answer it is.
    width, height = 40 + number, 50 + number % 7
    encoded = picture(width, height, ("JPEG", "PNG", "WEBP")[number % 2])
    found = await ask_until_served(port, post(encoded))
    assert found is not None
    return (found.status, *map(found.content.get, ("width", "height"))), (200, width, height)


async def round_of(port: int) -> list[tuple[object, object]]:
    found = await asyncio.gather(*(client(port, number) for number in range(CLIENTS)))
    async with asyncio.timeout(60):
        while (await ask(port, head("/health", "GET"))).content["inside"]:
            await asyncio.sleep(0.05)
    return found


@pytest.mark.slow
def test_none_is_lost_and_memory_is_flat(tiny, record_property):
    process, memory = psutil.Process(tiny.process.pid), []
    for _ in range(3):
        start = time.monotonic()
        results = asyncio.run(round_of(tiny.port))
        assert len(results) == CLIENTS
        assert [found for found, _ in results] == [expected for _, expected in results]
        memory.append(process.memory_info().rss)
        print(f"{CLIENTS} clients: {time.monotonic() - start:.1f} s, {memory[-1] >> 10} KiB")
    record_property("resident memory after each round, bytes", memory)
    assert memory[-1] - memory[0] < FLAT
    assert process.num_threads() < 40
    assert len(process.net_connections("tcp")) == 1  # what it listens to
    assert "Traceback" not in tiny.log.read_text()
