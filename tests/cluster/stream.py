"""Messages under way while something breaks, and the books that must balance afterwards."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from nats.aio.client import Client
from websockets.exceptions import ConnectionClosed

from .node import Member, Node, until

_BURST = 8
_PAUSE = 0.005  # seconds between bursts: a load, not a flood


class Stream:
    """A member says numbers in its room, and hears each of them itself before it goes on, so
    that the local delivery is under watch all the time; a member elsewhere listens."""

    def __init__(self, speaker: Member, listener: Member) -> None:
        assert speaker.room == listener.room
        self.speaker = speaker
        self.listener = listener
        self.sent = 0
        self.heard: list[int] = []
        self._stopping = False

    async def __aenter__(self) -> Stream:
        self._speaking = asyncio.create_task(self._speak())
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping = True
        try:
            await self._speaking
        finally:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _speak(self) -> None:
        while not self._stopping:
            for number in range(self.sent, self.sent + _BURST):
                await self.speaker.send(str(number))
            for number in range(self.sent, self.sent + _BURST):
                heard = await self.speaker.next()
                assert heard == str(number), f"its own room heard {heard!r}, not {number}"
            self.sent += _BURST
            await asyncio.sleep(_PAUSE)

    async def _listen(self) -> None:
        while True:
            try:
                self.heard.append(int(await self.listener.connection.recv()))
            except ConnectionClosed:
                return

    async def _until(self, check: Any, what: str) -> None:
        def look() -> bool:
            if self._speaking.done():
                self._speaking.result()  # raises what stopped it
            return bool(check())

        await until(look, what)

    async def goes_on(self, messages: int = 200) -> None:
        """Return when so many more messages have been said, and heard by the speaker itself."""
        goal = self.sent + messages
        await self._until(lambda: self.sent >= goal, "local delivery that goes on")

    async def arrives(self) -> None:
        """Return when something that is said from now on has been heard elsewhere."""
        now = self.sent + _BURST
        await self._until(
            lambda: self.heard and self.heard[-1] >= now, "messages that arrive elsewhere"
        )

    async def stop(self) -> None:
        """Say no more; the listener listens on."""
        self._stopping = True
        await self._speaking

    async def balances(self, url: str) -> dict[str, int]:
        """Every message was heard, counted as dropped by the node of the speaker, or counted as
        lost by that of the listener: exactly, two heartbeats after the last message."""
        await self.stop()
        await heartbeats(url, await node_id(self.speaker.node), 2)
        dropped = sum((await self.speaker.node.stats())["backplane_dropped"].values())
        lost = (await self.listener.node.stats())["backplane_lost"]
        books = {"sent": self.sent, "heard": len(self.heard), "dropped": dropped, "lost": lost}
        assert self.heard == sorted(set(self.heard)), "out of order, or twice"
        assert self.sent == len(self.heard) + dropped + lost, books
        return books


async def node_id(node: Node) -> str:
    return await asyncio.to_thread(lambda: node.id)


async def heartbeats(url: str, node: str, count: int) -> None:
    """Return when so many heartbeats of a node have passed through NATS."""
    name = bytes.fromhex(node)
    enough = asyncio.Event()
    left = count

    async def heard(message: Any) -> None:
        nonlocal left
        left -= message.data[3:8] == name
        if left <= 0:
            enough.set()

    client = await observer(url)
    try:
        await client.subscribe("boltws.hb", cb=heard)
        await until(enough.is_set, f"{count} heartbeats of {node}")
    finally:
        await client.close()


async def observer(url: str) -> Client:
    """A NATS client that is no node."""
    client = Client()
    await client.connect(url, allow_reconnect=False)
    return client
