"""What clients send, whole, damaged and made up."""

import io

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.exceptions import HTTPException

from yolo_jax.data.images import decode_image
from yolo_jax.serve.bodies import decode, image_of_body
from yolo_jax.serve.limits import Limits

LIMITS = Limits(pixels=10_000)


def encoded(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


FILES = [encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")]


@given(st.binary(), st.binary(max_size=30), st.sampled_from(["b", "a-b'c", "0123456789" * 7]))
def test_a_form_gives_its_file_whatever_it_holds(content, text, boundary):
    mark = b"--" + boundary.encode()
    assume(mark not in content and mark not in text)
    fields = [b"Content-Disposition: form-data; name=x\r\n\r\n" + text]
    fields.append(
        b'content-disposition: form-data; name="y"; FileName="z"\r\nA: b\r\n\r\n' + content
    )
    body = b"".join(mark + b"\r\n" + field + b"\r\n" for field in fields) + mark + b"--\r\n"
    assert image_of_body(body, f'Multipart/Form-Data; charset=x; boundary="{boundary}"') == content
    assert image_of_body(body, "application/octet-stream") == body


@given(st.binary(), st.text(st.characters(codec="latin-1", exclude_characters="\r\n")))
def test_a_form_of_anything_is_refused_or_read(body, parameters):
    try:
        assert image_of_body(body, f"multipart/form-data; {parameters}") in body
    except HTTPException as error:
        assert error.status_code == 400


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(FILES), st.data())
def test_damage_is_refused_or_harmless(content, data):
    broken = bytearray(content[: data.draw(st.integers(0, len(content)))])
    for place in data.draw(st.lists(st.integers(0, max(len(broken) - 1, 0)), max_size=4)):
        if broken:
            broken[place] = data.draw(st.integers(0, 255))
    try:
        pixels = decode(bytes(broken), LIMITS)
    except HTTPException as error:
        assert error.status_code in (400, 413, 415)
    else:
        assert pixels.shape[0] * pixels.shape[1] <= LIMITS.pixels


@pytest.mark.parametrize("content", FILES)
def test_whole_images_are_decoded_as_elsewhere(content):
    np.testing.assert_array_equal(decode(content, LIMITS), decode_image(content, ""))


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"pixels": 10**9}, "at most 178956970 pixels"),
        ({"concurrency": 0}, "the limit concurrency is a whole number, 1 or more"),
        ({"body": 1.5}, "the limit body is a whole number"),
    ],
)
def test_limits_that_cannot_be(limits, told):
    with pytest.raises(ValueError, match=told):
        Limits(**limits)
