"""Annotation lines to distorted images; boxes follow."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_jax.data.images import ImageError
from yolo_jax.data.letterbox import letterbox_bicubic
from yolo_jax.keras_yolo3 import get_random_data, letterbox_image

RED = (255, 0, 0)


@pytest.fixture
def line(tmp_path):
    """An image in a folder with spaces: blue, with a red object and a box around it."""
    pixels = np.full((60, 90, 3), (0, 0, 255), np.uint8)
    pixels[12:40, 20:60] = RED
    path = tmp_path / "my images" / "a 1.png"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path)
    return f"{path} 20,12,60,40,3\n"


def red(pixels):
    return (pixels[..., 0] > 0.5) & (pixels[..., 2] < 0.5) & (pixels[..., 1] < 0.4)


def test_without_distortion_it_is_letterboxed(line):
    pixels, boxes = get_random_data(line, (64, 96), random=False)
    image = np.asarray(Image.open(line.rsplit(" ", 1)[0]))
    expected, place = letterbox_bicubic(image, (64, 96))
    np.testing.assert_array_equal(np.rint(pixels * 255), expected)
    assert boxes.shape == (20, 5)
    np.testing.assert_allclose(
        boxes[0], [*place.boxes_to_input(np.array([[20, 12, 60, 40]]))[0], 3]
    )
    assert not boxes[1:].any()
    assert get_random_data(line, (64, 96), random=False, proc_img=False)[0] == 0
    fitted = letterbox_image(Image.fromarray(image), (96, 64))
    np.testing.assert_array_equal(np.asarray(fitted), expected)


def test_distorted_the_boxes_follow_the_object(line):
    np.random.seed(0)  # noqa: NPY002 - what scripts seed
    seen, sides = 0, set()
    for _ in range(60):
        pixels, boxes = get_random_data(line, (128, 96), hue=0.01, sat=1.05, val=1.05)
        assert pixels.shape == (128, 96, 3)
        assert 0 <= pixels.min() <= pixels.max() <= 1
        assert (boxes[:, :4] >= 0).all()
        assert (boxes[:, [0, 2]] <= 96).all()
        assert (boxes[:, [1, 3]] <= 128).all()
        if not boxes[0].any():
            continue
        seen += 1
        rows, columns = np.nonzero(red(pixels))
        object_box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(boxes[0, :4], object_box, atol=2.5)
        assert boxes[0, 4] == 3
        sides.add(round(boxes[0, 2] - boxes[0, 0]))
    assert seen > 30
    assert len(sides) > 10


def test_the_same_seed_draws_the_same(line):
    found = []
    for _ in range(2):
        np.random.seed(5)  # noqa: NPY002 - what scripts seed
        found.append(get_random_data(line, (64, 64)))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_colours_change_and_grey_borders_show(line):
    np.random.seed(1)  # noqa: NPY002 - what scripts seed
    drawn = [get_random_data(line, (64, 64), hue=0.5)[0] for _ in range(20)]
    assert len({tuple(np.round(pixels.mean((0, 1)), 2)) for pixels in drawn}) > 15


def test_at_most_so_many_boxes(line):
    many = line.strip() + " 20,12,60,40,1" * 9
    assert (get_random_data(many, (64, 64), random=False, max_boxes=4)[1][:, 2] > 0).sum() == 4


def test_lines_that_name_no_image(tmp_path):
    with pytest.raises(ValueError, match="an annotation line is `path xmin,ymin"):
        get_random_data("1,2,3,4,5", (64, 64))
    with pytest.raises(FileNotFoundError):
        get_random_data(f"{tmp_path}/none.jpg 1,2,3,4,5", (64, 64))
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ImageError, match="not an image"):
        get_random_data(f"{tmp_path}/text.jpg", (64, 64))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ("1,2,3,4", "1,2,3,4"),
        ("1,2,30,40,0 1,2,3,4", "1,2,3,4"),
        ("1,2,3,4 1,2,30,40,0", "1,2,3,4"),
        ("1,2,3,4,cat", "1,2,3,4,cat"),
        ("1,2,3,4,5,6", "1,2,3,4,5,6"),
        ("1, 2, 3, 4, 5", "1,"),
    ],
)
def test_a_box_that_is_none_is_named(line, fields, named):
    path = line.rsplit(" ", 1)[0]
    with pytest.raises(ValueError, match=f"with '{named}' as .* expected `xmin,ymin,xmax,ymax,cl"):
        get_random_data(f"{path} {fields}", (64, 64))


def test_a_path_may_look_like_boxes(line, tmp_path):
    path = tmp_path / "a 1,2,3,4 b.png"
    path.write_bytes(Path(line.rsplit(" ", 1)[0]).read_bytes())
    assert get_random_data(f"{path} 20,12,60,40,3", (64, 96), random=False)[1][0, 4] == 3
