"""Trains YOLOv3-tiny on the tree crowns in the way of a keras-yolo3 user's train.py.

Nothing here is yolo_jax's own but the names that are imported, and `write_annotations`, which turns
the COCO file into annotation lines.

Command: python -m experiments.keras_yolo3.train
Hardware: 2 CPU cores, some minutes an epoch; `yolo-jax train` gets further in less time.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from yolo_jax import Input, K, Lambda, Model
from yolo_jax.callbacks import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau, TensorBoard
from yolo_jax.keras_yolo3 import (
    get_random_data,
    preprocess_true_boxes,
    tiny_yolo_body,
    yolo_body,
    yolo_loss,
)
from yolo_jax.networks.pretrained import fetch_pretrained
from yolo_jax.optimizers import Adam

COCO = Path(__file__).parents[1] / "data" / "tree_crowns" / "train.json"
TINY_ANCHORS = np.array([(10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319)], float)


def write_annotations(coco: Path, path: Path) -> None:
    """Writes `image xmin,ymin,xmax,ymax,class …`, a line for each image."""
    content = json.loads(coco.read_text())
    boxes: dict[int, list[str]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        x, y, width, height = (round(side) for side in annotation["bbox"])
        boxes[annotation["image_id"]].append(f"{x},{y},{x + width},{y + height},0")
    lines = [
        " ".join([str(coco.parent / image["file_name"]), *boxes[image["id"]]])
        for image in content["images"]
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def train(
    annotation_path: Path,
    log_dir: str,
    *,
    weights_path: Path | None,
    input_shape: tuple[int, int] = (416, 416),
    anchors: np.ndarray = TINY_ANCHORS,
    num_classes: int = 1,
    epochs: tuple[int, int] = (50, 100),
    batch_size: int = 8,
) -> Model:
    """Trains the heads, then all layers; leaves checkpoints, weights and events in `log_dir`."""
    model = create_model(input_shape, anchors, num_classes, weights_path=weights_path)
    logging = TensorBoard(log_dir=log_dir)
    checkpoint = ModelCheckpoint(
        log_dir + "ep{epoch:03d}-loss{loss:.3f}-val_loss{val_loss:.3f}.h5",
        monitor="val_loss", save_weights_only=True, save_best_only=True, period=3,
    )  # fmt: skip
    reduce_lr = ReduceLROnPlateau(monitor="val_loss", factor=0.1, patience=3, verbose=1)
    early_stopping = EarlyStopping(monitor="val_loss", min_delta=0, patience=10, verbose=1)

    lines = annotation_path.read_text().splitlines()
    np.random.seed(10101)  # noqa: NPY002 - as the script has it
    np.random.shuffle(lines)  # noqa: NPY002
    num_val = max(1, int(len(lines) * 0.1))
    num_train = len(lines) - num_val

    def generator(chosen: list[str]) -> Iterator:
        return data_generator(chosen, batch_size, input_shape, anchors, num_classes)

    # The heads alone, to a stable loss.
    model.compile(optimizer=Adam(lr=1e-3), loss={"yolo_loss": lambda y_true, y_pred: y_pred})
    model.fit_generator(
        generator(lines[:num_train]),
        steps_per_epoch=max(1, num_train // batch_size),
        validation_data=generator(lines[num_train:]),
        validation_steps=max(1, num_val // batch_size),
        epochs=epochs[0],
        initial_epoch=0,
        callbacks=[logging, checkpoint],
    )
    model.save_weights(log_dir + "trained_weights_stage_1.h5")

    # All layers, at a lower rate.
    for i in range(len(model.layers)):
        model.layers[i].trainable = True
    model.compile(optimizer=Adam(lr=1e-4), loss={"yolo_loss": lambda y_true, y_pred: y_pred})
    model.fit_generator(
        generator(lines[:num_train]),
        steps_per_epoch=max(1, num_train // batch_size),
        validation_data=generator(lines[num_train:]),
        validation_steps=max(1, num_val // batch_size),
        epochs=epochs[1],
        initial_epoch=epochs[0],
        callbacks=[logging, checkpoint, reduce_lr, early_stopping],
    )
    model.save_weights(log_dir + "trained_weights_final.h5")
    return model


def create_model(
    input_shape: tuple[int, int],
    anchors: np.ndarray,
    num_classes: int,
    *,
    freeze_body: int = 2,
    weights_path: Path | None = None,
) -> Model:
    """Returns the training model, whose output is its loss.

    Args:
        input_shape: (height, width), px.
        anchors: 9 for YOLOv3, 6 for tiny.
        num_classes: C.
        freeze_body: 1 freezes the body, 2 all but the outputs.
        weights_path: of pretrained weights, or None.
    """
    K.clear_session()
    image_input = Input(shape=(None, None, 3))
    height, width = input_shape
    tiny = len(anchors) == 6
    strides = (32, 16) if tiny else (32, 16, 8)
    y_true = [Input(shape=(height // s, width // s, 3, num_classes + 5)) for s in strides]
    body, frozen = (tiny_yolo_body, 20) if tiny else (yolo_body, 185)
    model_body = body(image_input, 3, num_classes)
    if weights_path is not None:
        model_body.load_weights(weights_path, by_name=True, skip_mismatch=True)
        for i in range((frozen, len(model_body.layers) - len(strides))[freeze_body - 1]):
            model_body.layers[i].trainable = False
    model_loss = Lambda(
        yolo_loss, output_shape=(1,), name="yolo_loss",
        arguments={"anchors": anchors, "num_classes": num_classes, "ignore_thresh": 0.5},
    )([*model_body.output, *y_true])  # fmt: skip
    return Model([model_body.input, *y_true], model_loss)


def data_generator(
    lines: list[str],
    batch_size: int,
    input_shape: tuple[int, int],
    anchors: np.ndarray,
    num_classes: int,
) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """Yields `[images, *y_true]` and the zeros that stand for a target."""
    i = 0
    while True:
        image_data, box_data = [], []
        for _ in range(batch_size):
            if i == 0:
                np.random.shuffle(lines)  # noqa: NPY002 - as the script has it
            image, box = get_random_data(lines[i], input_shape, random=True)
            image_data.append(image)
            box_data.append(box)
            i = (i + 1) % len(lines)
        y_true = preprocess_true_boxes(np.array(box_data), input_shape, anchors, num_classes)
        yield [np.array(image_data), *y_true], np.zeros(batch_size)


def main() -> None:
    """Trains from the COCO weights on the tree crowns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log-dir", default="logs/000/")
    parser.add_argument("--epochs", type=int, nargs=2, default=(50, 100))
    options = parser.parse_args()
    annotations = Path(options.log_dir) / "train.txt"
    write_annotations(COCO, annotations)
    train(
        annotations, options.log_dir, weights_path=fetch_pretrained(), epochs=tuple(options.epochs)
    )


if __name__ == "__main__":
    main()
