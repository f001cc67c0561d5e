"""What lies behind a run's held-out figures: curves, confusions, and the worst and best images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np
from jaxtyping import Float
from PIL import Image

from yolo_jax.core.fields import Within
from yolo_jax.core.json_files import known, read_json, save_json
from yolo_jax.core.types import Dataset, Detections
from yolo_jax.evaluation.average_precision import AveragePrecision
from yolo_jax.evaluation.matches import Matches, confusion_matrix, match_dataset, worst_and_best
from yolo_jax.evaluation.overlaps import MATCH_IOU
from yolo_jax.report.pictures import held_out_picture

DETAILS, EXAMPLES = "held_out.json", "examples"
RECALL_STEP = 0.02
_SHOWN = 4  # images of each kind
_LONGEST = 400  # px of their pictures
_SHOWN_NAME = 100  # characters of a picture's name in a message


class Example(TypedDict):
    """An image among the worst or the best; `picture` lies in the run folder."""

    name: str
    source: str
    picture: str
    f1: float
    true: int
    found: int
    right: int


class Precision(TypedDict):
    """Precision by recall, None where there was nothing to find."""

    all: list[float | None]
    sources: dict[str, list[float | None]]
    classes: dict[str, list[float | None]]


class Details(TypedDict):
    """What `held_out.json` holds; see `save_details`."""

    threshold: float
    iou: float
    recall_step: float
    precision: Precision
    confusion: list[list[Annotated[int, Within(0)]]]
    worst: list[Example]
    best: list[Example]


def read_details(folder: Path) -> Details:
    """Returns what `save_details` left in a run's folder.

    Raises:
        FileNotFoundError: it left nothing.
        ValueError: the file is damaged, or one of its pictures is not there.
    """
    path = folder / DETAILS
    details = read_json(path, Details)
    confusion = details["confusion"]
    if not confusion or any(len(row) != len(confusion) for row in confusion):
        raise ValueError(f"{path} is damaged: confusion has not as many columns as rows")
    for example in (*details["worst"], *details["best"]):
        if not _is_example(folder, Path(example["picture"])):
            named = example["picture"][:_SHOWN_NAME]
            raise ValueError(f"{path} names {named!r}, which is not there in {EXAMPLES}/")
    return details


def _is_example(folder: Path, picture: Path) -> bool:
    """Tells whether a picture is a file among the examples of a run's folder.

    Of another place, a link's too, any file of the reader's would come into a page that is passed
    on.
    """
    if picture.parent != Path(EXAMPLES):
        return False
    try:
        file = (folder / picture).resolve()
        return file.is_relative_to(folder.resolve()) and file.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def save_details(
    dataset: Dataset,
    found: Mapping[int, Detections],
    whole: AveragePrecision,
    sources: Mapping[str, AveragePrecision],
    threshold: float,
    folder: Path,
) -> None:
    """Leaves `held_out.json`, and pictures of the worst and the best images in `examples/`.

    Images are ranked by F1 at the threshold that they are drawn with: it counts what one sees, and
    unlike AP it says something of an image with one object, or none. See `worst_and_best` for ties.

    Args:
        dataset: of the held-out images.
        found: their detections, by image_id.
        whole: figures of all of them.
        sources: figures of each source.
        threshold: least score of what counts as found, in the matrix and on the pictures.
        folder: of the run.
    """
    matches = match_dataset(dataset, found, threshold)
    named = whole.class_precision.items()
    content = {
        "threshold": threshold,
        "iou": MATCH_IOU,
        "recall_step": RECALL_STEP,
        "precision": {
            "all": _sampled(whole.precision),
            "sources": {name: _sampled(part.precision) for name, part in sources.items()},
            "classes": {name: _sampled(curve) for name, curve in named},
        },
        "confusion": confusion_matrix(matches, len(dataset.class_names)).tolist(),
    }
    (folder / EXAMPLES).mkdir(exist_ok=True)
    for kind, ids in zip(("worst", "best"), worst_and_best(matches, _SHOWN), strict=True):
        content[kind] = _save_examples(kind, ids, dataset, found, matches, threshold, folder)
    save_json(folder / DETAILS, content)


def _sampled(precision: Float[np.ndarray, "101"]) -> list[float | None]:
    """Returns every second point, to three digits: as much as one sees of a curve."""
    return [known(round(float(value), 3)) for value in precision[:: round(RECALL_STEP * 100)]]


def _save_examples(
    kind: str,
    ids: Sequence[int],
    dataset: Dataset,
    found: Mapping[int, Detections],
    matches: Mapping[int, Matches],
    threshold: float,
    folder: Path,
) -> list[dict[str, Any]]:
    by_id = {one.image_id: one for one in dataset.annotations}
    examples = []
    for number, image_id in enumerate(ids, 1):
        one, met = by_id[image_id], matches[image_id]
        picture = held_out_picture(dataset, one, found[image_id], threshold, _LONGEST)
        place = f"{EXAMPLES}/{kind}_{number}.jpg"
        Image.fromarray(picture).save(folder / place, quality=75)
        examples.append(
            {
                "name": one.path.name,
                "source": one.source,
                "picture": place,
                "f1": met.f1,
                "true": len(met.true),
                "found": len(met.found),
                "right": met.right,
            }
        )
    return examples
