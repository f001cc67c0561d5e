"""`yolo-jax serve`."""

import argparse
from pathlib import Path
from typing import Any

from yolo_jax.cli.network import add_network, network_of
from yolo_jax.core.extras import module_of_extra
from yolo_jax.detection.nms import Suppression
from yolo_jax.serve.limits import Limits
from yolo_jax.use import load

_MB = 1_000_000


def add_parsers(commands: Any) -> None:
    """Adds the subcommand."""
    serve = commands.add_parser(
        "serve",
        help="serve a page, and an endpoint, that find objects in images",
        description="Serves a page to drop images on, and POST /detect, on this machine alone "
        "unless --host says otherwise. No image is written to a disk.",
    )
    add_network(serve)
    serve.add_argument("--port", type=int, default=8000, help="0: any (default 8000)")
    serve.add_argument(
        "--host", default="127.0.0.1",
        help="address that is listened to (default 127.0.0.1: this machine alone)",
    )  # fmt: skip
    rules = serve.add_argument_group("rules")
    rules.add_argument(
        "--conf", type=float, default=0.25, help="least score, if not asked (default 0.25)"
    )
    rules.add_argument(
        "--iou", type=float, default=0.45,
        help="overlap above which boxes are of one object, if not asked (default 0.45)",
    )  # fmt: skip
    limits = serve.add_argument_group("limits")
    limits.add_argument("--max-mb", type=int, default=10, help="of a request (default 10)")
    limits.add_argument(
        "--max-pixels", type=int, default=50_000_000, help="of an image (default 50000000)"
    )
    limits.add_argument(
        "--concurrency", type=int, default=4,
        help="requests that are worked on at once; four times as many may wait (default 4)",
    )  # fmt: skip
    serve.set_defaults(command=_serve)


def _serve(options: argparse.Namespace, _: list[str]) -> None:
    server = module_of_extra("yolo_jax.serve.server", "serve", "yolo-jax serve")
    limits = Limits(
        options.max_mb * _MB, options.max_pixels, options.concurrency, 4 * options.concurrency
    )
    suppression = Suppression(options.conf, options.iou)
    model = load(**network_of(options))
    name = Path(options.weights).resolve().name  # no other part of the path is anyone's business
    server.serve(
        model, name, host=options.host, port=options.port, limits=limits, suppression=suppression
    )
