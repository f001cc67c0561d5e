import cv2
import numpy as np
import pytest
from PIL import Image

from yolo_jax.data.letterbox import (
    letterbox,
    letterbox_bicubic,
    letterbox_darknet,
    letterbox_geometry,
    reduction,
)

RANDOM = np.random.default_rng(0)


def noise(height, width):
    return RANDOM.integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("fit", [letterbox, letterbox_bicubic, letterbox_darknet])
@pytest.mark.parametrize("size", [(50, 100), (100, 37), (31, 17), (64, 64), (1, 300)])
def test_letterbox_round_trip(fit, size):
    fitted, place = fit(noise(*size), (64, 96))
    assert fitted.shape == (64, 96, 3)
    assert place.original == size
    height, width = size
    boxes = np.array([[0, 0, width, height], [0.1, 0.2, width / 2, height / 3]], np.float32)
    there = place.boxes_to_input(boxes)
    assert (there[:, :2] >= -1e-3).all()
    assert (there[:, 2:] <= np.array([96, 64]) + 1e-3).all()
    np.testing.assert_allclose(place.boxes_to_original(there), boxes, atol=1e-3)
    beyond = place.boxes_to_original(np.array([[-500, -500, 500, 500]], np.float32))
    np.testing.assert_allclose(beyond, [[0, 0, width, height]])


def test_letterbox_bicubic_is_keras_yolo3s():
    image = noise(50, 100)
    fitted, place = letterbox_bicubic(image, (64, 64))
    expected = Image.new("RGB", (64, 64), (128, 128, 128))
    resized = Image.fromarray(image).resize((64, 32), Image.Resampling.BICUBIC)
    expected.paste(resized, (0, 16))
    np.testing.assert_array_equal(fitted, np.asarray(expected))
    assert place == letterbox_geometry((50, 100), (64, 64))


def test_letterbox_puts_boxes_on_their_pixels():
    image = np.zeros((100, 160, 3), np.uint8)
    image[20:60, 40:120] = 255
    fitted, place = letterbox(image, (80, 80))
    white = np.argwhere(fitted[..., 0] > 200)
    extent = [*white.min(0)[::-1], *(white.max(0)[::-1] + 1)]
    box = place.boxes_to_input(np.array([[40, 20, 120, 60]], np.float32))[0]
    np.testing.assert_allclose(box, extent, atol=1)


def smooth(height, width):
    """Returns waves of a few periods: what any good resizing keeps."""
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(9 * rows + 5 * columns), np.cos(11 * columns), np.sin(7 * rows) ** 2 - 0.5]
    return np.round(128 + 100 * np.stack(waves, axis=2)).astype(np.uint8)


# Odd sizes at each reduction, beyond the last one, and enlarged.
@pytest.mark.parametrize(
    "size", [(90, 143), (203, 155), (611, 407), (333, 901), (1501, 1203), (37, 9)]
)
def test_letterbox_shows_what_pillows_bicubic_does(size):
    image = smooth(*size)
    fitted, place = letterbox(image, (64, 80))
    expected, expected_place = letterbox_bicubic(image, (64, 80))
    assert fitted.dtype == np.uint8
    assert place == expected_place
    assert np.abs(fitted.astype(int) - expected).max() <= 3


def test_letterbox_does_not_skip_pixels():
    # Every fourth column white: sampled bilinearly without averaging, this would be stripes.
    image = np.zeros((512, 512, 3), np.uint8)
    image[:, ::4] = 255
    fitted, _ = letterbox(image, (100, 100))
    assert np.abs(fitted.astype(int) - 64).max() <= 1


@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("size", [(640, 480), (641, 487), (655, 479)])
def test_a_reduced_image_lies_where_the_original_does(size, n):
    image = smooth(*size)
    rows, columns = -size[0] % n, -size[1] % n
    padded = np.pad(image, ((0, rows), (0, columns), (0, 0)), "edge").astype(float)
    parts = padded.reshape(padded.shape[0] // n, n, padded.shape[1] // n, n, 3)
    reduced = np.round(parts.mean(axis=(1, 3))).astype(np.uint8)
    fitted, place = letterbox(reduced, (64, 80), original=size)
    whole, whole_place = letterbox(image, (64, 80))
    assert place == whole_place
    assert np.abs(fitted.astype(int) - whole).max() <= 2


def test_a_reduced_image_of_another_original_is_refused():
    with pytest.raises(ValueError, match=r"50×100 px \(height × width\) is not one of 100×203 px"):
        letterbox(noise(50, 100), (64, 64), original=(100, 203))


@pytest.mark.parametrize(
    ("original", "by"),
    [
        ((480, 640), 1),
        ((831, 10), 1),
        ((832, 832), 2),
        ((960, 1280), 2),
        ((300, 1664), 4),
        ((1, 1), 1),
    ],
)
def test_reduction(original, by):
    assert reduction(original, (416, 416)) == by


def test_opencv_uses_no_threads_of_its_own():
    assert cv2.getNumThreads() == 1


def darknet_resize(image, new_width, new_height):
    """`resize_image` of darknet's image.c, loop by loop."""
    height, width, _ = image.shape
    part = np.zeros((height, new_width, 3))
    for row in range(height):
        for column in range(new_width):
            if column == new_width - 1 or width == 1:
                part[row, column] = image[row, width - 1]
                continue
            position = column * (width - 1) / (new_width - 1)
            low = int(position)
            rest = position - low
            part[row, column] = (1 - rest) * image[row, low] + rest * image[row, low + 1]
    resized = np.zeros((new_height, new_width, 3))
    for row in range(new_height):
        position = row * (height - 1) / (new_height - 1)
        low = int(position)
        rest = position - low
        resized[row] = (1 - rest) * part[low]
        if row < new_height - 1 and height > 1:
            resized[row] += rest * part[low + 1]
    return resized


@pytest.mark.parametrize(
    ("size", "new"), [((5, 9), (17, 32)), ((9, 5), (32, 17)), ((40, 50), (25, 32))]
)
def test_darknet_resize(size, new):
    image = noise(*size)
    fitted, place = letterbox_darknet(image, (32, 32))
    assert fitted.dtype == np.float32
    expected = np.full((32, 32, 3), 0.5)
    top, left = (32 - new[0]) // 2, (32 - new[1]) // 2
    expected[top : top + new[0], left : left + new[1]] = darknet_resize(image / 255, new[1], new[0])
    np.testing.assert_allclose(fitted, expected, atol=1e-5)
    # correct_yolo_boxes: x = (x - (netw - new_w)/2./netw) / (new_w/netw), relative
    x = (10 / 32 - (32 - new[1]) / 2 / 32) / (new[1] / 32) * size[1]
    y = (12 / 32 - (32 - new[0]) / 2 / 32) / (new[0] / 32) * size[0]
    found = place.boxes_to_original(np.array([[10, 12, 32, 32]], np.float32))[0]
    np.testing.assert_allclose(found[:2], [x, y], rtol=1e-5)
