import pytest
from cfg_texts import TINY_ANCHORS, CfgText, yolov4_tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from yolo_jax.networks.cfg.architecture import read_cfg
from yolo_jax.networks.cfg.sections import KINDS, read_sections

NET = "[net]\nwidth=32\nheight=32\n"
CONV = "[convolutional]\nfilters=6\nsize=1\n"  # lines 4 to 6 behind NET
YOLO = "[yolo]\nanchors=8,8\nclasses=1\n"  # lines 7 to 9 behind both


def whole_file(more="", conv=CONV, yolo=YOLO):
    """Returns the text of a small detector; `more` begins on line 7."""
    return NET + conv + more + ("" if not more else CONV) + yolo


def read(tmp_path, text):
    path = tmp_path / "net.cfg"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_cfg(path)


def test_the_small_detector_is_read(tmp_path):
    assert read(tmp_path, whole_file()).heads == (1,)


def test_comments_spaces_and_short_names(tmp_path):
    text = (
        "\ufeff# first\r\n[network] ; of a detector\r\n w i d t h\t=\t32 # px\r\nheight=32\r\n\r\n"
        "[ conv ]\r\nfilters = 6;\r\n[max]\r\nsize=1\r\n"
        "[yolo]\r\nanchors = 8, 8,\r\nclasses = 1\r\n"
    )
    found = read(tmp_path, text)
    assert (found.input_shape, found.heads) == ((32, 32), (2,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", r"net\.cfg has no sections"),
        (b"# nothing\n\n", r"net\.cfg has no sections"),
        (b"[net]\nwidth=\xff\n", r"line 2: byte 0xff is not UTF-8"),
        (b"#" * 1_000_001, r"more than 1000000 bytes"),
        ("width=32\n[net]\n", r"line 1: width=32 stands before any section"),
        ("[net]\nwidth 32\n", r"line 2: width32 is neither \[section\] nor option=value"),
        ("[net]\nwidth=\n", r"line 2: width= is neither"),
        ("[net\n", r"line 1: \[net lacks its closing \]"),
        ("[net]\nwidth=32\nwidth=64\n", r"line 3: width is there twice .* on line 2 too"),
        (CONV, r"line 1: the first section is \[convolutional\]"),
        (NET + NET, r"line 4: there is a second \[net\]"),
        (NET + "[region]\n", r"line 4: there is no section \[region\] here, only net, conv"),
        (NET + "[yolo4]\n", r"line 4: there is no section \[yolo4\] .* did you mean yolo\?"),
        (NET + "[x\x1b[0m]\n", r"line 4: there is no section '\[x\\x1b\[0m\]'"),
    ],
)
def test_text_that_is_no_cfg_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[net]\nheight=32\n" + CONV + YOLO, r"line 1: \[net\] has no width, which it needs"),
        ("[net]\nheight=32\nwidth=-1\n", r"line 3: \[net\] width=-1; expected a whole number, 1"),
        ("[net]\nheight=9.5\nwidth=1\n", r"line 2: \[net\] height=9.5; expected a whole number"),
        (NET + "channels=1\n", r"line 4: \[net\] channels: images have the 3 of RGB"),
        ("[net]\nheight=99999\nwidth=99999\n", r"line 2: .* 99999×99999 px; 268435456 px"),
        (NET, r"line 1: \[net\] begins a network without a \[yolo\] section"),
        (NET + CONV, r"line 1: \[net\] begins a network without a \[yolo\] section"),
        (whole_file(conv="[convolutional]\nsize=1\n"), r"line 4: \[convolutional\] has no filters"),
        (whole_file(conv=CONV + "strid=2\n"), r"line 7: .* not known, 'strid'; did you mean strid"),
        (whole_file(conv=CONV + "dilation=2\n"), r"line 7: .*dilation='2' is not .*dilation=1 is"),
        (whole_file(conv=CONV + "stride_x=2\n"), r"line 7: .*stride_x='2' is not .*leave it out"),
        (whole_file(conv=CONV + "xnor=yes\n"), r"line 7: .*xnor=yes; expected a finite number"),
        (whole_file(conv=CONV + "activation=elu\n"), r"line 7: .*activation=elu; .*leaky, linear"),
        (whole_file(conv=CONV + "groups=4\n"), r"line 7: .*groups=4 divides not both its 3 input"),
        (whole_file(conv=CONV + "padding=1\n"), r"line 7: .*padding=1 has windows of size 1"),
        (whole_file(conv=CONV + "stride=0\n"), r"line 7: .*stride=0; expected a whole number, 1"),
        (whole_file("[maxpool]\nsize=40\npadding=0\n"), r"line 7: \[maxpool\] leaves no features"),
        (whole_file("[maxpool]\nsize=2\npadding=3\n"), r"line 9: .*windows of size 2 beyond"),
        (whole_file("[maxpool]\nantialiasing=1\n"), r"line 8: .*only antialiasing=0 is"),
        (whole_file("[upsample]\nstride=-2\n"), r"line 8: .*stride=-2; expected a whole number"),
        (whole_file("[upsample]\nscale=nan\n"), r"line 8: .*scale=nan; expected a finite number"),
        (whole_file("[upsample]\nstride=99999\n"), r"line 7: .*gives 3199968×3199968×6 values"),
        (whole_file("[convolutional]\nfilters=999999999\n"), r"line 7: .* kernel of more weights"),
        (
            whole_file("[max]\nstride=999999999\nsize=1\n" * 9),
            r"line 10: .*a stride of 9{8}80{8}1 px",
        ),
    ],
)
def test_sections_that_are_wrong_in_themselves_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[route]\n", r"line 7: \[route\] has no layers, which it needs"),
        ("[route]\nlayers=-1,x\n", r"line 8: .*layers=-1,x; expected whole numbers with commas"),
        ("[route]\nlayers=1\n", r"line 8: .*layer 1 takes layer 1, .* that is a cycle"),
        ("[route]\nlayers=-1,2\n", r"line 8: .*layer 1 takes layer 2, .* that is a cycle"),
        ("[route]\nlayers=-2\n", r"line 8: .*no layer -1 \(-2 of layer 1\); .* layers 0 to 3"),
        ("[route]\nlayers=9\n", r"line 8: .*there is no layer 9"),
        ("[route]\nlayers=0\ngroups=4\n", r"line 9: .*groups=4 does not divide the 6 channels"),
        ("[route]\nlayers=0\ngroups=2\ngroup_id=2\n", r"line 10: .*not among its 2 groups"),
        ("[route]\nlayers=0\ngroup_idd=2\n", r"line 9: .*did you mean group_id\?"),
        ("[upsample]\n[route]\nlayers=0,1\n", r"line 9: .*layer 0 of 32×32 and layer 1 of 64×64"),
        ("[shortcut]\nactivation=linear\n", r"line 7: \[shortcut\] has no from"),
        ("[shortcut]\nfrom=1\n", r"line 8: .*that is a cycle"),
        (
            "[convolutional]\nfilters=5\n[shortcut]\nfrom=-2\n",
            r"line 10: .*adds layer 0, 32×32×6, to the layer before it, 32×32×5",
        ),
        (
            "[shortcut]\nfrom=0\nweights_type=per_feature\n",
            r"line 9: .*weights_type='per_feature' is not supported: only weights_type=none is",
        ),
        (YOLO, r"line 10: \[convolutional\] takes layer 1, a \[yolo\], which is an end"),
        (YOLO + "[route]\nlayers=-1\n", r"line 11: \[route\] takes layer 1, a \[yolo\]"),
    ],
)
def test_layers_that_do_not_fit_each_other_are_refused(tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, whole_file(more))


@pytest.mark.parametrize(
    ("yolo", "message"),
    [
        ("[yolo]\nclasses=1\n", r"line 7: \[yolo\] has no anchors"),
        ("[yolo]\nanchors=8,8\n", r"line 7: \[yolo\] has no classes"),
        ("[yolo]\nanchors=8,8,8\nclasses=1\n", r"line 8: .*anchors has 3 numbers"),
        ("[yolo]\nanchors=8,0\nclasses=1\n", r"line 8: .*width and a height above 0"),
        (YOLO + "num=3\n", r"line 10: .*num=3, and anchors has 1"),
        (YOLO + "mask=1\n", r"line 10: .*mask names an anchor that is not among its 1"),
        (YOLO + "new_coords=1\n", r"line 10: .*only new_coords=0 is"),
        (YOLO + "jiter=.3\n", r"line 10: .*did you mean jitter\?"),
        (YOLO + "scale_x_y=x\n", r"line 10: .*scale_x_y=x; expected a finite number"),
        (
            "[yolo]\nanchors=8,8\nclasses=2\n",
            r"line 7: .* 1 anchors · \(5 \+ 2 classes\) = 7 .* gives 6: set its filters=7",
        ),
        (
            YOLO + "[route]\nlayers=0\n[convolutional]\nfilters=7\n" + YOLO.replace("es=1", "es=2"),
            r"line 16: \[yolo\] has classes=2, and the \[yolo\] on line 7 has classes=1",
        ),
    ],
)
def test_yolo_sections_that_do_not_fit_are_refused(tmp_path, yolo, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, whole_file(yolo=yolo))


def test_an_input_that_cells_do_not_fill_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has 13×13 cells of 32 px for an input of 400×400"):
        read(tmp_path, yolov4_tiny(400))


def test_a_section_that_is_missing_is_noticed_where_it_leaves_a_gap(tmp_path):
    """Without its upsampling the fine scale joins layers of two sizes."""
    text = yolov4_tiny(96).replace("[upsample]\nstride = 2\n", "")
    with pytest.raises(ValueError, match=r"line 216: .* joins layer 32 of 3×3 and layer 23 of 6×6"):
        read(tmp_path, text)


def test_more_weights_than_fit_are_refused_before_they_are_made(tmp_path):
    cfg = CfgText(32)
    for _ in range(40):
        cfg.conv(4096, 1)
    cfg.head((0,), TINY_ANCHORS, 1)
    with pytest.raises(ValueError, match=r"line 1: \[net\] begins a network of \d+ weights"):
        read(tmp_path, cfg.text)


def test_a_file_that_is_not_there_or_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_cfg(tmp_path / "none.cfg")
    with pytest.raises(ValueError, match=r"is a directory, not a \.cfg file"):
        read_cfg(tmp_path)


# No example may take longer than the deadline, in ms.
IN_ONE_FOLDER = {
    "deadline": 5000,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}
OPTIONS = [
    *("activation", "anchors", "batch_normalize", "classes", "filters", "from", "group_id"),
    *("groups", "height", "layers", "mask", "num", "pad", "padding", "scale", "scale_x_y"),
    *("size", "stride", "width", "xnor"),
]
LINES = st.one_of(
    st.sampled_from([f"[{kind}]" for kind in KINDS]),
    st.tuples(
        st.sampled_from(OPTIONS),
        st.one_of(
            st.integers(-4, 40).map(str),
            st.lists(st.integers(-4, 9), min_size=1, max_size=5).map(
                lambda x: ",".join(map(str, x))
            ),
            st.sampled_from(["leaky", "1e999", "9" * 5000, "-0", "3.", ",", "٣"]),
            st.text(max_size=6),
        ),
    ).map("=".join),
    st.text(max_size=12),
)


@settings(
    max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.one_of(st.lists(LINES, max_size=30).map("\n".join), st.binary(max_size=200)))
def test_random_text_is_read_or_refused(tmp_path, text):
    path = tmp_path / "random.cfg"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        read_sections(path)
    except ValueError as error:
        assert str(path) in str(error)
    try:
        read_cfg(path)
    except ValueError as error:
        assert str(path) in str(error)


VALUES = ["-9", "-1", "0", "1", "2", "7", "99999999", "-1,-2", "1e30", "x", "0.5"]


@settings(
    max_examples=200, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_file_with_values_changed_and_lines_lost_is_read_or_refused(tmp_path, data):
    lines = yolov4_tiny(96, 2).splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(lines) - 1))
        name, equals, _ = lines[place].partition("=")
        change = f"{name}= {data.draw(st.sampled_from(VALUES))}"
        lines[place] = data.draw(st.sampled_from(["", change if equals else ""]))
    path = tmp_path / "changed.cfg"
    path.write_text("\n".join(lines))
    try:
        read_cfg(path)
    except ValueError as error:
        assert str(path) in str(error)
