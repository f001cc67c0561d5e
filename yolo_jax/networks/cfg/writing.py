"""Darknet's `.cfg` files written for YOLOv3, with spatial pyramid pooling or not, and for tiny.

Layers stand in the order of darknet's own yolov3.cfg, yolov3-spp.cfg and yolov3-tiny.cfg, which is
that of the weights file.
"""

from yolo_jax.core.anchors import AnchorSet
from yolo_jax.networks.bodies import Darknet53, TinyBody
from yolo_jax.networks.yolov3 import Network, TinyYOLOv3, YOLOv3, YOLOv3SPP

_WRITTEN = (TinyYOLOv3, YOLOv3, YOLOv3SPP)


def cfg_text(network: Network, anchors: AnchorSet, input_shape: tuple[int, int]) -> str:
    """Returns the `.cfg` file of a network, with which darknet reads its weights file.

    Args:
        network: of which the kind and the number of classes count.
        anchors: of the network.
        input_shape: (height, width) of the input, px.

    Raises:
        ValueError: the network is of another class, whose layers are not written here.
    """
    if type(network) not in _WRITTEN:
        known = ", ".join(kind.__name__ for kind in _WRITTEN)
        raise ValueError(
            f"Darknet's .cfg is written of {known}; found a {type(network).__name__}, whose layers "
            f"{__name__} does not know"
        )
    cfg = _Cfg(network, anchors, input_shape)
    if isinstance(network, YOLOv3):
        _yolov3(cfg, pyramid=isinstance(network, YOLOv3SPP))
    else:
        _tiny(cfg)
    return "\n".join(cfg.sections)


class _Cfg:
    """The sections so far; what adds a layer returns its number, by which routes name it."""

    def __init__(self, network: Network, anchors: AnchorSet, shape: tuple[int, int]) -> None:
        self._num_classes, self._anchors = network.num_classes, anchors
        self.sections: list[str] = []
        self.add("net", batch=1, subdivisions=1, width=shape[1], height=shape[0], channels=3)

    def add(self, kind: str, **options: object) -> int:
        lines = [f"{name}={value}\n" for name, value in options.items()]
        self.sections.append(f"[{kind}]\n{''.join(lines)}")
        return len(self.sections) - 2  # [net] is none

    def convolution(self, filters: int, size: int, stride: int = 1) -> int:
        return self.add(
            "convolutional",
            batch_normalize=1, filters=filters, size=size, stride=stride, pad=1, activation="leaky",
        )  # fmt: skip

    def route(self, *layers: int) -> int:
        return self.add("route", layers=",".join(map(str, layers)))

    def finer(self, features: int, filters: int, joined: int) -> None:
        """Adds what takes a scale's features to the next finer one, and joins those there."""
        self.route(features)
        self.convolution(filters, 1)
        self.add("upsample", stride=2)
        self.route(-1, joined)

    def head(self, scale: int) -> None:
        """Adds a scale's output and its [yolo]."""
        mask, sizes = self._anchors.masks[scale], self._anchors.sizes
        filters = len(mask) * (5 + self._num_classes)
        self.add("convolutional", filters=filters, size=1, stride=1, pad=1, activation="linear")
        stretch = self._anchors.xy_scale(scale)
        self.add(
            "yolo",
            mask=",".join(map(str, mask)),
            anchors=", ".join(",".join(_number(side) for side in pair) for pair in sizes),
            classes=self._num_classes,
            num=len(sizes),
            **({} if stretch == 1 else {"scale_x_y": stretch}),
        )


def _number(value: float) -> str:
    return str(float(value)).removesuffix(".0")


def _yolov3(cfg: _Cfg, *, pyramid: bool) -> None:
    cfg.convolution(32, 3)
    ends = []
    for stage, count in enumerate(Darknet53.stage_blocks):
        filters = 64 * 2**stage
        end = cfg.convolution(filters, 3, stride=2)
        for _ in range(count):
            cfg.convolution(filters // 2, 1)
            cfg.convolution(filters, 3)
            end = cfg.add("shortcut", activation="linear", **{"from": -3})
        ends.append(end)
    *_, fine, medium, _ = ends
    features = _neck(cfg, 512, pyramid=pyramid)
    cfg.head(0)
    for scale, (filters, joined) in enumerate(((256, medium), (128, fine)), 1):
        cfg.finer(features, filters, joined)
        features = _neck(cfg, filters, pyramid=False)
        cfg.head(scale)


def _neck(cfg: _Cfg, filters: int, *, pyramid: bool) -> int:
    """Adds a scale's six convolutions; returns the fifth, whose features the finer scale takes."""
    cfg.convolution(filters, 1)
    cfg.convolution(2 * filters, 3)
    features = cfg.convolution(filters, 1)
    if pyramid:
        pooled = []
        for size in (5, 9, 13):
            if pooled:
                cfg.route(features)
            pooled.append(cfg.add("maxpool", size=size, stride=1))
        cfg.route(*reversed(pooled), features)
        cfg.convolution(filters, 1)
    cfg.convolution(2 * filters, 3)
    features = cfg.convolution(filters, 1)
    cfg.convolution(2 * filters, 3)
    return features


def _tiny(cfg: _Cfg) -> None:
    fine = 0
    for index, filters in enumerate(TinyBody.filters):
        convolution = cfg.convolution(filters, 3)
        if index == 4:
            fine = convolution
        if index < 6:
            cfg.add("maxpool", size=2, stride=2 if index < 5 else 1)
    features = cfg.convolution(256, 1)
    cfg.convolution(512, 3)
    cfg.head(0)
    cfg.finer(features, 128, fine)
    cfg.convolution(256, 3)
    cfg.head(1)
