"""Sizes by the header are those of the decoded pixels."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from yolo_jax.data.doctor import Fault, Kind
from yolo_jax.data.images import read_image
from yolo_jax.data.readers.sizes import image_sizes


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_turned_as_decoding_turns(tmp_path, suffix, orientation):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    path = tmp_path / f"image{suffix}"
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    height, width = read_image(path).shape[:2]
    assert image_sizes([path]) == [(width, height)]
    if suffix == ".jpg":  # else the test would show nothing
        assert (width < height) == (orientation in (5, 6, 7, 8))


def test_orientation_behind_the_pixels_of_a_png(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "late.png"
    Image.new("RGB", (40, 20)).save(path)
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\x00\x00")
    whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    content = path.read_bytes()
    end = content.rindex(b"IEND") - 4
    path.write_bytes(content[:end] + whole + content[end:])
    height, width = read_image(path).shape[:2]
    assert image_sizes([path]) == [(width, height)] == [(20, 40)]


def test_a_png_is_not_decoded(tmp_path):
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 50, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:200])
    assert image_sizes([path]) == [(50, 60)]


def test_what_is_no_image(tmp_path):
    (tmp_path / "text").write_text("x")
    (tmp_path / "empty").write_bytes(b"")
    text, empty, folder, gone = image_sizes(
        [tmp_path / "text", tmp_path / "empty", tmp_path, tmp_path / "gone"]
    )
    assert text == empty == Fault("it is not an image of a known format; skipped", Kind.UNREADABLE)
    assert "it cannot be read: " in folder.reason
    assert "it cannot be read: " in gone.reason


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_decompression_bomb_is_told_by_its_header(tmp_path, suffix, monkeypatch):
    Image.new("L", (200, 150)).save(tmp_path / f"bomb{suffix}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 14_000)
    (fault,) = image_sizes([tmp_path / f"bomb{suffix}"])
    assert isinstance(fault, Fault)
    assert fault.kind is Kind.UNREADABLE
    assert (
        "it has too many pixels: Image size (30000 pixels) exceeds limit of 28000" in fault.reason
    )
