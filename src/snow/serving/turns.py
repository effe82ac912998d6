"""Turns: how many requests begin, and responses, in one round of the event loop, and which.

A request needs several rounds of the loop: to be read, decoded, batched and sent. If hundreds of others begin in each
of these rounds, every step of it waits for all of them, however short they are. So only a few begin in a round, and the
others wait once, in an order that is fair to clients and to the connections of each client.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from snow.serving.fairness import FairQueue, Owner, client_at

AT_ONCE = 4
"""Turns in one round: a few milliseconds."""


class Turns:
    """Gives turns on one event loop.

    Args:
        at_once: turns in one round.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = self._left = at_once
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        self._is_counting = False

    async def take(self, owner: Owner) -> None:
        """Wait for a turn."""
        loop = asyncio.get_running_loop()
        if not self._is_counting:
            self._is_counting = True
            loop.call_soon(self._begin_round)
        if self._left and not len(self._waiting):
            self._left -= 1
            return
        turn = loop.create_future()
        self._waiting.push(turn, owner)
        await turn

    def _begin_round(self) -> None:
        self._left = self._at_once
        while self._left and len(self._waiting):
            turn = self._waiting.pop()
            if not turn.done():  # its request was cancelled
                turn.set_result(None)
                self._left -= 1
        self._is_counting = self._left < self._at_once
        if self._is_counting:
            asyncio.get_running_loop().call_soon(self._begin_round)


class FairTurns:
    """Middleware that lets a request begin, and its response, when it has its turn."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.turns = app, Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        host, port = scope["client"] or ("", 0)
        owner = Owner(client_at(host), port)

        async def send_in_turn(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self.turns.take(owner)
            await send(message)

        await self.turns.take(owner)
        await self.app(scope, receive, send_in_turn)
