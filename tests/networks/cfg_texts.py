"""Texts of `.cfg` files: a writer of sections, and YOLOv4 and YOLOv4-tiny written with it.

Source: Bochkovskiy et al., YOLOv4 (arXiv:2004.10934), sections 3.1 and 3.4: CSPDarknet-53, a
spatial pyramid, a path aggregation neck. Wang et al., Scaled-YOLOv4 (arXiv:2011.08036), section
3.3: CSPOSANet with half of the channels carried past. Anchors are those of the published files.
"""

V4_ANCHORS = "12,16, 19,36, 40,28, 36,75, 76,55, 72,146, 142,110, 192,243, 459,401"
TINY_ANCHORS = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"


class CfgText:
    """Writes sections; each method returns the number of the layer it adds."""

    def __init__(self, height, width=None):
        width = width or height
        self.text = f"[net]\nheight={height}\nwidth={width}\nchannels=3\nlearning_rate=0.001\n"
        self.layers = 0

    def add(self, kind, **options):
        lines = [f"{name} = {value}\n" for name, value in options.items()]
        self.text += f"\n[{kind}]\n" + "".join(lines)
        self.layers += 1
        return self.layers - 1

    def conv(self, filters, size, stride=1, activation="leaky", **options):
        shape = {"filters": filters, "size": size, "stride": stride, "pad": 1}
        options = {"batch_normalize": 1, **shape, "activation": activation, **options}
        return self.add("convolutional", **options)

    def route(self, *layers, **options):
        return self.add("route", layers=",".join(map(str, layers)), **options)

    def head(self, mask, anchors, num_classes=80, scale=None):
        """Adds an output convolution and its [yolo]."""
        outputs = len(mask) * (5 + num_classes)
        self.add("convolutional", filters=outputs, size=1, stride=1, pad=1, activation="linear")
        stretched = {} if scale is None else {"scale_x_y": scale}
        self.add(
            "yolo",
            mask=",".join(map(str, mask)),
            anchors=anchors,
            classes=num_classes,
            num=len(anchors.split(",")) // 2,
            ignore_thresh=0.7,
            **stretched,
        )

    def alternate(self, filters):
        """Adds the five convolutions of a neck, 1×1 and 3×3 in turn."""
        for _ in range(2):
            self.conv(filters, 1)
            self.conv(2 * filters, 3)
        return self.conv(filters, 1)


def _cross_stage(cfg, filters, blocks, inner, part):
    """Adds a stage of CSPDarknet-53: a part with residual blocks, a part around them."""
    down = cfg.conv(filters, 3, 2, "mish")
    around = cfg.conv(part, 1, activation="mish")
    cfg.route(down)
    cfg.conv(part, 1, activation="mish")
    for _ in range(blocks):
        cfg.conv(inner, 1, activation="mish")
        cfg.conv(part, 3, activation="mish")
        cfg.add("shortcut", **{"from": -3, "activation": "linear"})
    cfg.conv(part, 1, activation="mish")
    cfg.route(-1, around)
    return cfg.conv(filters, 1, activation="mish")


def _pyramid(cfg):
    """Adds the spatial pyramid between two runs of convolutions."""
    cfg.conv(512, 1)
    cfg.conv(1024, 3)
    top = cfg.conv(512, 1)
    pools = []
    for size in (5, 9, 13):
        if pools:
            cfg.route(top)
        pools.append(cfg.add("maxpool", stride=1, size=size))
    cfg.route(*reversed(pools), top)
    cfg.conv(512, 1)
    cfg.conv(1024, 3)
    return cfg.conv(512, 1)


def yolov4(side=608, num_classes=80):
    """Returns YOLOv4's text: its heads come fine to coarse."""
    cfg = CfgText(side)
    cfg.conv(32, 3, activation="mish")
    ends = [_cross_stage(cfg, 64, 1, 32, 64)]
    for filters, blocks in ((128, 2), (256, 8), (512, 8), (1024, 4)):
        ends.append(_cross_stage(cfg, filters, blocks, filters // 2, filters // 2))
    necks = [_pyramid(cfg)]
    for filters, end in ((256, ends[3]), (128, ends[2])):
        cfg.conv(filters, 1)
        up = cfg.add("upsample", stride=2)
        cfg.route(end)
        cfg.conv(filters, 1)
        cfg.route(-1, up)
        necks.append(cfg.alternate(filters))
    last = necks.pop()
    for index, (filters, scale) in enumerate(((128, 1.2), (256, 1.1), (512, 1.05))):
        if index:
            cfg.route(last)
            cfg.conv(filters, 3, 2)
            cfg.route(-1, necks.pop())
            last = cfg.alternate(filters)
        cfg.conv(2 * filters, 3)
        mask = range(3 * index, 3 * index + 3)
        cfg.head(mask, V4_ANCHORS, num_classes, scale)
    return cfg.text


def yolov4_tiny(side=416, num_classes=80):
    """Returns YOLOv4-tiny's text."""
    cfg = CfgText(side)
    cfg.conv(32, 3, 2)
    cfg.conv(64, 3, 2)
    merged = None
    for filters in (64, 128, 256):
        whole = cfg.conv(filters, 3)
        cfg.route(whole, groups=2, group_id=1)
        first = cfg.conv(filters // 2, 3)
        cfg.conv(filters // 2, 3)
        cfg.route(-1, first)
        merged = cfg.conv(filters, 1)
        cfg.route(whole, merged)
        cfg.add("maxpool", size=2, stride=2)
    cfg.conv(512, 3)
    middle = cfg.conv(256, 1)
    cfg.conv(512, 3)
    cfg.head((3, 4, 5), TINY_ANCHORS, num_classes, 1.05)
    cfg.route(middle)
    cfg.conv(128, 1)
    cfg.add("upsample", stride=2)
    cfg.route(-1, merged)
    cfg.conv(256, 3)
    cfg.head((1, 2, 3), TINY_ANCHORS, num_classes, 1.05)
    return cfg.text
