"""Which options of a section are read, which are of training alone, and which are refused."""

from yolo_jax.networks.cfg.sections import Section, nearest

# What decides about the network, by kind of section.
_READ = {
    "convolutional": "activation batch_normalize filters groups pad padding size stride",
    "maxpool": "padding size stride",
    "route": "group_id groups layers",
    "shortcut": "activation from",
    "upsample": "scale stride",
    "yolo": "anchors classes mask num scale_x_y",
}
# What only training, drawing or the choice among boxes looks at.
_PASSED = {
    "": "burnin_update clip dont_update dynamic_minibatch learning_rate onlyforward smooth "
    "stopbackward train_only_bn",
    "route": "stream wait_stream",
    "yolo": "beta_nms cls_normalizer counters_per_class delta_normalizer focal_loss ignore_thresh "
    "iou_loss iou_normalizer iou_thresh iou_thresh_kind jitter label_smooth_eps max max_delta "
    "nms_kind obj_normalizer objectness_smooth random resize show_details truth_thresh "
    "uc_normalizer",
}
# What would change what the network computes, or the order of its weights file, unless it is this.
_ONLY: dict[str, dict[str, float | str | None]] = {
    "": {"dontload": 0, "dontloadscales": 0, "numload": None},
    "convolutional": {
        "antialiasing": 0,
        "assisted_excitation": 0,
        "binary": 0,
        "bin_output": 0,
        "cbn": 0,
        "deform": 0,
        "dilation": 1,
        "flipped": 0,
        "rotate": 0,
        "share_index": None,
        "stretch": 0,
        "stretch_sway": 0,
        "stride_x": None,
        "stride_y": None,
        "sway": 0,
        "xnor": 0,
    },
    "maxpool": {
        "antialiasing": 0,
        "maxpool_depth": 0,
        "maxpool_zero_nonmax": 0,
        "stride_x": None,
        "stride_y": None,
    },
    "shortcut": {"alpha": 1, "beta": 1, "weights_type": "none"},
    "yolo": {"embedding_layer": None, "map": None, "new_coords": 0},
}


def check_options(section: Section) -> None:
    """Looks at the names of a layer's options; [net]'s are not a layer's.

    Raises:
        ValueError: one is not known, or its value is not supported; the message names the line.
    """
    read = set(_READ[section.kind].split())
    passed = {name for kind in ("", section.kind) for name in _PASSED.get(kind, "").split()}
    only = _ONLY[""] | _ONLY.get(section.kind, {})
    for name, (text, _) in section.options.items():
        if name in read | passed:
            continue
        if name not in only:
            raise section.fault(
                f"has an option that is not known, {name[:60]!r}"
                f"{nearest(name, read | passed | only.keys())}",
                name,
            )
        value = only[name]
        same = text == value if isinstance(value, str) else section.number(name) == value
        if value is None or not same:
            allowed = "leave it out" if value is None else f"only {name}={value} is"
            raise section.fault(f"{name}={text[:60]!r} is not supported: {allowed}", name)
