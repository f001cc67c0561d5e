"""Requests that are answered before all of them is read."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LINGER_S = 5


class ReadsLeftovers:
    """An application around one: reads and drops what is left of a body that is answered already.

    A connection that is closed with bytes unread is reset, and a client that is still sending may
    never see the answer that says why (nginx calls what is done here a lingering close).

    Args:
        app: that answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, as ASGI has it."""
        is_more = True

        async def heard() -> Message:
            nonlocal is_more
            message = await receive()
            is_more = message.get("more_body", False)
            return message

        async def said(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body")
            if is_last and is_more:
                # Its length stands in its head: the client has the whole answer by this.
                await send({**message, "more_body": True})
                with suppress(TimeoutError, asyncio.CancelledError):  # of a server that ends
                    async with asyncio.timeout(_LINGER_S):
                        while is_more:
                            await heard()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self._app(scope, heard, said)
