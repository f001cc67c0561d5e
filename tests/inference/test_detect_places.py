"""Where `yolo-jax detect` writes: what cannot be is said before the work, and costs no file."""

import cv2
import numpy as np
import pytest
from PIL import Image

from yolo_jax.inference.drawings import Drawings, drawing_name
from yolo_jax.inference.found import Found
from yolo_jax.use.detecting import Outputs


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"the only copy")
    return path


@pytest.mark.parametrize(
    ("places", "what"),
    [
        ({"drawings": ""}, r".*photo.jpg in --out"),
        ({"json": "photo.jpg"}, "--json"),
        ({"csv": "x/../photo.jpg"}, "--csv"),
        ({"coco": "photo.jpg"}, "--coco"),
    ],
)
def test_nothing_is_written_over_an_image(tmp_path, photo, places, what):
    outputs = Outputs(**{name: tmp_path / place for name, place in places.items()})
    with pytest.raises(ValueError, match=rf"{what} would be written over .*photo.jpg itself"):
        outputs.prepare([str(photo)])
    assert photo.read_bytes() == b"the only copy"


@pytest.mark.parametrize(
    ("sources", "places", "message"),
    [
        (
            ["a/x.png", "b/x.png"], {"drawings": "out"},
            r"a/x.png in --out and b/x.png in --out would both be written to .*/out/x.png",
        ),
        (["a.avi", "b/a.mov"], {"drawings": "out"}, "b/a.mov in --out would .* to .*/out/a.mp4"),
        (["a.gif", "a.webp"], {"labels": "out"}, "a.gif in --txt and a.webp in --txt would"),
        (["a.avi", "b/a.mov"], {"labels": "out"}, "a.avi in --txt and b/a.mov in --txt would"),
        (["a.png"], {"json": "same", "csv": "same"}, "--json and --csv would both be written to"),
        (["a.png"], {"drawings": "out", "json": "out/a.png"}, "--json and a.png in --out would"),
    ],
)  # fmt: skip
def test_two_files_of_one_place_are_refused(tmp_path, sources, places, message):
    outputs = Outputs(**{name: tmp_path / place for name, place in places.items()})
    with pytest.raises(ValueError, match=message):
        outputs.prepare(sources)
    assert not list(tmp_path.iterdir())  # no folder is made for nothing


def test_a_video_and_an_image_of_one_name_have_places_of_their_own(tmp_path):
    outputs = Outputs(tmp_path / "out", labels=tmp_path / "labels")
    outputs.prepare(["a.avi", "a.png", "0", "https://host/b.png?x=1"])
    assert {path.name for path in tmp_path.iterdir()} == {"out", "labels"}


def test_places_that_cannot_be_are_said_before_the_work(tmp_path, photo):
    for places in (Outputs(photo), Outputs(json=tmp_path), Outputs(csv=photo / "found.csv")):
        with pytest.raises(OSError, match="photo|folder"):
            places.prepare(["a.png"])


def test_drawings_have_names_that_pillow_can_write():
    names = {
        "a/b.photo": "b.photo.png", "b": "b.png", "c.JPG": "c.JPG", "d.MOV": "d.mp4",
        "0": "camera_0.mp4", "https://host/e%20f.jpg?x=1": "e f.jpg", "http://host/": "image.png",
        "g.xbm": "g.xbm.png", "h.ico": "h.ico.png", "i.pdf": "i.pdf.png",
    }  # fmt: skip
    assert {source: drawing_name(source) for source in names} == names


@pytest.mark.parametrize(
    "suffix", ["avif", "bmp", "gif", "jfif", "jp2", "jpg", "mpo", "pgm", "png", "tif", "webp"]
)
def test_every_format_is_drawn(tmp_path, suffix):
    pixels = np.full((40, 60, 3), 128, np.uint8)
    found = Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), ("ash",), pixels, f"a.{suffix}")
    with Drawings(tmp_path) as drawings:
        drawings.add(found)
    with Image.open(tmp_path / f"a.{suffix}") as drawn:
        np.testing.assert_allclose(np.asarray(drawn.convert("RGB")), found.plot(), atol=2)


def test_a_video_that_cannot_be_written_is_named(tmp_path):
    pixels = np.zeros((40, 60, 3), np.uint8)
    found = Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), (), pixels, "a.avi", 0, 10.0)
    (tmp_path / "a.mp4").mkdir()
    with Drawings(tmp_path) as drawings, pytest.raises(OSError, match=r"a.mp4 cannot be written"):
        drawings.add(found)
    assert cv2.VideoCapture(str(tmp_path / "a.mp4")).isOpened() is False
