import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from yolo_jax.core.anchors import TINY, TINY_DARKNET
from yolo_jax.core.types import Batch, Detections
from yolo_jax.data.images import read_image
from yolo_jax.data.letterbox import letterbox
from yolo_jax.detection.detector import Detector
from yolo_jax.inference.detect import drawn, write_images, write_json
from yolo_jax.networks.darknet import load_weights
from yolo_jax.networks.pretrained import COCO_CLASSES, PretrainedUnavailable, fetch_pretrained
from yolo_jax.networks.yolov3 import TinyYOLOv3
from yolo_jax.use import detect_files

GOLDEN_PIXELS, GOLDEN_SCORE = 1.0, 0.005


@pytest.fixture(scope="module")
def official():
    """Returns the network with the official COCO weights."""
    try:
        path = fetch_pretrained()
    except PretrainedUnavailable as error:
        pytest.skip(str(error))
    network = TinyYOLOv3(80, rngs=nnx.Rngs(0))
    load_weights(path, network)
    return network


@pytest.fixture(scope="module")
def pictures(golden):
    return {name: read_image(golden / f"{name}.jpg") for name in ("dog", "person")}


@pytest.fixture(scope="module")
def darknets(official, pictures):
    """Returns what is found with darknet's own letterbox, anchors and thresholds."""
    detector = Detector(
        official, TINY_DARKNET, COCO_CLASSES, (416, 416), darknet=True, score_threshold=0.005
    )
    found = detector.detect(list(pictures.values()))
    return dict(zip(pictures, found, strict=True))


def deviations(expected, found, shape):
    """Returns for each expected detection how far the nearest of its class is: px, score.

    Darknet counts pixels from 1 and cuts boxes at 1 and at the picture's width and height.
    """
    limits = [shape[1], shape[0]] * 2
    boxes = np.clip(np.asarray(found.boxes, np.float64) + 1, 1, limits)
    rows = []
    for detection in expected:
        same = np.flatnonzero(found.classes == COCO_CLASSES.index(detection["cls"]))
        assert len(same), f"nothing of {detection}"
        pixels = np.abs(boxes[same] - detection["box"]).max(axis=1)
        nearest = pixels.argmin()
        rows.append((pixels[nearest], abs(found.scores[same[nearest]] - detection["score"])))
    return np.asarray(rows)


@pytest.mark.parametrize("name", ["dog", "person"])
def test_finds_what_darknet_finds(golden, darknets, pictures, name, record_property):
    text = (golden / f"darknet_yolov3_tiny_{name}.json").read_text()
    expected = json.loads(text)["detections"]
    found, shape = darknets[name], pictures[name].shape
    for threshold in (0.1, 0.05):
        sure = [detection for detection in expected if detection["score"] >= threshold]
        pixels, score = deviations(sure, found, shape).max(axis=0)
        record_property(f"largest deviation from score {threshold}", f"{pixels} px, {score}")
        print(f"{name}, score ≥ {threshold}: {len(sure)} detections, {pixels:.2g} px, {score:.2g}")
        if threshold == 0.1:
            assert pixels <= GOLDEN_PIXELS
            assert score <= GOLDEN_SCORE
            # Nothing besides: as many as darknet's, give or take those on the threshold itself.
            assert (found.scores >= threshold + GOLDEN_SCORE).sum() <= len(sure)
    assert (np.diff(found.scores) <= 0).all()


@pytest.fixture(scope="module")
def untrained():
    return TinyYOLOv3(3, rngs=nnx.Rngs(1))


NAMES = ("ash", "birch", "cedar")


def detector(network, **options):
    return Detector(network, TINY, NAMES, (64, 96), score_threshold=0.2, **options)


def noise(*shapes):
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]


def test_boxes_are_the_originals_and_padding_is_gone(untrained):
    for image, found in zip(
        images := noise((50, 200), (200, 50), (64, 96)),
        detector(untrained).detect(images),
        strict=True,
    ):
        height, width = image.shape[:2]
        assert len(found.scores) == len(found.boxes) == len(found.classes) > 0
        assert (found.classes >= 0).all()
        assert (found.scores > 0.2).all()
        assert (np.diff(found.scores) <= 0).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes <= [width, height, width, height]).all()
        assert found.boxes[:, 2].max() > width / 2


def test_the_batch_size_changes_nothing_and_the_last_batch_compiles_nothing(untrained):
    images = noise((60, 90), (64, 96), (30, 30), (90, 60), (64, 64))
    detect = detector(untrained)
    whole = detect.detect(images)
    # One shape for the five at once, one for two at a time: the last, of one, is filled up.
    parted = detect.detect(images, batch_size=2)
    assert detect._run._cache_size() == 2
    for one, other in zip(whole, parted, strict=True):
        np.testing.assert_array_equal(one.classes, other.classes)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_no_images():
    assert detector(TinyYOLOv3(3, rngs=nnx.Rngs(1))).detect([]) == []


def test_batches_of_a_loader_give_what_images_give(untrained):
    images = noise((50, 200), (200, 50))
    detect = detector(untrained)
    batch = Batch(
        image=np.stack([letterbox(image, (64, 96))[0] for image in images] * 2),
        boxes=np.zeros((4, 1, 4), np.float32),
        classes=np.full((4, 1), -1, np.int32),
        image_id=np.asarray([7, 3, -1, -1], np.int32),
        original_size=np.asarray([(50, 200), (200, 50), (0, 0), (0, 0)], np.int32),
    )
    found = detect.detect_batches(iter([batch]))
    assert set(found) == {7, 3}
    for one, other in zip([found[7], found[3]], detect.detect(images), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), one, other)


def test_what_is_written(tmp_path):
    image = np.zeros((40, 60, 3), np.uint8)
    found = Detections(
        np.asarray([[1.5, 2, 30, 35]], np.float32), np.asarray([0.75]), np.asarray([2])
    )
    none = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    names, detections = ["a.png", "b.png"], [found, none]
    write_json(tmp_path / "out" / "found.json", names, detections, NAMES)
    assert json.loads((tmp_path / "out" / "found.json").read_text()) == [
        {
            "image": "a.png",
            "detections": [{"class": "cedar", "score": 0.75, "box": [1.5, 2, 30, 35]}],
        },
        {"image": "b.png", "detections": []},
    ]
    write_images(tmp_path / "pictures", [Path(n) for n in names], [image, image], detections, NAMES)
    with Image.open(tmp_path / "pictures" / "a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), drawn(image, found, NAMES))
    with Image.open(tmp_path / "pictures" / "b.png") as picture:
        assert not np.asarray(picture).any()


def detect(weights, paths, **changes):
    options = {"out": None, "json_file": None, "score_threshold": 0.25, "iou_threshold": 0.45}
    detect_files(weights, paths, **(options | {"darknet": False} | changes))


def test_an_image_is_not_drawn_over_itself(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"the only copy")
    with pytest.raises(ValueError, match="would draw over .*photo.jpg itself"):
        detect("yolov3-tiny", [path], out=tmp_path)
    assert path.read_bytes() == b"the only copy"


def test_results_places_that_cannot_be_are_said_before_the_work(tmp_path):
    photo, file = tmp_path / "photo.png", tmp_path / "file"
    Image.fromarray(noise((40, 60))[0]).save(photo)
    file.write_text("")
    for options in ({"out": file}, {"json_file": tmp_path}, {"json_file": file / "found.json"}):
        # There are no such weights: were they opened first, the error would be about them.
        with pytest.raises(OSError, match="file|folder"):
            detect("no.weights", [photo], **options)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_thresholds_outside_0_to_1_are_refused(untrained, threshold):
    for name, words in (("score_threshold", "score"), ("iou_threshold", "IoU")):
        with pytest.raises(
            ValueError, match=f"the {words} threshold is .* 0 to 1; found {threshold}"
        ):
            Detector(untrained, TINY, NAMES, (64, 96), **{name: threshold})


def test_an_image_of_an_odd_name_is_drawn_as_png(tmp_path):
    image = noise((40, 60))[0]
    none = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    paths = [tmp_path / name for name in ("a.photo", "b", "c.JPG")]
    write_images(tmp_path / "out", paths, [image] * 3, [none] * 3, NAMES)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.photo.png", "b.png", "c.JPG",
    ]  # fmt: skip


def test_an_image_that_cannot_be_read_costs_the_others_nothing(official, tmp_path, capsys):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(noise((40, 60))[0]).save(good)
    bad.write_bytes(b"no image")
    found = tmp_path / "found.json"
    message = rf"{bad} is not an image of a known format\nthere is no image gone.jpg"
    with pytest.raises(ValueError, match=message):
        detect("yolov3-tiny", [bad, good, Path("gone.jpg")], json_file=found, out=tmp_path / "out")
    assert [entry["image"] for entry in json.loads(found.read_text())] == [str(good)]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]
    assert str(good) in capsys.readouterr().out
