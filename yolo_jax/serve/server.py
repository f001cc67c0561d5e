"""The server: a socket, uvicorn, and an end to connections on which nothing comes."""

import asyncio
import socket
from contextlib import closing

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from yolo_jax.detection.nms import Suppression
from yolo_jax.inference.yolo import YOLO
from yolo_jax.serve.api import Service
from yolo_jax.serve.limits import Limits
from yolo_jax.serve.origins import names_of

_SHUTDOWN_S = 5  # that requests under way may still take
_ANY = ("0.0.0.0", "::")


def serve(
    model: YOLO, name: str, *, host: str, port: int, limits: Limits, suppression: Suppression
) -> None:
    """Serves a network until a signal ends it, which is raised again then.

    The port opens, and the address is printed, when everything is compiled.

    Args:
        model: that looks.
        name: of it, as the page shows it.
        host: address that is listened to.
        port: 0 for any that is free.
        limits: of what a client may ask.
        suppression: what becomes of boxes that overlap, where a request does not say otherwise.

    Raises:
        ValueError: the address cannot be had.
    """
    with closing(_bound(host, port)) as listening:
        place, number = listening.getsockname()[:2]
        config = uvicorn.Config(
            Service(model, name, limits, suppression).app(names_of(place)),
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=limits.seconds,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
        listening.listen()  # what comes between this and the loop's start waits
        shown = f"[{place}]" if ":" in place else place
        reach = "; everyone on the network can use it" if place in _ANY else ""
        print(f"serving {name} at http://{shown}:{number}{reach} (Ctrl-C ends it)", flush=True)
        uvicorn.Server(config).run([listening])


def _bound(host: str, port: int) -> socket.socket:
    """Returns a socket that has the address, and does not listen yet."""
    if not 0 <= port < 1 << 16:
        raise ValueError(f"a port is a number from 0 to 65535; found {port}")
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ValueError(
            f"port {port} of {host} cannot be had: {error.strerror}; name another by --port"
        ) from error
    return bound


class _Connection(H11Protocol):
    """A connection that ends when in the time of `timeout_keep_alive` no request begins.

    uvicorn itself ends those alone that are silent after an answer: one on which nothing comes, or
    a head byte by byte, or without end the body of a request that was refused, would stay.
    """

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for the first request."""
        super().connection_made(transport)
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        """Takes what came, and waits on, or ends to."""
        super().data_received(data)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends to wait."""
        super().connection_lost(exc)
        self._forget()

    def _expect_request(self) -> None:
        is_idle = self.cycle is None or self.cycle.response_complete
        if not is_idle:
            self._forget()
        elif self._patience is None:
            self._patience = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _forget(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
