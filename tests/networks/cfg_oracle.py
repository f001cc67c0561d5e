"""Drawn `.cfg` files, and what they compute by darknet's definitions in plain NumPy.

It shares nothing with the package: text in, the weights file's floats in turn, arrays
`[channels, rows, columns]` of float64 in between.
"""

import math

import numpy as np
from cfg_texts import TINY_ANCHORS, CfgText
from numpy.lib.stride_tricks import sliding_window_view

ACTIVATIONS = {
    "leaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "linear": lambda x: x,
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "relu": lambda x: np.where(x > 0, x, 0),
    "swish": lambda x: x / (1 + np.exp(-x)),
}


def parsed(text):
    """Returns the sections as (name, options)."""
    found = []
    for line in text.replace(" ", "").split():
        if line.startswith("["):
            found.append((line[1:-1], {}))
        else:
            name, value = line.split("=")
            found[-1][1][name] = value
    return found


class Floats:
    """The floats of a weights file, taken in turn."""

    def __init__(self, values):
        self.values, self.taken = np.asarray(values, np.float64), 0

    def take(self, *shape):
        start, self.taken = self.taken, self.taken + math.prod(shape)
        return self.values[start : self.taken].reshape(shape)


def convolved(x, options, floats):
    whole = {key: int(value) for key, value in options.items() if key != "activation"}
    size, stride, groups = whole["size"], whole["stride"], whole.get("groups", 1)
    filters, normal = whole["filters"], whole.get("batch_normalize", 0)
    pad = size // 2 if whole.get("pad") else whole.get("padding", 0)
    bias = floats.take(filters)
    scale, mean, var = (floats.take(filters) for _ in range(3)) if normal else (None,) * 3
    kernel = floats.take(filters, len(x) // groups, size, size)
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(x, (size, size), (1, 2))[:, ::stride, ::stride]
    y = np.concatenate(
        [
            np.einsum("chwij,fcij->fhw", part, own)
            for part, own in zip(np.split(windows, groups), np.split(kernel, groups), strict=True)
        ]
    )
    if normal:
        y = scale[:, None, None] * (y - mean[:, None, None])
        y = y / (np.sqrt(var) + 1e-6)[:, None, None]
    return ACTIVATIONS[options["activation"]](y + bias[:, None, None])


def pooled(x, options):
    size, stride = int(options["size"]), int(options["stride"])
    padding = int(options.get("padding", size - 1))
    rows, columns = ((side + padding - size) // stride + 1 for side in x.shape[1:])
    out = np.empty((len(x), rows, columns))
    for row, column in np.ndindex(rows, columns):
        top, left = row * stride - padding // 2, column * stride - padding // 2
        window = x[:, max(0, top) : top + size, max(0, left) : left + size]
        out[:, row, column] = window.max((1, 2))
    return out


def interpreted(text, values, image):
    """Returns each [yolo]'s predictions, `[rows, columns, depth]`, in the file's order.

    Args:
        text: of a `.cfg`.
        values: the floats behind the header of its weights file.
        image: `[rows, columns, 3]`, 0–1.
    """
    floats, outputs, heads = Floats(values), [], []
    x = np.asarray(image, np.float64).transpose(2, 0, 1)
    for kind, options in parsed(text)[1:]:
        named = [int(i) for i in options.get("layers", options.get("from", "")).split(",") if i]
        taken = [outputs[i] for i in named]  # Python counts backwards as darknet does
        match kind:
            case "convolutional":
                x = convolved(x, options, floats)
            case "maxpool":
                x = pooled(x, options)
            case "upsample":
                factor = int(options["stride"])
                x = float(options.get("scale", 1)) * x.repeat(factor, 1).repeat(factor, 2)
            case "route":
                groups, part = int(options.get("groups", 1)), int(options.get("group_id", 0))
                x = np.concatenate([np.split(one, groups)[part] for one in taken])
            case "shortcut":
                x = ACTIVATIONS[options["activation"]](x + sum(taken))
            case "yolo":
                heads.append(x.transpose(1, 2, 0))
        outputs.append(x)
    assert floats.taken == len(floats.values)
    return heads


def drawn_cfg(seed, height=24, width=32, layers=12):
    """Draws a `.cfg` of layers of every kind that ends in two [yolo]."""
    rng = np.random.default_rng(seed)
    cfg = CfgText(height, width)
    cfg.conv(8, 3)
    shapes = [(8, 1)]  # channels and stride of each layer
    while len(shapes) < layers:
        channels, stride = shapes[-1]
        match rng.integers(5):
            case 0:
                step, groups = 1 + int(stride < 8 and rng.random() < 0.4), int(rng.integers(1, 3))
                groups = groups if channels % groups == 0 else 1
                size, filters = int(rng.choice([1, 3, 5])), int(rng.choice([4, 6, 8]))
                normal, name = int(rng.integers(2)), str(rng.choice(list(ACTIVATIONS)))
                cfg.conv(filters, size, step, name, groups=groups, batch_normalize=normal)
                shapes.append((filters, stride * step))
            case 1:
                step = 1 + int(stride < 8 and rng.random() < 0.4)
                cfg.add("maxpool", size=rng.integers(2, 6), stride=step)
                shapes.append((channels, stride * step))
            case 2 if stride > 1:
                cfg.add("upsample", stride=2, scale=rng.choice([1, 0.5]))
                shapes.append((channels, stride // 2))
            case 3:
                first = int(rng.integers(len(shapes)))
                like = [i for i, shape in enumerate(shapes) if shape[1] == shapes[first][1]]
                named = [first, *map(int, rng.choice(like, rng.integers(3)))]
                halves = all(shapes[i][0] % 2 == 0 for i in named) and rng.random() < 0.5
                options = {"groups": 2, "group_id": rng.integers(2)} if halves else {}
                depth = sum(shapes[i][0] for i in named) // (1 + halves)
                cfg.route(*(i if i % 2 else i - len(shapes) for i in named), **options)
                shapes.append((depth, shapes[first][1]))
            case 4:
                like = [i for i, shape in enumerate(shapes[:-1]) if shape == shapes[-1]]
                if like:
                    options = {"from": ",".join(str(i - len(shapes)) for i in like[:2])}
                    cfg.add("shortcut", **options, activation=rng.choice(list(ACTIVATIONS)))
                    shapes.append(shapes[-1])
    cfg.head((0, 2), TINY_ANCHORS, 2)
    cfg.route(int(rng.integers(layers)))
    cfg.head((1, 3, 4), TINY_ANCHORS, 2)
    return cfg.text


def drawn_floats(network, seed=0):
    """Draws the floats of a network's weights file: variances above 0, kernels by their size."""
    rng, parts = np.random.default_rng(seed), []
    for convolution in network.convolutions():
        sizes = [part.size for part in convolution.darknet_parts()]
        own = [rng.uniform(-0.5, 0.5, size) for size in sizes]
        own[-1] *= 2 * math.sqrt(sizes[0] / sizes[-1])
        if len(own) == 5:
            own[1], own[3] = rng.uniform(0.5, 1.5, sizes[1]), rng.uniform(0.5, 1.5, sizes[3])
        parts += own
    return np.concatenate(parts).astype("<f4")
