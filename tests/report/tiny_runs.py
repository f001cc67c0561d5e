"""A config of runs that take seconds, on images of their own."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from yolo_jax import experiment
from yolo_jax.config import DataConfig, ExperimentConfig, NetworkConfig

# What a page must show, and not run.
WILD = "<img src=x onerror=alert(1)>"
CLASSES = ("ash", WILD)
TRIALS = tuple(
    (f"learning_rate={rate},seed={seed}", rate, seed) for rate in (0.001, 0.01) for seed in (0, 1)
)


def write_coco(folder: Path, name: str, images: int) -> Path:
    """Writes a COCO JSON of images with a bright square each, whose classes take turns."""
    generator = np.random.default_rng(len(name))
    records, annotations = [], []
    for number in range(images):
        file = folder / f"{name}_{number}.png"
        pixels = generator.integers(0, 90, (48, 48, 3), np.uint8)
        x, y = (int(value) for value in generator.integers(0, 24, 2))
        pixels[y : y + 24, x : x + 24, number % 2] = 255
        Image.fromarray(pixels).save(file)
        source = ["here", "there"][number // 2 % 2]
        records.append(
            {"id": number, "file_name": file.name, "width": 48, "height": 48, "source": source}
        )
        box = {"image_id": number, "category_id": 1 + number % 2, "bbox": [x, y, 24, 24]}
        annotations.append(box)
    categories = [{"id": 1 + index, "name": kind} for index, kind in enumerate(CLASSES)]
    content = {"images": records, "annotations": annotations, "categories": categories}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def tiny_config(runs: Path) -> ExperimentConfig:
    """Returns the sweep's base; its data lie beside the folder of its runs."""
    folder = runs.parent
    return ExperimentConfig(
        name="tiny",
        runs=runs,
        data=DataConfig(
            train=write_coco(folder, "train", 8),
            validation=write_coco(folder, "validation", 4),
            held_out=write_coco(folder, "held_out", 6),
        ),
        network=NetworkConfig(input_size=64, weights="scratch"),
        epochs=3,
        steps_per_epoch=2,
        batch_size=4,
        validation_ap_every=1,
        close_mosaic=1,  # without effect, which is a warning to be met
    )


if __name__ == "__main__":
    base = tiny_config(Path(sys.argv[1]))
    for name, rate, seed in TRIALS:
        optimizer = dataclasses.replace(base.optimizer, learning_rate=rate)
        experiment.train(dataclasses.replace(base, name=name, seed=seed, optimizer=optimizer))
