"""The server's endpoints: images in, JSON out; and the page that uses them."""

import asyncio
import dataclasses
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from yolo_jax.core.draw import colour_of
from yolo_jax.detection.nms import Suppression
from yolo_jax.inference.found import Found
from yolo_jax.inference.records import json_of, record_of
from yolo_jax.inference.yolo import YOLO
from yolo_jax.serve.batches import Batches
from yolo_jax.serve.bodies import decode, image_of_body, read_body
from yolo_jax.serve.leftovers import ReadsLeftovers
from yolo_jax.serve.limits import Limits
from yolo_jax.serve.origins import RefusesOtherOrigins

_RETRY_S = 1
_NOTHING_ELSE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class Service:
    """Answers requests.

    Args:
        model: that looks.
        name: of it, as the page shows it.
        limits: of what a client may ask.
        suppression: what becomes of boxes that overlap, where a request does not say otherwise.
    """

    def __init__(self, model: YOLO, name: str, limits: Limits, suppression: Suppression) -> None:
        self._model, self._name, self._limits, self._how = model, name, limits, suppression
        self._batches = Batches(model, min(model.batch_size(), limits.concurrency))
        # One at a time: Pillow takes 18 to 26 bytes a pixel meanwhile, and 3 stay.
        self._decoder = ThreadPoolExecutor(1, "decoding")
        self._working = asyncio.Semaphore(limits.concurrency)
        self._inside = 0

    def app(self, hosts: Collection[str]) -> ASGIApp:
        """Compiles what is needed, and returns the application.

        Args:
            hosts: that a request may name; none: any.
        """
        self._batches.warm_up(self._how)
        here = files("yolo_jax.serve")
        page = [
            _file(path, (here / name).read_bytes(), kind)
            for path, name, kind in (
                ("/", "page.html", "text/html"),
                ("/page.css", "page.css", "text/css"),
                ("/page.js", "page.js", "text/javascript"),
            )
        ]
        routes = [
            *page,
            Route("/health", self.health),
            Route("/detect", self.detect, methods=["POST"]),
        ]
        answers = {HTTPException: _refused, ClientDisconnect: _gone, Exception: _failed}
        app = Starlette(routes=routes, exception_handlers=answers)
        return ReadsLeftovers(RefusesOtherOrigins(app, hosts))

    async def health(self, _: Request) -> Response:
        """Answers what is served, and within which limits."""
        names = self._model.class_names
        return JSONResponse(
            {
                "model": self._name,
                "input": list(self._model.detector.input_shape),
                "classes": list(names),
                "colours": [f"#{bytes(colour_of(i)).hex()}" for i in range(len(names))],
                "conf": self._how.score_threshold,
                "iou": self._how.iou_threshold,
                "limits": dataclasses.asdict(self._limits),
                "inside": self._inside,
            }
        )

    async def detect(self, request: Request) -> Response:
        """Answers what is in the image that the request's body, or a file of its form, is.

        The query's `conf` and `iou` are thresholds, 0–1. The answer is what `yolo-jax detect
        --json` writes of an image, with the thresholds in the place of its name.
        """
        how = self._asked(request.query_params)
        try:
            found = await self._look(request, how)
        except asyncio.CancelledError:  # by uvicorn, which ends and has waited for long enough
            return JSONResponse({"error": "the server ends"}, 503)
        thresholds = {"conf": how.score_threshold, "iou": how.iou_threshold}
        return JSONResponse(thresholds | json_of(record_of(found), self._model.class_names))

    async def _look(self, request: Request, how: Suppression) -> Found:
        with self._place():
            body = await read_body(request, self._limits)
            encoded = image_of_body(body, request.headers.get("content-type", ""))
            async with self._working:
                if await request.is_disconnected():
                    raise ClientDisconnect
                pixels = await asyncio.get_running_loop().run_in_executor(
                    self._decoder, decode, encoded, self._limits
                )
                return await self._batches.detect(pixels, how)

    def _asked(self, query: QueryParams) -> Suppression:
        values = {"conf": self._how.score_threshold, "iou": self._how.iou_threshold}
        for name, text in query.multi_items():
            if name not in values:
                raise HTTPException(422, f"there is no parameter {name!r:.40}; expected conf, iou")
            try:
                values[name] = float(text)
            except ValueError:
                values[name] = float("nan")
            if not 0 <= values[name] <= 1:
                raise HTTPException(422, f"{name} is {text!r:.40}; expected a number from 0 to 1")
        return dataclasses.replace(
            self._how, score_threshold=values["conf"], iou_threshold=values["iou"]
        )

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Lets a request in, or refuses it for now: what is inside takes memory."""
        if self._inside >= self._limits.concurrency + self._limits.waiting:
            raise HTTPException(
                503,
                f"{self._inside} requests are under way; try again in {_RETRY_S} s",
                {"Retry-After": str(_RETRY_S)},
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


def _file(path: str, content: bytes, kind: str) -> Route:
    async def answer(_: Request) -> Response:
        return Response(content, headers=_NOTHING_ELSE, media_type=kind)

    return Route(path, answer)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = error.detail
    if error.status_code in (404, 405):
        asked = f"{request.method} {request.url.path}"
        text = f"there is no {asked:.80}; there are GET /, GET /health and POST /detect"
    return JSONResponse({"error": text}, error.status_code, error.headers)


async def _gone(_: Request, error: Exception) -> Response:
    return Response(status_code=400)  # which nobody hears


async def _failed(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the server failed; its log says how"}, 500)
