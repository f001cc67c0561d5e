import json

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from yolo_jax.core.anchors import TINY, TINY_DARKNET
from yolo_jax.core.boxes import box_iou_xyxy
from yolo_jax.core.types import Batch
from yolo_jax.data.images import read_image
from yolo_jax.data.letterbox import letterbox
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.nms import Suppression
from yolo_jax.inference.drawings import Drawings
from yolo_jax.inference.sources import expand
from yolo_jax.inference.yolo import YOLO
from yolo_jax.networks.darknet import load_weights
from yolo_jax.networks.pretrained import COCO_CLASSES, PretrainedUnavailable, fetch_pretrained
from yolo_jax.networks.yolov3 import TinyYOLOv3
from yolo_jax.use.detecting import Outputs, detect_sources
from yolo_jax.use.opening import load

# What darknet scores this much is found within so many pixels, and so much of its score.
GOLDEN_THRESHOLD, GOLDEN_PIXELS, GOLDEN_SCORE = 0.05, 1.0, 0.003


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
        official,
        TINY_DARKNET,
        COCO_CLASSES,
        (416, 416),
        resize="darknet",
        suppression=Suppression(0.005),
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
    sure = [detection for detection in expected if detection["score"] >= GOLDEN_THRESHOLD]
    pixels, score = deviations(sure, found, shape).max(axis=0)
    record_property("largest deviation", f"{pixels} px, {score}")
    print(f"{name}: {len(sure)} detections, {pixels:.2g} px, {score:.2g}")
    assert pixels <= GOLDEN_PIXELS
    assert score <= GOLDEN_SCORE
    # Nothing besides: as many as darknet's, give or take those on the threshold itself.
    assert (found.scores >= GOLDEN_THRESHOLD + GOLDEN_SCORE).sum() <= len(sure)
    assert (np.diff(found.scores) <= 0).all()


@pytest.fixture(scope="module")
def untrained():
    return TinyYOLOv3(3, rngs=nnx.Rngs(1))


NAMES = ("ash", "birch", "cedar")


def detector(network, **options):
    return Detector(network, TINY, NAMES, (64, 96), suppression=Suppression(0.2), **options)


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


@pytest.fixture(scope="module")
def forest(tmp_path_factory, untrained):
    """Returns a weights file, and what detects by it."""
    return YOLO(detector(untrained))


def detect(model, sources, places, **options):
    listed = expand(map(str, sources))
    places.prepare(listed)
    detect_sources(model, listed, places, suppression=Suppression(0.2), **options)


def save(path, image):
    Image.fromarray(image).save(path)
    return path


def test_what_is_written(tmp_path, forest, capsys):
    paths = [save(tmp_path / name, noise((40, 60))[0]) for name in ("a.png", "b.photo.png")]
    out = tmp_path / "out"
    places = Outputs(out, out / "found.json", out / "found.csv", out / "coco.json", out / "labels")
    detect(forest, paths, places)
    assert sorted(path.name for path in out.iterdir()) == [
        "a.png", "b.photo.png", "coco.json", "found.csv", "found.json", "labels",
    ]  # fmt: skip
    first, second = forest.detect([str(path) for path in paths], conf=0.2)
    np.testing.assert_array_equal(read_image(out / "a.png"), first.plot())
    entries = json.loads((out / "found.json").read_text())
    assert [entry["image"] for entry in entries] == [str(path) for path in paths]
    assert [len(entry["detections"]) for entry in entries] == [len(first), len(second)]
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{found.name}: {found.text()}" for found in (first, second)]


def test_a_video_is_drawn_frame_by_frame(tmp_path, forest):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12, (96, 64))
    images = noise(*[(64, 96)] * 5)
    for image in images:
        writer.write(image)
    writer.release()
    still = save(tmp_path / "still.png", images[0])
    places = Outputs(tmp_path / "out", tmp_path / "found.json", labels=tmp_path / "labels")
    detect(forest, [path, still], places, batch_size=2)
    drawn = cv2.VideoCapture(str(tmp_path / "out" / "clip.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert drawn.get(cv2.CAP_PROP_FPS) == 12
    assert (tmp_path / "out" / "still.png").is_file()
    entries = json.loads((tmp_path / "found.json").read_text())
    assert [entry.get("frame") for entry in entries] == [0, 1, 2, 3, 4, None]
    assert len(list((tmp_path / "labels").iterdir())) == 6


def test_what_was_found_before_an_interrupt_is_kept(tmp_path, forest, monkeypatch):
    def interrupted(self, found):
        raise KeyboardInterrupt

    paths = [save(tmp_path / f"{n}.png", noise((40, 60))[0]) for n in range(3)]
    monkeypatch.setattr(Drawings, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        detect(forest, paths, Outputs(tmp_path / "out", tmp_path / "found.json"), batch_size=1)
    assert len(json.loads((tmp_path / "found.json").read_text())) == 1


def test_an_image_that_cannot_be_read_costs_the_others_nothing(forest, tmp_path, capsys):
    good, bad = save(tmp_path / "good.png", noise((40, 60))[0]), tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    found = tmp_path / "found.json"
    message = rf"{bad} is not an image of a known format\nthere is no file gone.jpg"
    with pytest.raises(ValueError, match=message):
        detect(forest, [bad, good, "gone.jpg"], Outputs(tmp_path / "out", found))
    assert [entry["image"] for entry in json.loads(found.read_text())] == [str(good)]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]
    assert str(good) in capsys.readouterr().out


def test_images_of_any_kind_are_taken(tmp_path, forest):
    (image,) = noise((40, 60))
    path = save(tmp_path / "a.png", image)
    several = [path, str(path), Image.open(path), image, jnp.asarray(image)]
    found = forest.detect(several, conf=0.2)
    assert [one.name for one in found] == [*[str(path)] * 3, "image 3", "image 4"]
    for one in (*found, *forest.detect(image, conf=0.2), *forest.detect(image[None], conf=0.2)):
        np.testing.assert_allclose(one.boxes, found[0].boxes, atol=1e-3)  # of other batch sizes
        np.testing.assert_array_equal(one.pixels, image)
    assert len(found[0]) > 0
    assert found[0].names == [NAMES[index] for index in found[0].classes]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"image 0 is uint8\[4, 4\]; expected a path"),
        (np.zeros((4, 4, 3)), r"image 0 is float64\[4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), r"image 0 is uint8\[0, 4, 3\]"),
        (np.zeros((4, 4, 4), np.uint8), r"image 0 is uint8\[4, 4, 4\]"),
        (None, "image 0 is None"),
        ([0] * 1000, r"image 0 is \[0, 0, .{,60}; expected"),
        ("clip.mp4", r"clip.mp4 is a video or a camera: look at its frames by model.stream"),
        ("0", "0 is a video or a camera"),
    ],
)
def test_what_is_no_image_is_refused(forest, image, message):
    with pytest.raises(ValueError, match=message):
        forest.detect([image])


def test_what_is_no_image_alone_is_refused_too(forest):
    with pytest.raises(ValueError, match=r"image 0 is uint8\[4, 4\]"):
        forest.detect(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="image 0 is None"):
        forest.detect(None)


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_batches_of_no_size_are_refused(forest, size):
    with pytest.raises(ValueError, match=f"batch_size is a whole number, 1 or more; found {size}"):
        forest.detect(noise((40, 60)), batch_size=size)


def test_other_thresholds_compile_nothing(untrained):
    model, images = YOLO(detector(untrained)), noise((40, 60))
    counts = [len(model.detect(images, conf=conf)[0]) for conf in (0.2, 0.3, 0.5)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]
    assert model.detector._run._cache_size() == 1


def test_three_views_find_the_dog_too(official, pictures):
    model = YOLO(Detector(official, TINY, COCO_CLASSES, (416, 416)))
    (plain,) = model.detect(pictures["dog"])
    for kind in ("greedy", "fusion"):
        (found,) = model.detect(pictures["dog"], augment=True, suppression=kind)
        for name in ("dog", "car"):
            best, other = (one.boxes[one.names.index(name)] for one in (plain, found))
            assert box_iou_xyxy(best, other) > 0.6


def test_weights_that_are_not_there():
    with pytest.raises(FileNotFoundError, match="no run folder or weights file gone.weights"):
        load("gone.weights")
