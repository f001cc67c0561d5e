"""The doctor's command: read, scan, say, write a page, and where asked for mend a copy."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import jax

from yolo_jax.config import ExperimentConfig, load_config
from yolo_jax.core.types import Dataset
from yolo_jax.data.augment import Augment
from yolo_jax.data.doctor import Kind, Problem, listed
from yolo_jax.data.doctor.findings import Part, by_kind, cleaned, find_problems, is_training
from yolo_jax.data.doctor.scan import scan_images
from yolo_jax.data.pipeline import Loader
from yolo_jax.data.writers.coco import write_coco
from yolo_jax.data.writers.folder import check_apart, check_new, data_folder, new_folder
from yolo_jax.examine.examination import Examination
from yolo_jax.examine.page import render
from yolo_jax.examine.splits import read_parts
from yolo_jax.networks.yolov3 import NETWORKS
from yolo_jax.report.pictures import save_batch_picture

PAGE, REPORT = "index.html", "report.json"
_OWN_FILES = re.compile(rf"{re.escape(PAGE)}|{re.escape(REPORT)}|augment_\d+\.jpg")
_ON_A_SHEET = 16
# What a cleaned copy still has. Boxes that stick out are clipped in it; the rest is not there.
_STAYS = (Kind.NOTHING, Kind.CLASS_NAMES, Kind.CROWDED)


def examine_dataset(
    source: str,
    *,
    split: str | None = None,
    class_names_file: Path | None = None,
    input_size: int | None = None,
    max_boxes: int | None = None,
    network: str | None = None,
    out: Path | None = None,
    fix: Path | None = None,
    show_augment: int = 0,
    config_file: Path | None = None,
    workers: int = 2,
) -> bool:
    """Examines a data set, prints what is wrong with it, and writes a page and `report.json`.

    Args:
        source: a file, a folder or `tfds:NAME`; see `readers.read_dataset`.
        split: part of the data set; None: all of them.
        class_names_file: has a class a line.
        input_size: side of the network's square input, px; None: the config's, or 416.
        max_boxes: boxes kept an image, T; None: the config's, or all.
        network: whose anchors are held against the boxes; None: the config's, or `tiny`.
        out: folder of the page; None: `doctor/NAME` in the working directory.
        fix: folder to make for a copy, as COCO, without what is bad; of several splits it gets a
            folder for each.
        show_augment: number of sheets of augmented images to draw.
        config_file: a config whose augmentation is shown; None: the default one.
        workers: threads that read images.

    Returns:
        True where something is wrong.

    Raises:
        FileNotFoundError: a file or folder is missing.
        ValueError: the source cannot be read at all; the copy's folder cannot be made, is in the
            source, or is to hold the page too; or the page's is the source's, or has other files.
        OSError: the disk is full, or may not be written to.
    """
    config = load_config(config_file) if config_file is not None else None
    input_size = input_size or (config.network.input_size if config else 416)
    network = network or (config.network.kind if config else "tiny")
    max_boxes = max_boxes or (config.data.max_boxes if config else None)
    out = out or Path("doctor") / _name(source, split)
    # Said before the data are read, which may take minutes.
    _check_out(out, source)
    if fix is not None:
        _check_fix(fix, source, out)
    read, unreadable = read_parts(source, split, class_names_file)
    for dataset, _ in read.values():
        for place in filter(None, (out, fix)):
            check_apart(place, dataset)
    out.mkdir(parents=True, exist_ok=True)
    shape = (input_size, input_size)
    parts = [
        Part(name, dataset, bad_records, scan_images(dataset, shape, workers))
        for name, (dataset, bad_records) in read.items()
    ]
    of_each = find_problems(parts, max_boxes)
    problems = by_kind([*unreadable, *chain(*of_each)])
    anchors = NETWORKS[network][1]
    found = Examination(source, parts, problems, network, anchors, input_size, max_boxes)
    _say("\n".join(found.summary()))
    # First, for by this file a later start knows the folder for its own.
    (out / REPORT).write_text(json.dumps(found.figures(), indent=1) + "\n", encoding="utf-8")
    # Names of files may hold halves of surrogate pairs, which UTF-8 has no form for.
    (out / PAGE).write_text(render(found), encoding="utf-8", errors="backslashreplace")
    _say(f"page: {out / PAGE}")
    good = cleaned(parts)
    if fix is not None:
        _write_fixed(parts, good, of_each, fix)
    if show_augment:
        trained = next((i for i, part in enumerate(parts) if is_training(part)), 0)
        _draw_augmented(good[trained], config, input_size, show_augment, out)
    return bool(problems)


def _check_fix(fix: Path, source: str, out: Path) -> None:
    check_new(fix, source)
    if out.resolve().is_relative_to(fix.resolve()):
        raise ValueError(f"--fix {fix} would hold the page of --out {out} too; name two folders")


def _check_out(out: Path, source: str) -> None:
    """Refuses a folder for the page in which there are other files than an earlier page's."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; name a folder")
    if out.resolve() == data_folder(source):
        raise ValueError(f"--out {out} is the folder of the data set {source}; name another")
    names = sorted(path.name for path in out.glob("*"))
    others = [name for name in names if not _OWN_FILES.fullmatch(name)]
    if others or (names and not _is_own_report(out / REPORT)):
        raise ValueError(
            f"--out {out} has {listed(others or names)}, which the doctor did not write; name a "
            "new folder, or one of an earlier report"
        )


def _is_own_report(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"data", "splits", "problems"} <= set(content)


def _name(source: str, split: str | None) -> str:
    """Returns a folder's name for a data set."""
    place = Path(source)
    # Of `.` only the whole path has a name; tfds:NAME is no path.
    name = place.resolve().name if place.is_dir() else place.stem
    return re.sub(r"[^\w.-]+", "_", "_".join(filter(None, [name, split]))) or "data"


def _write_fixed(
    parts: Sequence[Part],
    good: Sequence[Dataset],
    problems: Sequence[Sequence[Problem]],
    fix: Path,
) -> None:
    """Writes cleaned data sets as COCO: one into the folder, several into folders in it.

    All are written or none.
    """
    lost: dict[str, list[str]] = {}
    filled = [pair for pair in zip(parts, good, strict=True) if pair[1].annotations]
    if len(parts) == 1:
        for part, dataset in filled:
            lost[part.name] = write_coco(dataset, fix)
    elif filled:
        with new_folder(fix) as unfinished:
            for part, dataset in filled:
                lost[part.name] = write_coco(dataset, unfinished / part.name)
    for part, dataset, found in zip(parts, good, problems, strict=True):
        place = fix / part.name if len(parts) > 1 else fix
        images, boxes = len(dataset.annotations), sum(len(a.boxes) for a in dataset.annotations)
        if images:
            _say(f"{place}: {images:,} images with {boxes:,} boxes, as COCO")
        else:
            _say(f"{place}: not written, no image is left")
        counts = Counter(problem.kind for problem in found)
        for done, kinds in (
            ("left out", [kind for kind in Kind if kind not in (*_STAYS, Kind.STICKS_OUT)]),
            ("clipped", [Kind.STICKS_OUT]),
            ("still there", _STAYS),
        ):
            shown = ", ".join(f"{counts[kind]:,} × {kind}" for kind in kinds if counts[kind])
            if shown:
                _say(f"  {done}: {shown}")
        for text in (*dataset.not_kept, *lost.get(part.name, ())):
            _say(f"  not kept: {text}")


def _draw_augmented(
    dataset: Dataset, config: ExperimentConfig | None, input_size: int, sheets: int, out: Path
) -> None:
    """Draws sheets of images as the network sees them in training."""
    if not dataset.annotations:
        _say("augmented: not drawn, no image is left")
        return
    augment = config.augment if config else Augment()
    canvas = (config.data.canvas_size if config else None) or input_size
    loader = Loader(
        dataset,
        batch_size=_ON_A_SHEET,
        image_shape=(canvas, canvas),
        shuffle=True,
        mixing=augment.mixing(),
    )
    stream = loader.batches()
    for number in range(1, sheets + 1):
        batch = next(stream)
        change = partial(augment, output_shape=(input_size, input_size))
        path = out / f"augment_{number}.jpg"
        keys = jax.random.split(jax.random.key(number), len(batch.image))
        save_batch_picture(batch, change, keys, path)
        _say(f"augmented: {path}")


def _say(text: str) -> None:
    print(text.encode("utf-8", "backslashreplace").decode())
