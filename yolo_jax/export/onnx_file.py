"""ONNX by jax2onnx, with ONNX's own NonMaxSuppression where boxes are suppressed inside."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from yolo_jax.core.extras import module_installed_by, module_of_extra
from yolo_jax.core.files import write_whole
from yolo_jax.detection.nms import Suppression
from yolo_jax.export.program import INPUT, Program

OPSETS = range(18, 24)  # those that were tried
DEFAULT_OPSET = 18
_ASKED = "the export to ONNX"
_INSTALL = "pip install -e '.[onnx]' && pip install --no-deps jax2onnx==0.17.1"

# NonMaxSuppression lists (image, class, box) of what it keeps, which is of another length for each
# batch. So their scores are written into zeros of the shape [b, C, n], of which TopK takes the best
# of each image; of these the ones above 0 are detections.
_SUPPRESSION = """
<ir_version: {ir_version}, opset_import: ["": {opset}]>
suppression (float[{rows},{count},4] all_boxes, float[{rows},{count},{classes}] all_scores)
  => (float[{rows},{kept},4] boxes, float[{rows},{kept}] scores, int32[{rows},{kept}] classes)
<
  int64[1] kept = {{{kept}}}, int64 count = {{{count}}}, int64[2] flat_shape = {{0, -1}},
  float[1] iou_threshold = {{{iou_threshold}}}, float[1] score_threshold = {{{score_threshold}}},
  int64[1] last = {{-1}}, float zero = {{0}}, int32 none = {{-1}}
>
{{
  by_class = Transpose <perm = [0, 2, 1]> (all_scores)
  found = NonMaxSuppression (all_boxes, by_class, kept, iou_threshold, score_threshold)
  found_scores = GatherND (by_class, found)
  shape = Shape (by_class)
  zeros = ConstantOfShape (shape)
  left = ScatterND (zeros, found, found_scores)
  flat = Reshape (left, flat_shape)
  scores, pairs = TopK (flat, kept)
  box = Mod (pairs, count)
  index = Unsqueeze (box, last)
  best_boxes = GatherND <batch_dims = 1> (all_boxes, index)
  used = Greater (scores, zero)
  used_boxes = Unsqueeze (used, last)
  boxes = Where (used_boxes, best_boxes, zero)
  class = Div (pairs, count)
  class_index = Cast <to = 6> (class)
  classes = Where (used, class_index, none)
}}
"""


def save_onnx(path: Path, program: Program, opset: int = DEFAULT_OPSET) -> None:
    """Writes a program as an ONNX file, whose `metadata_props` hold what is said of it.

    With suppression the file goes by ONNX's operator, which is greedy within each class as ours is;
    of equal scores the lower class comes first.

    Args:
        path: of the file; replaced when it exists.
        program: what is exported.
        opset: version of ONNX's operators, of `OPSETS`.

    Raises:
        ValueError: the opset is not supported, or onnx or jax2onnx is not installed, or the path is
            a folder.
        FileNotFoundError: there is no folder to write in.
    """
    if opset not in OPSETS:
        raise ValueError(
            f"the ONNX opset is {opset}; supported are {OPSETS.start} to {OPSETS.stop - 1}"
        )
    how = program.suppression
    onnx = module_of_extra("onnx", "onnx", _ASKED)
    jax2onnx = module_installed_by(_INSTALL, "jax2onnx", _ASKED)
    names = program.output_names if how is None else ("all_boxes", "all_scores")
    with write_whole(path) as partial:
        with _without_warnings("jax2onnx", "onnx_ir"), _jax_numpy_kept():
            model = jax2onnx.to_onnx(
                lambda images: tuple(program.predict(images)),
                [program.input_spec()],
                model_name="yolo_jax",
                opset=opset,
                input_names=[INPUT],
                output_names=list(names),
            )
        if how is not None:
            model = _with_suppression(onnx, model, how)
        for name, value in program.metadata().items():
            text = value if isinstance(value, str) else json.dumps(value)
            model.metadata_props.add(key=name, value=text)
        onnx.checker.check_model(model)
        partial.write_bytes(model.SerializeToString())


@contextmanager
def _jax_numpy_kept() -> Iterator[None]:
    """Puts back what jax2onnx leaves in jax.numpy: a `cumsum` that takes its axis by name alone."""
    before = dict(vars(jnp))
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(jnp, name, value)


@contextmanager
def _without_warnings(*loggers: str) -> Iterator[None]:
    """Keeps libraries from telling at length of what they could convert and is not installed."""
    logs = [logging.getLogger(name) for name in loggers]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _with_suppression(onnx: Any, model: Any, how: Suppression) -> Any:
    """Returns a model of all boxes and scores with the suppression behind it."""
    boxes, scores = (output.type.tensor_type.shape.dim for output in model.graph.output)
    count, classes = boxes[1].dim_value, scores[2].dim_value
    text = _SUPPRESSION.format(
        ir_version=model.ir_version,
        opset=model.opset_import[0].version,
        rows=boxes[0].dim_param or boxes[0].dim_value,
        count=count,
        classes=classes,
        kept=min(how.max_detections, count * classes),
        iou_threshold=how.iou_threshold,
        score_threshold=how.score_threshold,
    )
    behind = onnx.parser.parse_model(text)
    io_map = [(name, name) for name in ("all_boxes", "all_scores")]
    return onnx.compose.merge_models(model, behind, io_map, name="yolo_jax")
