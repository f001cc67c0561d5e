import numpy as np
import pytest

from yolo_jax.core.draw import colour_of, contact_sheet, draw_boxes

RED = (255, 0, 0)


def test_a_box_is_drawn_where_it_is_and_the_image_is_left_alone():
    image = np.zeros((60, 80, 3), np.uint8)
    drawn = draw_boxes(image, np.array([[10, 20, 50, 40]]), [RED])
    assert (drawn.shape, drawn.dtype) == (image.shape, image.dtype)
    assert not image.any()
    rows, columns = np.nonzero((drawn == RED).all(axis=-1))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (10, 20, 50, 40)
    assert not drawn[25:35, 15:45].any()


def test_no_boxes_draw_nothing():
    image = np.full((20, 30, 3), 7, np.uint8)
    np.testing.assert_array_equal(draw_boxes(image, np.zeros((0, 4)), [], []), image)


def test_lines_grow_with_the_image():
    thickness = []
    for side in (300, 1200):
        box = np.array([[0.2, 0.2, 0.8, 0.8]]) * side
        drawn = draw_boxes(np.zeros((side, side, 3), np.uint8), box, [RED])
        thickness.append(int((drawn[side // 2, : side // 2] == RED).all(axis=-1).sum()))
    assert thickness[1] == 4 * thickness[0]


@pytest.mark.parametrize("corner", [(0, 0), (190, 0), (0, 90), (190, 90), (195, 95)])
def test_labels_stay_inside(corner):
    """Wherever the box lies, as much of its label is seen as in the middle of the image."""
    image = np.zeros((100, 200, 3), np.uint8)

    def filled(x: int, y: int) -> int:
        box = np.array([[x, y, x, y]])
        return int(draw_boxes(image, box, [RED], ["tree 0.97"]).any(axis=-1).sum())

    # The box itself, a point, adds a pixel or none, as it lies under its label or not.
    assert abs(filled(*corner) - filled(60, 50)) <= 1


def test_classes_have_colours_of_their_own():
    assert len({colour_of(i) for i in range(8)}) == 8
    assert colour_of(800) == colour_of(0)


def test_contact_sheet_holds_every_picture():
    pictures = [np.full((10 + i, 20, 3), i, np.uint8) for i in range(5)]
    sheet = contact_sheet(pictures, columns=3)
    for i, picture in enumerate(pictures):
        assert (sheet == i).all(axis=-1).sum() == picture.shape[0] * picture.shape[1]


def test_labels_of_boxes_in_one_place_lie_beside_each_other():
    image, boxes = np.zeros((200, 300, 3), np.uint8), [[100, 80, 250, 160]] * 4
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 0, 255)]
    alone = _filled(draw_boxes(image, boxes[:1], colours, ["ash 0.50"]), colours[0])
    drawn = draw_boxes(image, boxes, colours, ["ash 0.50"] * 4)
    # Outlines lie on each other, so of each but the last something is missing.
    for colour in colours:
        assert _filled(drawn, colour) > 0.9 * (alone - 2 * (150 + 80))


def _filled(image, colour):
    return int((image == colour).all(axis=-1).sum())


def test_letters_beyond_ascii_are_not_all_one_box():
    image, box = np.zeros((40, 300, 3), np.uint8), [[0, 0, 1, 1]]
    drawn = [draw_boxes(image, box, [RED], [letter * 9]) for letter in "äéłшλ"]
    for index, picture in enumerate(drawn):
        for other in drawn[:index]:
            assert not np.array_equal(picture, other)


def test_text_stands_out_from_its_label():
    image = np.full((100, 300, 3), 128, np.uint8)
    for index in range(8):
        drawn = draw_boxes(image, [[50, 50, 51, 51]], [colour_of(index)], ["birch 0.93"])
        ground, ink = luminance(colour_of(index)), [luminance(p) for p in drawn.reshape(-1, 3)]
        lightest, darkest = max(ink), min(ink)
        assert max((lightest + 0.05) / (ground + 0.05), (ground + 0.05) / (darkest + 0.05)) >= 3


def luminance(colour):
    """Returns WCAG's relative luminance."""
    parts = [c / 255 for c in colour]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_first_label_is_on_top_where_there_is_no_room():
    image, boxes = np.zeros((24, 60, 3), np.uint8), [[0, 0, 59, 23]] * 8
    colours = [colour_of(index) for index in range(8)]
    drawn = draw_boxes(image, boxes, colours, ["ash 0.50"] * 8)
    alone = draw_boxes(image, boxes[:1], colours, ["ash 0.50"])
    # But for the outlines, which lie on each other.
    assert _filled(drawn[1:-1, 1:-1], colours[0]) == _filled(alone[1:-1, 1:-1], colours[0])
