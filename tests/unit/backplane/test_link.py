"""The connection: nats-py's client as it is, on a transport that is the test."""

from __future__ import annotations

import asyncio
import re
import threading
from itertools import pairwise
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.transport import TcpTransport

from boltws.backplane import inbound
from boltws.backplane import link as module
from boltws.backplane.link import PENDING, Link, contract_broken
from boltws.backplane.subscription import Subscription

from ..conftest import Errors
from ..flow import Clock, turns, turns_until
from .wired import linked, taken

# What is used of nats-py.


def test_the_contract() -> None:
    """It holds with the release that is installed."""
    assert contract_broken() == ""


@pytest.mark.parametrize("name", ["_read_loop", "_attempt_reconnect", "_send_ping", "_close"])
def test_a_method_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, with the parameters that we give or take."""
    monkeypatch.delattr(Client, name)
    assert contract_broken().startswith(f"Client.{name}(")


def test_a_method_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other parameters are as good as none."""

    async def other(self: Client, future: object, deadline: float) -> None: ...

    monkeypatch.setattr(Client, "_send_ping", other)
    assert contract_broken() == "Client._send_ping(future)"


@pytest.mark.parametrize("name", module._ATTRIBUTES)
def test_an_attribute_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named."""
    init = Client.__init__

    def without(self: Client) -> None:
        init(self)
        delattr(self, name)

    monkeypatch.setattr(Client, "__init__", without)
    assert contract_broken() == f"Client.{name}"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TcpTransport, "_io_reader"),
        (TcpTransport, "_io_writer"),
        (asyncio.StreamReader, "_buffer"),
    ],
)
def test_an_attribute_of_a_stream_is_missing(
    kind: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named as well: of nats-py's transport, and of asyncio's reader below it."""
    init = kind.__init__

    def without(self: Any, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        delattr(self, name)

    monkeypatch.setattr(kind, "__init__", without)
    assert contract_broken() == f"{kind.__name__}.{name}"


def test_the_contract_where_no_loop_runs() -> None:
    """It is looked at before there is a loop, in whichever thread: it needs none, and makes
    none."""
    found: list[object] = []

    def look() -> None:
        try:
            found.append(contract_broken())
        except RuntimeError as error:
            found.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [""]


def test_everything_private_that_is_used_is_in_the_contract() -> None:
    """No underscored name of nats-py's or asyncio's is used and not checked at start."""
    link, tap = (source_of(file.__file__) for file in (module, inbound))
    used = set(re.findall(r"\b(?:self|super\(\))\.(_[a-z]\w+)", link))
    assert {name for name in used if hasattr(Client(), name)} == {
        *module._METHODS,
        *module._ATTRIBUTES,
    }
    assert set(of_others("transport", link)) == {"_io_reader", "_io_writer"}
    assert set(of_others("_?reader", tap)) == {"_buffer"}


def source_of(path: str) -> str:
    with open(path) as file:
        return file.read()


def of_others(variable: str, source: str) -> list[str]:
    """The underscored names that are asked of a variable."""
    return re.findall(rf"\b{variable}\.(_[a-z]\w+)", source)


def test_nothing_of_nats_py_is_replaced_unseen() -> None:
    """A name of Link's own is none of nats-py's, but for those in the contract: in a release that
    begins to use one of them this test fails."""
    client = Client()
    replaced = {name for name in vars(Link) if not name.startswith("__") and hasattr(client, name)}
    kept = {name for name in vars(Link()) if name not in vars(client)}
    assert replaced == {"_read_loop", "_attempt_reconnect", "_close"}
    assert kept == {"_scheduled", "ended"}


# In.


async def test_a_message() -> None:
    """It goes to the handler of its subscription, with subject, payload and headers."""
    seen: list[Any] = []
    async with linked() as link:
        sub = Subscription("a.*", "a", lambda *given: seen.append(given) or 0)
        link.add(sub)
        link.wire.hears(b"MSG a.b %d 3\r\nxyz\r\n" % sub.sid)
        link.wire.hears(b"HMSG a.c %d 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n" % sub.sid)
        link.wire.hears(b"MSG a.d %d 0\r\n\r\n" % (sub.sid + 7))  # of no subscription
        await turns_until(lambda: len(seen) == 2)
        assert seen[0] == (sub, b"a.b", b"xyz", None)
        assert seen[1] == (sub, b"a.c", b"hi", b"NATS/1.0\r\nA: b\r\n\r\n")
        link.drop(sub)
        link.wire.hears(b"MSG a.b %d 3\r\nxyz\r\n" % sub.sid)
        await turns()
        assert len(seen) == 2


async def test_a_handler_that_raises(logged: Errors) -> None:
    """It is logged, and the next message is handled."""
    seen: list[Any] = []
    async with linked() as link:
        bad = Subscription("a", "a", lambda *given: 1 // 0)
        good = Subscription("b", "b", taken(seen))
        link.add(bad)
        link.add(good)
        link.wire.hears(b"MSG a 1 1\r\nx\r\nMSG b 2 1\r\ny\r\n")
        await turns_until(lambda: bool(seen))
        assert seen == [(b"b", b"y")]
        assert len(logged.texts()) == 1 and "ZeroDivisionError" in logged.texts()[0]


@pytest.mark.parametrize(("writes", "most"), [(2001, 3), (2000, 33)])
async def test_the_budget(writes: int, most: int) -> None:
    """A flood of messages with many deliveries lets others have their turn: soon where they are
    many writes, later where the writes are few."""
    seen: list[Any] = []
    async with linked(writes=lambda: writes) as link:
        link.add(Subscription("a", "a", taken(seen, clients=1000)))
        counts = []
        link.wire.hears(b"MSG a 1 1\r\nx\r\n" * 300)
        while len(seen) < 300:
            counts.append(len(seen))
            await asyncio.sleep(0)
        counts.append(len(seen))
        assert max(b - a for a, b in pairwise([0, *counts])) == most
        link.wire.hears(b"MSG a 1 1\r\ny\r\n")  # it reads on
        await turns()
        assert (len(seen), seen[-1]) == (301, (b"a", b"y"))


async def test_cheap_messages_are_not_split() -> None:
    """Those that few clients get are handled as they were read."""
    seen: list[Any] = []
    async with linked() as link:
        link.add(Subscription("a", "a", taken(seen)))
        link.wire.hears(b"MSG a 1 1\r\nx\r\n" * 100)
        counts = set()
        for _ in range(20):
            await asyncio.sleep(0)
            counts.add(len(seen))
        assert counts <= {0, 100}


# Out.


async def test_post() -> None:
    """One PUB, its payload of all parts."""
    async with linked() as link:
        link.post("a.b", b"one", b"", b"two")
        link.post("c")
        await turns()
        assert link.wire.sent.endswith(b"PUB a.b 6\r\nonetwo\r\nPUB c 0\r\n\r\n")


async def test_posts_of_one_turn() -> None:
    """They are one write, in order."""
    async with linked() as link:
        await turns()
        writes = link.wire.writes
        for number in range(3000):  # more than nats-py's queue holds
            link.post("a", str(number).encode())
        await turns()
        assert link.wire.writes == writes + 1
        assert re.findall(rb"PUB a \d\r\n(\d+)", link.wire.sent) == [b"%d" % n for n in range(3000)]


async def test_posts_on_a_connection_that_has_just_been_lost() -> None:
    """nats-py hears of it in a later turn, and uvloop raises at a write meanwhile, which would be
    a traceback in the log."""
    async with linked() as link:
        await turns()
        writes = link.wire.writes
        link.post("a", b"x")
        link.wire.abort()
        await turns()
        assert link.wire.writes == writes


async def test_posts_while_the_flusher_works() -> None:
    """What comes while the network is slow goes out when it is not, all of it, in order."""
    async with linked() as link:
        await turns()
        link.wire.flows.clear()
        for number in range(10):
            link.post("a", str(number).encode())
            await turns(2)
        # One is in the transport's buffer, one has the flusher, which waits until that is sent.
        assert link.wire.sent.count(b"PUB") == 2
        link.wire.flows.set()
        await turns()
        assert re.findall(rb"PUB a \d\r\n(\d+)", link.wire.sent) == [b"%d" % n for n in range(10)]
        assert link._pending_data_size == 0


async def test_full() -> None:
    """When more than 8 MiB wait for the network, and no more when they do not."""
    assert PENDING == 8 * 2**20
    async with linked() as link:
        await turns()
        link.wire.flows.clear()
        for _ in range(2):
            link.post("a", b"x")
            await turns()
        assert not link.is_full
        for _ in range(8):
            assert not link.is_full
            link.post("a", b"x" * 2**20)
            await turns()
        assert link.is_full
        assert link.wire.sent.count(b"PUB") == 2
        link.wire.flows.set()
        await turns_until(lambda: not link.is_full)
        assert link._pending == []
        assert link.wire.sent.count(b"PUB") == 10


# Subscriptions.


async def test_subscriptions() -> None:
    """Each has a number of its own, and is sent at once where there is a connection."""
    async with linked() as link:
        one, two = Subscription("a", "a", taken([])), Subscription("b", "b", taken([]))
        link.add(one)
        link.add(two)
        link.drop(one)
        await link.settled()
        assert re.findall(rb"(?:UN)?SUB [^\r]*", link.wire.sent) == [
            b"SUB a  1",
            b"SUB b  2",
            b"UNSUB 1",
        ]
        assert list(link._subs) == [two.sid]


async def test_settled() -> None:
    """The ping is behind the subscriptions, though those wait for the flusher."""
    async with linked() as link:
        await turns()
        link.wire.flows.clear()
        link.post("busy")
        await turns()
        link.add(Subscription("a", "a", taken([])))
        settled = asyncio.ensure_future(link.settled())
        await turns()
        assert not settled.done()
        link.wire.flows.set()
        await settled
        assert link.wire.sent.index(b"SUB a") < link.wire.sent.rindex(b"PING")


async def test_settled_by_a_frozen_server(clock: Clock) -> None:
    """It raises after five seconds."""
    async with linked(ping_interval=60) as link:
        link.wire.frozen = True
        before = clock.now
        with pytest.raises(TimeoutError):
            await link.settled()
        assert clock.now == before + 5


# nats-py sets the result of a future that was cancelled, and the error ends its task that reads.
@pytest.mark.parametrize("how", ["cancelled", "timed out"])
async def test_a_pong_for_nobody(how: str, clock: Clock) -> None:
    """Whoever waits for the server may give up: the link reads on when the answer comes."""
    seen: list[Any] = []
    async with linked(ping_interval=60) as link:
        link.add(Subscription("a", "a", taken(seen)))
        await link.settled()
        link.wire.frozen = True
        settled = asyncio.ensure_future(link.settled())
        await turns()
        if how == "cancelled":
            settled.cancel()
        else:
            await asyncio.sleep(5.1)
        await asyncio.gather(settled, return_exceptions=True)
        link.wire.thaw()
        await turns()
        link.wire.hears(b"MSG a 1 1\r\nx\r\n")
        await turns()
        assert seen == [(b"a", b"x")]
        assert not link._reading_task.done()  # type: ignore[union-attr]


async def test_what_it_hears(clock: Clock) -> None:
    """Connected, and no more than one ping unanswered."""
    async with linked(ping_interval=2, max_outstanding_pings=9) as link:
        assert link.hears
        await asyncio.sleep(20)
        assert link.hears
        link.wire.frozen = True
        await asyncio.sleep(5)
        assert not link.hears
        link.wire.thaw()
        await turns()
        assert link.hears
    assert not link.hears


async def test_it_reconnects(clock: Clock) -> None:
    """With all subscriptions, those too that came meanwhile, and what is posted then goes out;
    a frozen server is not waited for."""
    again = asyncio.Event()
    lost: list[bool] = []

    async def back() -> None:
        again.set()

    async def gone() -> None:
        lost.append(link.is_connected)
        link.add(Subscription("b", "b", taken([])))

    async with linked(
        ping_interval=2,
        max_outstanding_pings=2,
        reconnected_cb=back,
        disconnected_cb=gone,
        max_reconnect_attempts=-1,
    ) as link:
        first = link.wire
        kept, dropped = Subscription("a", "a", taken([])), Subscription("c", "c", taken([]))
        link.add(kept)
        link.add(dropped)
        link.drop(dropped)
        await link.settled()
        first.frozen = True
        first.flows.clear()
        await again.wait()
        assert first.aborted
        assert lost == [False]
        assert re.findall(rb"SUB (\w)", link.wire.sent) == [b"a", b"b"]
        link.post("z", b"x")
        await turns()
        assert link.wire.sent.endswith(b"PUB z 1\r\nx\r\n")
        link._disconnected_cb = None


async def test_what_was_refused_is_asked_for_again() -> None:
    """All subscriptions, by the numbers that they have: nats-server ignores those that stand."""
    async with linked() as link:
        subs = [Subscription(f"boltws.{name}", name, taken([])) for name in "ab"]
        for sub in subs:
            link.add(sub)
        await link.settled()
        before = len(link.wire.sent)
        await link.subscribed_again()
        assert link.wire.sent[before:] == b"SUB boltws.a  1\r\nSUB boltws.b  2\r\nPING\r\n"
