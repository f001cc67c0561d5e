"""Parsers fed with what is almost a valid file, and with what is none; and what they failed at."""

import io
import json
import resource
import time
import zipfile

import data_targets
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import TOKENS, mutated
from places import picture
from targets import TARGETS

from yolo_jax.data.readers.voc import read_voc
from yolo_jax.data.readers.yolo import read_yolo

MOST_MEMORY = 2**30
EXAMPLES = 100
# Those that take tens of ms an input; `python tests/fuzz` feeds them for longer.
SLOW = {"checkpoint_own": 8, "checkpoint_arrays": 8, "checkpoint_progress": 8, "overrides": 8}
ENTITIES = b"""<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a0 "aaaaaaaaaa">%s]>
<annotation><filename>&a9;</filename><object><name>%s</name></object></annotation>"""
LAUGHS = b"".join(b'<!ENTITY a%d "%s">' % (i, b"&a%d;" % (i - 1) * 10) for i in range(1, 10))
YAML_LAUGHS = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))


def npz(compression=zipfile.ZIP_STORED, **changes):
    """Returns the columns of a packed data set, some of them changed."""
    file = io.BytesIO()
    with (
        np.load(io.BytesIO(TARGETS["columns"].seeds()[0])) as columns,
        zipfile.ZipFile(file, "w", compression) as members,
    ):
        for name in columns.files:
            with members.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, changes.get(name, columns[name]))
    return file.getvalue()


def with_fields(name, **fields):
    """Returns the valid JSON of a target, some of its fields changed."""
    return json.dumps(json.loads(TARGETS[name].seeds()[0]) | fields).encode()


@pytest.mark.parametrize("name", TARGETS)
def test_a_file_that_is_almost_valid_is_read_or_refused(name):
    target = TARGETS[name]
    seeds = target.seeds()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(
        max_examples=SLOW.get(name, EXAMPLES), deadline=5000, database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    @given(st.sampled_from(seeds), st.randoms())
    def feed(seed, draw):
        target.read(mutated(seed, draw, seeds))

    for seed in seeds:
        target.read(seed)
    feed()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_MEMORY


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in SLOW])
def test_a_file_of_something_else_is_refused(name):
    target = TARGETS[name]
    target.seeds()

    @settings(max_examples=30, deadline=5000, database=None)
    @given(st.one_of(st.binary(max_size=200), st.text().map(lambda text: text.encode()),
                     st.sampled_from(TOKENS)))  # fmt: skip
    def feed(data):
        target.read(data)

    feed()


DEEP = b"[" * 5000 + b"]" * 5000
LONG, HUGE = "a" * 5000, int("9" * 400)
FILE = {"name": "a", "size": 1, "sha256": "0", "images": 1}
OWN = '{"item_handlers": {}, "metrics": {}, "commit_timestamp_nsecs": %s}'
# What parsers failed at once: the target, and what makes the file.
FOUND = {
    "an area of 400 digits": ("coco", lambda: data_targets.COCO.replace(b" 80", b" %d" % HUGE)),
    "a width of 33 bits": ("coco", lambda: data_targets.COCO.replace(b" 16", b" 4294967296")),
    "a DOCTYPE": ("voc", lambda: ENTITIES % (LAUGHS, b"&a9;")),
    "a path too long": ("data_yaml", lambda: f"train: {LONG}\nnames: [a]".encode()),
    "a folder too long": ("data_yaml", lambda: f"path: {LONG}\ntrain: a\nnames: [a]".encode()),
    "a NUL in a path above": ("data_yaml", lambda: b'train: "../a\\0"\nnames: [a]'),
    "an alias": ("data_yaml", lambda: YAML_LAUGHS.encode()),
    "lists within lists": ("data_yaml", lambda: b"names: " + b"[" * 20_000),
    "half a megabyte": ("data_yaml", lambda: b"train: images\nnames:\n" + b"- a\n" * 150_000),
    "a name too long": (
        "manifest",
        lambda: with_fields("manifest", annotations=FILE | {"name": LONG}),
    ),
    "5000 digits": (
        "manifest",
        lambda: with_fields("manifest", images=1)[:-1] + b',"a":' + b"9" * 5000 + b"}",
    ),
    "a class that is a number": ("manifest", lambda: with_fields("manifest", class_names=[1, 2])),
    "a shard of -1 images": (
        "manifest",
        lambda: with_fields("manifest", shards=[FILE | {"images": -1}]),
    ),
    "compressed columns": ("columns", lambda: npz(zipfile.ZIP_DEFLATED)),
    "a zip of a later version": (
        "columns",
        lambda: npz().replace(b"PK\1\2\x14\3\x14", b"PK\1\2\x14\3\x6d"),
    ),
    "an array alone": ("columns", lambda: npz()[npz().index(b"\x93NUMPY") :]),
    "boxes of NaN": ("columns", lambda: npz(boxes=np.full((3, 4), np.nan, np.float32))),
    "boxes that begin behind their end": ("columns", lambda: npz(starts=np.asarray([0, 5, 3]))),
    "an id twice": ("columns", lambda: npz(image_id=np.asarray([7, 7], np.int32))),
    "a size of 0": ("columns", lambda: npz(size=np.zeros((2, 2), np.int32))),
    "ids of 64 bits": ("columns", lambda: npz(image_id=np.asarray([7, 8]))),
    "a class below 0": ("columns", lambda: npz(classes=np.full(3, -1, np.int32))),
    "a picture's name too long": (
        "held_out_json",
        lambda: with_fields("held_out_json", worst=[picture_of(LONG)]),
    ),
    "a NUL in a picture's name": (
        "held_out_json",
        lambda: with_fields("held_out_json", worst=[picture_of("a\0")]),
    ),
    "epochs of 400 digits": ("changes", lambda: b'{"epochs": %d}' % HUGE),
    "a length of 5000 digits": ("request", lambda: b"\n\n" + b"9" * 5000 + b"\n"),
    "checksums within lists": ("checksums", lambda: DEEP),
    "a format of infinity": ("checksums", lambda: with_fields("checksums", format=float("inf"))),
    "names of files that are numbers": (
        "checksums",
        lambda: with_fields("checksums", files=[[1, 2], ["a", 3]]),
    ),
    "arrays' metadata within lists": ("checkpoint_arrays", lambda: DEEP),
    "progress within lists": ("checkpoint_progress", lambda: DEEP),
    "progress that is a number": ("checkpoint_progress", lambda: b"1"),
    "a time of lists": ("checkpoint_own", lambda: (OWN % "[1]").encode()),
    "a time within lists": ("checkpoint_own", lambda: (OWN % DEEP.decode()).encode()),
    "a time of 30 digits": ("checkpoint_own", lambda: (OWN % ("9" * 30)).encode()),
}


def picture_of(name):
    """Returns an example of a run's details."""
    details = json.loads(TARGETS["held_out_json"].seeds()[0])
    return details["worst"][0] | {"picture": f"examples/{name}"}


@pytest.mark.parametrize("case", FOUND)
def test_what_parsers_failed_at_once_is_read_or_refused(case):
    name, make = FOUND[case]
    TARGETS[name].seeds()
    TARGETS[name].read(make())


def test_a_name_that_is_none_is_not_likened_for_long():
    start = time.process_time()
    TARGETS["changes"].read(json.dumps({LONG * 20: 1}).encode())
    assert time.process_time() - start < 1


def test_a_number_of_many_digits_is_read_once():
    start = time.process_time()
    text = data_targets.CFG.replace(b"anchors=4", b"anchors=" + b"9" * 500_000 + b"x")
    TARGETS["cfg"].read(text)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "text",
    [
        ENTITIES % (LAUGHS, b"&a9;"),
        ENTITIES % (b'<!ENTITY x SYSTEM "secret.txt">', b"&x;"),
        ENTITIES % (b'<!ENTITY % x SYSTEM "secret.txt"> %x;', b"ash"),
        b'<!DOCTYPE annotation SYSTEM "secret.txt">' + data_targets.VOC.partition(b"?>\n")[2],
    ],
    ids=["billion laughs", "external entity", "parameter entity", "external subset"],
)
def test_no_entity_of_xml_is_expanded(tmp_path, text):
    (tmp_path / "a.png").write_bytes(picture("PNG"))
    (tmp_path / "secret.txt").write_text("<name>ash</name>")
    (tmp_path / "a.xml").write_bytes(text)
    with pytest.raises(ValueError, match="no usable image, of 1"):
        read_voc(tmp_path)
    with pytest.raises(ValueError, match=r"a\.xml.*it has a DOCTYPE \(annotation\).*take it out"):
        read_voc(tmp_path, strict=True)


def test_an_alias_of_yaml_is_refused_by_its_line(tmp_path):
    (tmp_path / "data.yaml").write_text("a: &x [1]\nnames: *x\n")
    with pytest.raises(
        ValueError, match=r"data\.yaml is not YAML: line 2 has the alias \*x; write"
    ):
        read_yolo(tmp_path)
