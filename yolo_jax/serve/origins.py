"""Requests that pages of other origins have a browser send."""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_OWN_NAMES = ("localhost", "127.0.0.1", "::1")


def names_of(address: str) -> tuple[str, ...]:
    """Returns the hosts that requests to an address name; none where it cannot be known.

    Args:
        address: that is listened to, of IPv4 or IPv6.
    """
    return (*_OWN_NAMES, address) if ip_address(address).is_loopback else ()


class RefusesOtherOrigins:
    """An application around one: refuses what a page of another origin has a browser send.

    Such a page may read no answer, and could yet keep the network busy with images of its own.
    Through a name of its own that comes to mean 127.0.0.1 (DNS rebinding) it could read answers
    too, which is why the name is looked at.

    Args:
        app: that answers.
        names: hosts that a request may name; none: any.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, as ASGI has it."""
        app = self._app
        if fault := self._fault(scope["method"], Headers(scope=scope)):
            app = JSONResponse({"error": fault}, 403)
        await app(scope, receive, send)

    def _fault(self, method: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if host and self._names and _name(host) not in self._names:
            return f"the request's Host is {host!r:.80}; this server is {', '.join(self._names)}"
        # Browsers say it of addresses on this machine and of https alone; proxies pass it on.
        site = headers.get("sec-fetch-site", "none")
        if method == "POST" and site not in ("none", "same-origin"):
            return f"the request is of another origin's page (Sec-Fetch-Site: {site:.20})"
        return None


def _name(host: str) -> str | None:
    """Returns the name before the port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # an IPv6 address without its bracket
        return None
