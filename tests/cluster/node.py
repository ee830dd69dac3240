"""A node of a fleet: a process that serves the app, and what a test says and asks there."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from boltws.backplane.subjects import node_of

from ..process.harness import PATIENCE, Served, environment

APP = Path(__file__).parent


class Asked(NamedTuple):
    """The answer of `bolt.cluster`."""

    value: Any
    complete: bool
    missing: list[str]


class Raised(Exception):
    """What a call in a node raised."""


class Node:
    """One process. `url` is where it finds the others."""

    def __init__(self, url: str | None, *arguments: str, **options: Any) -> None:
        argv = [sys.executable, "-m", "boltws", "run", "app:bolt", "--port", "0", *arguments]
        env = environment(TEST_OPTIONS=json.dumps(options))
        env.pop("BOLTWS_BACKPLANE", None)
        if url is not None:
            env["BOLTWS_BACKPLANE"] = url
        self.served = Served([*argv, "--no-access-log"], APP, env)
        self._control: Any = None
        self._open = ExitStack()
        self._lock = threading.Lock()
        self._number = 0

    def wait_until_up(self) -> None:
        """Returns when it serves clients."""
        assert self.served.port
        if self._control is None:
            self._control = self._open.enter_context(self.served.connect("/say"))

    @property
    def id(self) -> str:
        """Its name among the nodes."""
        (node,) = {node_of(client_id) for client_id in self._call("ws_client_list")}
        assert node is not None
        return node

    # Calls in the node.

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            self.wait_until_up()
            self._number += 1
            order = {"number": self._number, "call": name, "with": args, "and": kwargs}
            self._control.send(json.dumps(order))
            while True:  # broadcasts come here as well
                with suppress(ValueError):
                    answer = json.loads(self._control.recv(timeout=PATIENCE))
                    if isinstance(answer, dict) and answer.get("to") == self._number:
                        break
        if "raised" in answer:
            raise Raised(answer["raised"])
        return answer["result"]

    async def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call `bolt.<name>` there. Raises :class:`Raised`."""
        return await asyncio.to_thread(self._call, name, *args, **kwargs)

    async def cluster(self, name: str, *args: Any, **kwargs: Any) -> Asked:
        """Ask `bolt.cluster` there."""
        return Asked(*await self.call(f"cluster.{name}", *args, **kwargs))

    async def stats(self) -> dict[str, Any]:
        """Its ledger."""
        return dict(await self.call("stats"))

    async def nodes(self) -> list[str]:
        """The nodes that it knows to be alive and that answer."""
        return [told["node"] for told in (await self.cluster("nodes")).value]

    # Its clients, and its health.

    async def member(self, room: str) -> Member:
        """A client that is in the room: what others say there from now on reaches it."""
        await asyncio.to_thread(self.wait_until_up)
        path = f"/chat/{quote(room, safe='')}"
        uri = f"ws://127.0.0.1:{self.served.port}{path}"
        stack = AsyncExitStack()
        connection = await stack.enter_async_context(
            connect(uri, proxy=None, open_timeout=PATIENCE, close_timeout=1)
        )
        member = Member(self, room, connection, stack)
        try:
            member.id = await member.introduction()
        except BaseException:
            await member.close()
            raise
        return member

    async def health(self, page: str = "/readyz") -> int:
        """The status that it answers there."""

        def ask() -> int:
            connection = http.client.HTTPConnection("127.0.0.1", self.served.port, PATIENCE)
            try:
                connection.request("GET", page)
                return connection.getresponse().status
            finally:
                connection.close()

        return await asyncio.to_thread(ask)

    # Its end.

    def send(self, number: signal.Signals) -> None:
        self.served.send(number)

    def kill(self) -> None:
        """Its end without a word."""
        self.served.kill()
        self._open.close()


class Member:
    """A client in a room, and how it is spoken to."""

    id: str

    def __init__(
        self, node: Node, room: str, connection: ClientConnection, stack: AsyncExitStack
    ) -> None:
        self.node = node
        self.room = room
        self.connection = connection
        self._stack = stack

    async def introduction(self) -> str:
        """The id that its node gave it. What the room said earlier is dropped."""
        while not (message := str(await self.next())).startswith("joined "):
            pass
        return message.removeprefix("joined ")

    async def send(self, message: str | bytes) -> None:
        """Say something in the room."""
        await self.connection.send(message)

    async def next(self) -> Any:
        """The next message that it gets."""
        async with asyncio.timeout(PATIENCE):
            return await self.connection.recv()

    async def take(self, count: int) -> list[Any]:
        return [await self.next() for _ in range(count)]

    async def closed(self) -> tuple[int, str]:
        """Read up to the close, and give its code and reason; (1006, "") for none."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    await self.connection.recv()
        except ConnectionClosed as end:
            return (end.rcvd.code, end.rcvd.reason) if end.rcvd is not None else (1006, "")

    async def close(self) -> None:
        await self._stack.aclose()


async def until(check: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Ask until the answer is true, and give it; `check` may be a coroutine function."""
    try:
        async with asyncio.timeout(patience):
            while True:
                found = check()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None


async def acquainted(*nodes: Node) -> None:
    """Return when each of the nodes knows all of them, and no others."""
    names = sorted([await asyncio.to_thread(lambda node=node: node.id) for node in nodes])  # type: ignore[misc]
    for node in nodes:

        async def knows(node: Node = node) -> bool:
            told = await node.cluster("nodes")
            return told.complete and sorted(one["node"] for one in told.value) == names

        await until(knows, "nodes that know each other")
