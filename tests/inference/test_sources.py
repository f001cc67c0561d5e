import http.server
import logging
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from yolo_jax.data.images import ImageError
from yolo_jax.inference import sources
from yolo_jax.inference.sources import expand, fetch, frames, is_camera, is_video


def picture(path: Path, grey: int = 90) -> Path:
    Image.new("RGB", (40, 30), (grey, grey, grey)).save(path)
    return path


def video(path: Path, count: int, size: tuple[int, int] = (64, 48)) -> Path:
    """Writes a video whose frames get lighter."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, size)
    assert writer.isOpened()
    for number in range(count):
        writer.write(np.full((size[1], size[0], 3), 6 * number, np.uint8))
    writer.release()
    return path


def test_folders_and_patterns_are_opened_up(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    a, b, c = picture(tmp_path / "a.PNG"), video(tmp_path / "b.avi", 2), picture(inner / "c.jpg")
    picture(tmp_path / ".hidden.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert expand([str(tmp_path)]) == [str(a), str(b)]
    assert expand([f"{tmp_path}/*.PNG", "0", "http://host/d.jpg"]) == [
        str(a), "0", "http://host/d.jpg",
    ]  # fmt: skip
    assert expand([f"{tmp_path}/**/*.jpg"]) == [str(c)]
    assert expand([f"{tmp_path}/?.avi", str(c)]) == [str(b), str(c)]
    assert expand(["gone.jpg"]) == ["gone.jpg"]


def test_a_file_whose_name_is_a_pattern_or_a_number_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "[1].png")
    picture(tmp_path / "0.png").rename(tmp_path / "0")
    assert expand(["[1].png", "0"]) == ["[1].png", "0"]
    assert not is_camera("0")
    assert is_camera("1")
    assert next(frames("0")).pixels.shape == (30, 40, 3)


def test_folders_and_patterns_without_images_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"folder {tmp_path} has no image or video"):
        expand([str(tmp_path)])
    with pytest.raises(FileNotFoundError, match=r"pattern .*\*.jpg meets no file"):
        expand([f"{tmp_path}/*.jpg"])


def test_a_video_gives_its_frames_in_order(tmp_path):
    path = video(tmp_path / "clip.avi", 5)
    assert is_video(str(path))
    found = list(frames(str(path)))
    assert [frame.number for frame in found] == [0, 1, 2, 3, 4]
    assert {(frame.name, frame.rate, frame.pixels.shape) for frame in found} == {
        (str(path), 10.0, (48, 64, 3))
    }
    means = [frame.pixels.mean() for frame in found]
    np.testing.assert_allclose(means, [0, 6, 12, 18, 24], atol=2)


def test_colours_of_a_video_are_rgb(tmp_path):
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))  # OpenCV's order: blue first
    writer.release()
    red, green, blue = next(frames(str(path))).pixels.mean(axis=(0, 1))
    assert red > 240
    assert max(green, blue) < 15


def test_a_video_that_ends_early_gives_what_there_is_and_says_so(tmp_path):
    whole = video(tmp_path / "whole.avi", 40).read_bytes()
    path = tmp_path / "short.avi"
    path.write_bytes(whole[: len(whole) // 2])
    seen = []
    with pytest.raises(ImageError, match=r"short.avi ends after \d+ of 40 frames"):
        seen.extend(frame.number for frame in frames(str(path)))
    assert 5 < len(seen) < 35


def test_what_is_no_video_is_named(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"not a video at all")
    with pytest.raises(ImageError, match="clip.mp4 cannot be opened"):
        list(frames(str(path)))
    with pytest.raises(FileNotFoundError, match=r"no video .*gone.mp4"):
        list(frames(str(tmp_path / "gone.mp4")))
    with pytest.raises(ImageError, match="camera 99 cannot be opened"):
        list(frames("99"))


def test_of_an_animation_the_first_image_is_taken_and_it_is_said(tmp_path, caplog):
    first, second = (Image.new("RGB", (40, 30), colour) for colour in ("white", "black"))
    path = tmp_path / "moves.gif"
    first.save(path, save_all=True, append_images=[second, first])
    with caplog.at_level(logging.WARNING):
        (found,) = frames(str(path))
    assert found.pixels.min() == 255
    assert f"{path} has 3 images; the first is looked at" in caplog.text


def test_a_still_image_is_not_warned_of(tmp_path, caplog):
    list(frames(str(picture(tmp_path / "still.jpg"))))
    assert not caplog.text


def test_images_that_are_none_are_named(tmp_path):
    empty = tmp_path / "empty.jpg"
    empty.write_bytes(b"")
    with pytest.raises(ImageError, match="empty.jpg is not an image"):
        list(frames(str(empty)))
    with pytest.raises(FileNotFoundError):
        list(frames(str(tmp_path / "gone.jpg")))


@pytest.fixture
def site(tmp_path):
    """Returns the address of a server of a picture, of an error, and of more than is taken."""
    image = picture(tmp_path / "photo.png").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = {"/photo.png": image, "/long.png": image * 1000, "/text.png": b"hello"}
            if self.path not in content:
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content[self.path])

        def log_message(self, format, *args):  # noqa: A002 - the base class's name for it
            """Prints nothing among the tests."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_image_on_the_web(site):
    (found,) = frames(f"{site}/photo.png")
    assert found.pixels.shape == (30, 40, 3)
    assert found.name == f"{site}/photo.png"


def test_what_is_on_the_web_has_limits(site, monkeypatch):
    with pytest.raises(ImageError, match=r"gone.png cannot be fetched: HTTP Error 404"):
        fetch(f"{site}/gone.png")
    with pytest.raises(ImageError, match=r"text.png is not an image"):
        list(frames(f"{site}/text.png"))
    with pytest.raises(ImageError, match=r"cannot be fetched"):
        fetch("http://127.0.0.1:1/photo.png")
    with pytest.raises(ImageError, match=r"cannot be fetched"):
        fetch("http://[broken/photo.png")
    size = len(fetch(f"{site}/long.png"))
    assert size > 10_000
    assert len(fetch(f"{site}/long.png", most=size)) == size
    with pytest.raises(ImageError, match=r"long.png is larger than 0 MiB"):
        fetch(f"{site}/long.png", most=size - 1)
    assert sources.MOST_BYTES == 50 << 20
