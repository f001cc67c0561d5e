import asyncio
import io
import urllib.request

import numpy as np
import pytest
from http_client import answer, ask, head, huge_png, picture, post
from PIL import Image
from tiny_server import CONF, LIMITS, NAMES, tiny_model

from yolo_jax.serve.origins import names_of

BOUNDARY = "----a1b2"


def grey_png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


def form(content: bytes, disposition: str) -> bytes:
    start = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="conf"\r\n\r\n1\r\n--{BOUNDARY}'
    top = f"{start}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
    return top + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def test_it_answers_what_the_network_finds(tiny):
    encoded = picture(90, 60)
    with Image.open(io.BytesIO(encoded)) as image:
        expected = tiny_model().detect(image, conf=0.22, iou=0.6)[0]
    found = asyncio.run(ask(tiny.port, post(encoded, "/detect?conf=0.22&iou=0.6")))
    assert found.status == 200
    assert len(expected) > 0
    assert {**found.content, "detections": []} == {
        "conf": 0.22, "iou": 0.6, "width": 90, "height": 60, "detections": [],
    }  # fmt: skip
    detections = found.content["detections"]
    assert [one["class"] for one in detections] == expected.names
    np.testing.assert_allclose([one["score"] for one in detections], expected.scores, atol=1e-4)
    np.testing.assert_allclose([one["box"] for one in detections], expected.boxes, atol=0.05)
    assert min(one["score"] for one in detections) > 0.22


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_it_takes_what_browsers_show(tiny, kind):
    found = asyncio.run(ask(tiny.port, post(picture(50, 40, kind))))
    assert (found.status, found.content["width"], found.content["conf"]) == (200, 50, CONF)


def test_a_form_gives_what_its_file_gives(tiny):
    encoded, kind = picture(70, 60), f"multipart/form-data; boundary={BOUNDARY}"
    body = form(encoded, 'name="image"; filename="a.png"')
    plain = asyncio.run(ask(tiny.port, post(encoded)))
    assert asyncio.run(ask(tiny.port, post(body, Content_Type=kind))).content == plain.content


def test_what_it_serves_is_told(tiny):
    found = asyncio.run(ask(tiny.port, head("/health", "GET"))).content
    assert (found["model"], found["classes"], found["input"]) == ("tiny", [*NAMES], [64, 64])
    assert found["limits"]["pixels"] == LIMITS.pixels
    assert found["colours"][:2] == ["#ee6677", "#4477aa"]


FORM = {"Content_Type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.mark.parametrize(
    ("request_", "status", "told"),
    [
        (post(picture(60, 60, "JPEG")[:-900]), 400, "the image is damaged or cut short"),
        (post(b""), 400, "the body is empty"),
        (post(form(b"x", 'name="image"'), **FORM), 400, "the form has no file"),
        (post(form(b"x", "filename=a")[:-9], **FORM), 400, "the form is cut short"),
        (post(b"x", Content_Type="multipart/form-data"), 400, "names no boundary"),
        (post(b"hello"), 415, "not an image of a known format; expected one of JPEG, PNG, WEBP"),
        (post(picture(20, 20, "TIFF")), 415, "not an image of a known format"),
        (post(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), 415, "not an image"),
        (post(huge_png()), 413, "the image is far too large; at most 2000000 pixels are taken"),
        (post(grey_png(2000, 1001)), 413, "2000 × 1001 px; at most 2000000 pixels"),
        (post(bytes(1_000_001)), 413, "has 1000001 bytes; at most 1000000 bytes are taken"),
        (post(b"x", "/detect?conf=1.01"), 422, "conf is '1.01'; expected a number from 0 to 1"),
        (post(b"x", "/detect?iou=nan"), 422, "iou is 'nan'; expected"),
        (post(b"x", "/detect?conf=0.5&conf=abc"), 422, "conf is 'abc'; expected"),
        (post(b"x", "/detect?confidence=0.5"), 422, "no parameter 'confidence'; expected conf"),
        (head("/detect", "GET"), 405, "no GET /detect; there are GET /, GET /health and POST"),
        (post(b"x", "/../../etc/passwd"), 404, "there is no POST"),
        (head("/health", "GET", Host="evil.test:80"), 403, "Host is 'evil.test:80'; this"),
        (head("/", "GET", Host="[::1"), 403, "Host is '[::1'"),
        (head("/", "GET", Host="localhost@evil.test"), 403, "this server is localhost, 127.0.0.1"),
        (post(b"x", Sec_Fetch_Site="cross-site"), 403, "another origin's page"),
        (post(bytes(900_000), Sec_Fetch_Site="same-site"), 403, "(Sec-Fetch-Site: same-site)"),
    ],
)  # fmt: skip
def test_what_is_refused(tiny, request_, status, told):
    found = asyncio.run(ask(tiny.port, request_))
    assert found.status == status, found.content
    assert list(found.content) == ["error"]
    assert told in found.content["error"]
    assert "yolo_jax" not in found.content["error"]
    assert "access-control-allow-origin" not in found.headers


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:80", ""])
def test_its_own_names_and_its_own_page_are_let_in(tiny, host):
    request = post(picture(50, 40), Host=host, Sec_Fetch_Site="same-origin")
    assert asyncio.run(ask(tiny.port, request)).status == 200


def test_whom_the_network_reaches_goes_by_any_name():
    assert names_of("0.0.0.0") == names_of("192.0.2.7") == names_of("::") == ()
    assert "127.0.0.2" in names_of("127.0.0.2")
    assert "localhost" in names_of("::1")


def test_a_body_of_unknown_length_is_read_to_the_limit_alone(tiny):
    pieces = b"".join(b"%x\r\n%s\r\n" % (100_000, bytes(100_000)) for _ in range(30)) + b"0\r\n\r\n"
    found = asyncio.run(ask(tiny.port, head(Transfer_Encoding="chunked") + pieces))
    assert found.status == 413
    assert "longer" in found.content["error"]


def test_who_asks_before_sending_is_refused_before(tiny):
    request = head(Content_Length=1_000_001, Expect="100-continue")

    async def refused():
        reader, writer = await asyncio.open_connection("127.0.0.1", tiny.port)
        writer.write(request)
        line = await reader.readline()
        writer.close()
        return line

    assert asyncio.run(refused()) == b"HTTP/1.1 413 Request Entity Too Large\r\n"


def test_slow_clients_are_not_waited_for(tiny):
    async def silent(first: bytes, drip: bytes = b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", tiny.port)
        writer.write(first)
        reading = asyncio.create_task(answer(reader))
        while drip and not reading.done():
            writer.write(drip)
            await asyncio.sleep(0.1)
        try:
            return await reading
        except ConnectionResetError:  # as it is to one that still sends
            return None
        finally:
            writer.close()

    async def all_of_them():
        clients = (
            silent(b""),
            silent(b"POST /detect HTTP/1.1\r\nX: ", b"x"),
            silent(head(Content_Length=1000) + b"x"),
            silent(head(Content_Length=10**6) + b"x", b"x"),
        )
        async with asyncio.timeout(60):
            return await asyncio.gather(*clients)

    nothing, slow_head, stuck, slow_body = asyncio.run(all_of_them())
    assert (nothing, slow_head) == (None, None)
    assert (stuck.status, slow_body.status) == (408, 408)
    assert "1 bytes came within 2 s" in stuck.content["error"]


def test_when_it_is_full_it_says_so_and_who_goes_away_leaves_a_place(tiny):
    places = LIMITS.concurrency + LIMITS.waiting

    async def inside() -> int:
        return (await ask(tiny.port, head("/health", "GET"))).content["inside"]

    async def until(count: int):
        async with asyncio.timeout(60):
            while await inside() != count:
                await asyncio.sleep(0.02)

    async def crowd():
        begun = [await asyncio.open_connection("127.0.0.1", tiny.port) for _ in range(places)]
        for _, writer in begun:
            writer.write(head(Content_Length=1000) + b"x")
        await until(places)
        refused = await ask(tiny.port, post(bytes(900_000)))
        for _, writer in begun:
            writer.transport.abort()
        await until(0)
        return refused, await ask(tiny.port, post(picture(60, 60)))

    refused, after = asyncio.run(crowd())
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.content == {"error": f"{places} requests are under way; try again in 1 s"}
    assert after.status == 200


def test_the_page_asks_nobody_else(tiny):
    for path, kind in (("", "text/html"), ("page.css", "text/css"), ("page.js", "text/javascript")):
        with urllib.request.urlopen(f"http://127.0.0.1:{tiny.port}/{path}") as found:
            assert found.headers["Content-Type"] == f"{kind}; charset=utf-8"
            assert "default-src 'none'" in found.headers["Content-Security-Policy"]
            assert b"://" not in found.read()


def test_nothing_is_written_to_the_disk(tiny):
    """Starlette's own reader of forms would put files of over 1 MB into TMPDIR."""
    body = form(picture(500, 500, "BMP"), 'name="image"; filename="a.bmp"')
    found = asyncio.run(ask(tiny.port, post(body, **FORM)))
    assert (found.status, found.content["width"]) == (200, 500)
    assert list(tiny.folder.iterdir()) == []
    assert "Traceback" not in tiny.log.read_text()
