"""Sizes by the header are those of the decoded pixels."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_jax.data.doctor import Fault, Kind
from yolo_jax.data.images import read_image
from yolo_jax.data.readers import sizes
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


def put_before_the_end(png, chunk):
    whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    content = png.read_bytes()
    end = content.rindex(b"IEND") - 4
    png.write_bytes(content[:end] + whole + content[end:])


def test_orientation_behind_the_pixels_of_a_png(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "late.png"
    Image.new("RGB", (40, 20)).save(path)
    put_before_the_end(path, b"eXIf" + exif.tobytes().removeprefix(b"Exif\x00\x00"))
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


def test_pillows_own_warning_of_many_pixels_is_not_printed(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (9500, 9500)).save(path)
    code = (
        "from pathlib import Path; from yolo_jax.data.readers.sizes import image_sizes; "
        f"print(image_sizes([Path({str(path)!r})]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[(9500, 9500)]\n", "")


@pytest.mark.parametrize("is_turned", [False, True])
def test_a_png_is_not_read_to_find_its_size(tmp_path, monkeypatch, is_turned):
    """Only the heads of its chunks are, of which the last may have an orientation."""
    path = tmp_path / "large.png"
    noise = np.random.default_rng(0).integers(0, 255, (600, 500, 3), np.uint8)
    Image.fromarray(noise).save(path)
    if is_turned:
        exif = Image.Exif()
        exif[0x0112] = 6
        put_before_the_end(path, b"eXIf" + exif.tobytes().removeprefix(b"Exif\x00\x00"))
    read = []

    class Counted(io.FileIO):
        def read(self, size=-1):
            content = super().read(size)
            read.append(len(content))
            return content

    monkeypatch.setattr(Path, "open", lambda path, *_, **__: Counted(path))
    assert sizes._may_be_turned(path) is is_turned
    assert sum(read) < path.stat().st_size / 100


def test_a_png_whose_chunk_is_longer_than_it_is_not_turned(tmp_path):
    path = tmp_path / "bad.png"
    Image.new("RGB", (40, 20)).save(path)
    content = path.read_bytes()
    place = content.index(b"IDAT") - 4
    path.write_bytes(content[:place] + b"\xff" * 4 + content[place + 4 :])
    assert image_sizes([path]) == [(40, 20)]
