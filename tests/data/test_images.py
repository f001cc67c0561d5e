import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.images import (
    ImageError,
    decode_image,
    decode_to_fit,
    load_image,
    load_to_fit,
    read_image,
)
from yolo_jax.data.readers.sizes import image_sizes

GOLDEN = Path(__file__).parents[1] / "golden"

RANDOM = np.random.default_rng(0)


def noise(height, width):
    return RANDOM.integers(0, 256, (height, width, 3), np.uint8)


def test_read_image_is_rgb(tmp_path):
    pixels = noise(5, 7)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), pixels[..., :1].repeat(3, 2))


def test_exif_orientation_is_applied(tmp_path):
    pixels = noise(5, 7)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be seen turned by 90° clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(pixels, -1))


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "tiff"])
def test_truncated_file(tmp_path, kind):
    path = tmp_path / f"cut.{kind}"
    Image.fromarray(noise(60, 60)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=rf"cut\.{kind} is damaged or cut short: \w"):
        read_image(path)


def test_damaged_header(tmp_path):
    path = tmp_path / "damaged.ppm"
    path.write_bytes(b"P6 3\xb2 24 255 " + bytes(100))  # Pillow raises a bare ValueError
    with pytest.raises(ImageError, match=r"damaged\.ppm"):
        read_image(path)


def test_not_an_image(tmp_path):
    for content in (b"", b"<html></html>"):
        (tmp_path / "page.jpg").write_bytes(content)
        with pytest.raises(ImageError, match=r"page\.jpg is not an image"):
            read_image(tmp_path / "page.jpg")
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        read_image(tmp_path / "gone.jpg")


def test_a_format_for_which_a_program_would_be_started_is_none(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(path, "EPS")
    with pytest.raises(ImageError, match=r"a\.jpg is not an image of a known format"):
        read_image(path)
    (size,) = image_sizes([path])
    assert "not an image of a known format" in str(size)


def saved(tmp_path, values, name, mode=None, **options):
    image = Image.fromarray(values)
    if mode is not None:
        image = Image.frombytes(mode, values.shape[::-1], values.tobytes())
    image.save(tmp_path / name, **options)
    with Image.open(tmp_path / name) as file:
        assert file.mode == (mode or image.mode) or name.endswith(".pgm")
    return tmp_path / name


GREY_16 = np.array([[0, 255, 256, 511], [512, 32767, 32768, 40000], [65279, 65280, 65534, 65535]])
GREY_8 = (GREY_16 // 256)[..., None].repeat(3, 2)


@pytest.mark.parametrize(
    ("name", "dtype", "mode"),
    [
        ("a.png", "<u2", None),
        ("a.tiff", "<u2", None),
        ("a.tiff", ">u2", "I;16B"),
        ("a.pgm", "<u2", None),  # Pillow reads it as mode I
        ("a.tiff", "<i4", None),
    ],
)
def test_sixteen_bits_keep_the_upper_eight(tmp_path, name, dtype, mode):
    pixels = read_image(saved(tmp_path, GREY_16.astype(dtype), name, mode))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, GREY_8)


def test_sixteen_bits_of_grey_are_those_of_colour(tmp_path):
    colour = GREY_16.astype(">u2")[..., None].repeat(3, 2)
    (tmp_path / "a.ppm").write_bytes(b"P6 4 3 65535 " + colour.tobytes())
    found = read_image(tmp_path / "a.ppm").astype(int)
    assert np.abs(found - GREY_8).max() <= 1  # Pillow's PPM reader rounds where others cut


def test_twelve_bits(tmp_path):
    # Two values in three bytes, as TIFF packs them; Pillow reads such a file, and writes none.
    values = [0, 16, 2048, 4095]
    packed = b"".join(
        ((a << 12) | b).to_bytes(3, "big") for a, b in zip(values[::2], values[1::2], strict=True)
    )
    path = saved(tmp_path, np.zeros((1, 4), np.uint16), "a.tiff", compression=None)
    content = bytearray(path.read_bytes())
    with Image.open(path) as file:
        (offset,), bits = file.tag_v2[273], content.find(b"\x02\x01\x03\0\x01\0\0\0\x10\0")
    content[bits + 8] = 12
    content[offset : offset + 8] = packed + bytes(2)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_image(path)[0, :, 0], [0, 1, 128, 255])


def test_sixteen_bits_where_zero_is_white(tmp_path):
    path = saved(tmp_path, GREY_16.astype(np.uint16), "a.tiff", tiffinfo={262: 0})
    with Image.open(path) as file:
        assert file.tag_v2[262] == 0
    np.testing.assert_array_equal(read_image(path), 255 - GREY_8)


def test_sixteen_bits_are_turned_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, GREY_16.astype(np.uint16), "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(path), np.rot90(GREY_8, -1))


def test_a_black_sixteen_bit_image_is_black(tmp_path):
    for name in ("a.png", "a.tiff", "a.pgm"):
        assert not read_image(saved(tmp_path, np.zeros((3, 4), np.uint16), name)).any()


@pytest.mark.parametrize("name", ["a.tiff", "a.pfm"])
def test_floating_point_values_are_0_to_1(tmp_path, name):
    values = np.array([[0, 0.5, 1], [1 / 255, 0.25, 0.999]], np.float32)
    pixels = read_image(saved(tmp_path, values, name))
    np.testing.assert_array_equal(pixels[..., 1], [[0, 128, 255], [1, 64, 255]])


@pytest.mark.parametrize(
    ("values", "dtype", "said"),
    [
        ([0, 65536], "<i4", r"TIFF of mode I\).*values are 0 to 65536, not 0 to 65535; save"),
        ([-1, 300], "<i4", r"values are -1 to 300, not 0 to 65535"),
        ([0, 255], "<i4", r"values are 0 to 255: 8 or 16 bits in 32; save"),
        ([0, 255], "<f4", r"TIFF of mode F\).*values are 0.0 to 255.0, not 0 to 1; scale them"),
        ([-0.5, 1], "<f4", r"values are -0.5 to 1.0, not 0 to 1"),
        ([np.nan, 1], "<f4", r"values are nan to nan, not 0 to 1"),
        ([0, np.inf], "<f4", r"values are 0.0 to inf, not 0 to 1"),
    ],
)
def test_values_of_a_scale_nobody_knows_are_refused(tmp_path, values, dtype, said):
    path = saved(tmp_path, np.array([values], dtype), "deep.tiff")
    with pytest.raises(
        ImageError, match=r"deep\.tiff \(" + (said if "TIFF" in said else ".*" + said)
    ):
        read_image(path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "LAB"])
def test_modes_of_eight_bits_are_pillows(tmp_path, mode):
    kind = {"LA": "png", "P": "png", "1": "png", "PA": "png", "RGBA": "png"}.get(mode, "tiff")
    image = Image.fromarray(noise(6, 5))
    image = image.convert("P" if mode == "PA" else mode)
    image.save(tmp_path / f"a.{kind}", **({"transparency": 3} if mode == "PA" else {}))
    with Image.open(tmp_path / f"a.{kind}") as file:
        expected = np.asarray(file.convert("RGB"))
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{kind}"), expected)


def test_a_path_that_is_no_file(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for path, said in (
        (tmp_path / "folder.png", r"folder\.png is a directory, not an image file"),
        (tmp_path / ("x" * 300 + ".png"), r"x{300}\.png cannot be opened: File name too long"),
        (str(tmp_path / "a\0b.png"), r"a\\x00b\.png' is not a path .* null byte"),
        (tmp_path / "\ud800.png", r"\\ud800\.png' is not a path"),
    ):
        with pytest.raises(ImageError, match=said) as raised:
            read_image(path)
        assert str(raised.value).isprintable()
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(ImageError, match=r"a\.png cannot be opened: Not a directory"):
        read_image(tmp_path / "file.txt" / "a.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(FileNotFoundError, match=r"dangling\.png"):
        read_image(tmp_path / "dangling.png")


def photo(height, width):
    with Image.open(GOLDEN / "dog.jpg") as file:
        return file.resize((width, height))


def encoded(image, kind="JPEG", **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def camera_exif(orientation):
    """Returns EXIF with a small JPEG in it, as cameras write."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    return exif.tobytes() + encoded(photo(24, 32))


JPEGS = {
    "plain": {},
    "fine": {"subsampling": 0, "quality": 95},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 2},
    "exif": {"exif": camera_exif(1)},
    "turned": {"exif": camera_exif(6)},
}


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", JPEGS)
def test_decoding_to_fit_what_does_not_shrink_by_2_is_decoding(kind, mode):
    content = encoded(photo(61, 83).convert(mode), **JPEGS[kind])
    found = decode_to_fit(content, "a.jpg", (40, 50))
    np.testing.assert_array_equal(found.pixels, decode_image(content, "a.jpg"))
    assert found.original == found.pixels.shape[:2]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("kind", [kind for kind in JPEGS if kind != "turned"])
@pytest.mark.parametrize(("shape", "by"), [((40, 60), 2), ((30, 30), 4), ((5, 5), 8)])
def test_a_jpeg_that_shrinks_is_reduced_as_by_pillows_draft(kind, mode, shape, by):
    content = encoded(photo(121, 167).convert(mode), **JPEGS[kind])
    found = decode_to_fit(content, "a.jpg", shape)
    assert found.original == (121, 167)
    with Image.open(io.BytesIO(content)) as file:
        file.draft(mode, (167 // by, 121 // by))
        expected = np.asarray(file.convert("RGB"))
    assert expected.shape == (-(-121 // by), -(-167 // by), 3)
    np.testing.assert_array_equal(found.pixels, expected)


def test_bytes_behind_a_jpegs_end_do_not_matter():
    content = encoded(photo(121, 167))
    found = decode_to_fit(content + b"\n", "a.jpg", (20, 20))
    np.testing.assert_array_equal(found.pixels, decode_to_fit(content, "a.jpg", (20, 20)).pixels)


@pytest.mark.parametrize("kind", ["turned", "png", "webp", "cmyk"])
def test_what_is_no_ordinary_jpeg_is_pillows(kind):
    image = photo(121, 167)
    content = {
        "turned": encoded(image, exif=camera_exif(6)),
        "png": encoded(image.convert("P"), "PNG"),
        "webp": encoded(image.convert("RGBA"), "WEBP"),
        "cmyk": encoded(image.convert("CMYK")),
    }[kind]
    found = decode_to_fit(content, "a", (20, 20))
    np.testing.assert_array_equal(found.pixels, decode_image(content, "a"))
    assert found.original == ((167, 121) if kind == "turned" else (121, 167))


@pytest.mark.parametrize("shape", [(300, 300), (20, 20)])
@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_cut_anywhere_is_refused(kind, shape):
    content = encoded(photo(121, 167), **JPEGS[kind])
    for end in RANDOM.integers(0, len(content), 60):
        with pytest.raises(ImageError, match=r"a\.jpg is (damaged or cut short|not an image)"):
            decode_to_fit(content[:end], "a.jpg", shape)


@pytest.mark.parametrize("kind", ["plain", "fine", "progressive", "restarts", "exif"])
def test_a_damaged_jpeg_is_refused_or_comes_out_as_pillow_has_it(kind, capfd):
    """Libjpeg and Pillow alone would take most of these, and make up what is missing.

    And nothing of libjpeg's remarks on them is seen, which OpenCV prints.
    """
    content = encoded(photo(121, 167), **JPEGS[kind])
    random = np.random.default_rng(0)
    refused = taken_by_pillow = 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in random.integers(len(content) // 4, len(content), 3):
            damaged[place] = random.choice([0xFF, random.integers(256)])
        try:
            found = decode_to_fit(bytes(damaged), "a.jpg", (300, 300))
        except ImageError:
            refused += 1
            with suppress(ImageError):
                decode_image(damaged, "a.jpg")
                taken_by_pillow += 1
        else:
            np.testing.assert_array_equal(found.pixels, decode_image(damaged, "a.jpg"))
    assert refused > taken_by_pillow > 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_that_lost_pixels_but_not_its_end_is_refused(kind):
    """Whoever copies it again closes it by a mark of its end; the photo is grey below."""
    content = encoded(photo(121, 167), **JPEGS[kind])
    for shape in ((300, 300), (20, 20)):
        with pytest.raises(ImageError, match=r"a\.jpg is damaged or cut short: .*premature end"):
            decode_to_fit(content[: len(content) * 2 // 3] + b"\xff\xd9", "a.jpg", shape)


def test_bytes_too_many_in_a_jpeg_are_a_remark():
    content = encoded(photo(121, 167))
    found = decode_to_fit(content[:-2] + bytes(9) + content[-2:], "a.jpg", (300, 300))
    assert "extraneous bytes before marker" in found.remark
    np.testing.assert_array_equal(found.pixels, decode_image(content, "a.jpg"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_too_many_pixels(kind, monkeypatch):
    content = encoded(Image.new("L", (200, 150)), kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 14_000)
    for decode in (decode_image, lambda *arguments: decode_to_fit(*arguments, (20, 20))):
        with pytest.raises(
            ImageError, match=r"bomb\.png has too many pixels: .*30000.*Shrink it, or"
        ):
            decode(content, "bomb.png")


def test_load_to_fit(tmp_path):
    content = encoded(photo(120, 168))
    (tmp_path / "a.jpg").write_bytes(content)
    none = np.zeros(0)
    annotation = Annotation(1, tmp_path / "a.jpg", 168, 120, none.reshape(0, 4), none, none)
    packed = Dataset([annotation], (), read=lambda annotation: content)
    for dataset in (Dataset([annotation], ()), packed):
        found = load_to_fit(dataset, annotation, (60, 60))
        assert found.pixels.shape == (60, 84, 3)
        assert found.original == load_image(dataset, annotation).shape[:2]
