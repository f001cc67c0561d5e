"""TensorFlow's SavedModel by jax2tf, with TensorFlow's own suppression where there is one inside.

The network is one XlaCallModule operation. What JAX sorts by is newer than TensorFlow's StableHLO.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from yolo_jax.core.extras import module_installed_by
from yolo_jax.core.json_files import save_json
from yolo_jax.detection.nms import Suppression
from yolo_jax.export.program import INPUT, Program

# Where a SavedModel has room for files that TensorFlow does not read.
METADATA = Path("assets.extra") / "yolo_jax.json"
_ASKED = "the export to a SavedModel"
_INSTALL = "pip install tensorflow-cpu (see docs/export.md)"


def save_tensorflow(folder: Path, program: Program) -> None:
    """Writes a program as a SavedModel, whose `assets.extra/yolo_jax.json` says what it is.

    Args:
        folder: of the model; made when it is not there.
        program: what is exported.

    Raises:
        ValueError: TensorFlow is not installed, or the folder holds something, or is a file.
    """
    if folder.is_file():
        raise ValueError(f"{folder} is a file; name the folder to export to")
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds something already; name a new folder to export to")
    tf = module_installed_by(_INSTALL, "tensorflow", _ASKED)
    jax2tf = module_installed_by(_INSTALL, "jax.experimental.jax2tf", _ASKED)
    spec = program.input_spec()
    predict = jax2tf.convert(
        jax.jit(lambda images: tuple(program.predict(images))),
        polymorphic_shapes=[str(spec.shape)],
        with_gradient=False,
        native_serialization_platforms=("cpu", "cuda", "tpu"),
    )
    suppress = _suppressed(tf, program.suppression)
    signature = tf.TensorSpec([program.batch, *spec.shape[1:]], tf.uint8, name=INPUT)

    @tf.function(autograph=False, input_signature=[signature])
    def serve(images):
        return dict(zip(program.output_names, suppress(*predict(images)), strict=True))

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures=serve)
    (folder / METADATA).parent.mkdir(exist_ok=True)
    save_json(folder / METADATA, program.metadata())


def _suppressed(tf: Any, how: Suppression | None) -> Callable[..., tuple[Any, ...]]:
    """Returns what makes the outputs of all boxes `[b, n, 4]` and scores `[b, n, C]`."""
    if how is None:
        return lambda *outputs: outputs

    def suppress(boxes, scores):
        count, classes = scores.shape[1:]
        kept = min(how.max_detections, count * classes)
        found = tf.image.combined_non_max_suppression(
            boxes[:, :, None],  # one for all classes
            scores,
            max_output_size_per_class=kept,
            max_total_size=kept,
            iou_threshold=how.iou_threshold,
            score_threshold=how.score_threshold,
            clip_boxes=False,
        )
        used = tf.range(kept)[None] < found.valid_detections[:, None]
        indices = tf.where(used, tf.cast(found.nmsed_classes, tf.int32), -1)
        return found.nmsed_boxes, found.nmsed_scores, indices

    return suppress
