"""Rehearses coco_yolov3_416 on 64 drawn images, reduced in size alone, until it has learnt them.

The recipe is the config's: its loss, SGD with decay, warm-up and steps of the rate, scaling,
jitter and colours, sides drawn from a range. Smaller are the network (YOLOv3-tiny, from scratch),
the sides in px, the batch and the number of steps. The images are those that it is scored on.

Command: yolo-jax bench rehearsal
Hardware: 2 CPU cores.
Expected: AP50 0.997, as seen once; below 0.9 it ends with 1.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from yolo_jax import experiment
from yolo_jax.cli import use_compilation_cache
from yolo_jax.config import ExperimentConfig, load_config

CONFIG = Path(__file__).parents[1] / "configs" / "coco_yolov3_416.py"
ENOUGH = 0.9
IMAGES, SIDE = 64, 128  # px
SHAPES = ("rectangle", "ellipse", "triangle")


def main() -> None:
    """Trains, prints the figures, and says whether they are enough."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench rehearsal", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/bench"))
    parser.add_argument("--epochs", type=int, default=300)
    options = parser.parse_args()
    use_compilation_cache()
    images = draw_images(options.runs / "rehearsal_images")
    config = small(load_config(CONFIG), images, options.runs, options.epochs)
    experiment.train(config)
    figures = json.loads((options.runs / config.name / "metrics.json").read_text())
    print(
        f"{IMAGES} images, {figures['epochs']} epochs: AP50 {figures['AP50']:.3f} "
        f"AP {figures['AP']:.3f} on the images trained on; expected AP50 {ENOUGH} or more"
    )
    sys.exit(figures["AP50"] < ENOUGH)


def small(config: ExperimentConfig, images: Path, runs: Path, epochs: int) -> ExperimentConfig:
    """Returns a config for some images, reduced in what makes a run long, and in nothing else."""
    replace = dataclasses.replace
    return replace(
        config,
        name="rehearsal",
        data=replace(
            config.data, train=images, validation=images, held_out=images,
            canvas_size=SIDE, workers=0,
        ),
        network=replace(config.network, kind="tiny", input_size=96, weights="scratch"),
        augment=replace(config.augment, multi_scale=(64, 96, 128)),
        optimizer=replace(config.optimizer, warmup_steps=100),
        epochs=epochs,
        batch_size=16,
        runs=runs,
    )  # fmt: skip


def draw_images(folder: Path) -> Path:
    """Draws images of one to three shapes each; returns their COCO file."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(IMAGES):
        pixels = random.integers(80, 176, (SIDE // 8, SIDE // 8, 3), np.uint8)
        image = Image.fromarray(pixels).resize((SIDE, SIDE))
        name = f"images/{number:02d}.jpg"
        images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
        # A quarter of the image each, so that none hides another.
        for quarter in random.permutation(4)[: random.integers(1, 4)]:
            shape = int(random.integers(len(SHAPES)))
            box = _place(random, int(quarter))
            _draw(ImageDraw.Draw(image), SHAPES[shape], box, tuple(random.choice([0, 255], 3)))
            left, top, right, bottom = box
            bbox = [left, top, right - left, bottom - top]
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": shape, "bbox": bbox}
                | {"area": bbox[2] * bbox[3], "iscrowd": 0}
            )
        image.save(folder / name, quality=95)
    path = folder / "instances.json"
    categories = [{"id": index, "name": name} for index, name in enumerate(SHAPES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _place(random: np.random.Generator, quarter: int) -> tuple[int, int, int, int]:
    """Returns a box, xyxy in px, within a quarter of the image."""
    half = SIDE // 2
    width, height = (int(side) for side in random.integers(half // 3, half - 4, 2))
    left = quarter % 2 * half + int(random.integers(0, half - width))
    top = quarter // 2 * half + int(random.integers(0, half - height))
    return left, top, left + width, top + height


def _draw(on: ImageDraw.ImageDraw, shape: str, box: tuple[int, ...], colour: Any) -> None:
    left, top, right, bottom = box
    edges = (left, top, right - 1, bottom - 1)  # Pillow counts the last pixel in
    match shape:
        case "rectangle":
            on.rectangle(edges, fill=colour)
        case "ellipse":
            on.ellipse(edges, fill=colour)
        case _:
            middle = (left + right) // 2
            on.polygon([(left, bottom - 1), (right - 1, bottom - 1), (middle, top)], fill=colour)


if __name__ == "__main__":
    main()
