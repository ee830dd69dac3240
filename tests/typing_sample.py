"""The public API in its documented forms, for a type checker: `mypy --strict` has nothing to say.

Where a line must not type-check, its `type: ignore` proves it: an unused one is an error as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, assert_type

from boltws import (
    AlreadyStarted,
    Bolt,
    BoltError,
    ConfigurationError,
    Endpoint,
    Event,
    NoEvent,
    NotAborting,
    NotRunning,
    Request,
    StartError,
    State,
    Stats,
)

# Options.

bolt = Bolt()
strict = Bolt(
    origins=["https://example.com"],
    channel_capacity=64,
    channel_bytes=2**20,
    overflow="pause",
    send_buffer_limit=2**16,
    slow_consumer="drop",
    max_message_size=2**16,
    message_timeout=None,
    max_fragments=16,
    rate_limit=(20, 5),
    rate_policy="close",
    handler_timeout=2.5,
    error_policy="close",
    blocking=True,
    blocking_threads=8,
    subprotocols=("chat.v2", "chat.v1"),
    max_connections=1000,
    max_connections_per_address=10,
    handshake_timeout=5,
    max_header_size=8192,
    ping_interval=None,
    ping_timeout=None,
    close_timeout=1,
    shutdown_timeout=1.5,
    shutdown_spread=0.5,
    trusted_proxies=["10.0.0.0/8"],
    attach=False,
)
Bolt(overflow="dropp")  # type: ignore[arg-type]
Bolt(capacity=3)  # type: ignore[call-arg]
bolt.ws("/typo", chanel_capacity=3)  # type: ignore[call-arg]
bolt.ws("/attach", attach=False)  # type: ignore[call-arg]
anywhere = bolt.ws("/anywhere", origins="*", rate_limit=None, blocking=False)


async def site(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


beside = Bolt(http=site)


# Endpoints and callbacks, in every form.


def joined(event: Event) -> None:
    assert_type(event.join("lobby"), bool)


async def said(event: Event) -> None:
    assert_type(event.reply("text"), bool)
    assert_type(event.reply(b"bytes"), bool)
    assert_type(event.reply(bytearray(b"bytes")), bool)
    assert_type(event.reply(memoryview(b"bytes")), bool)
    event.reply(5)  # type: ignore[arg-type]


def left() -> None:
    assert_type(bolt.ws_broadcast(f"{bolt.ws_client_id()} left"), int)


assert_type(bolt.ws("/chat", joined, said, left), Endpoint)
assert_type(bolt.ws("/named", "joined", "said", "left"), Endpoint)
assert_type(bolt.ws("/some", "", said, None), Endpoint)
assert_type(bolt.ws("/imported", on_message="typing_sample:said"), Endpoint)
assert_type(bolt.ws("/chained").before(joined).after("left").before("joined"), Endpoint)
assert_type(bolt.ws("/room/{room}").where("room", "[a-z]+"), Endpoint)
assert_type(bolt.before(joined).after("left"), Bolt)
bolt.ws("/number", 5)  # type: ignore[arg-type]

rooms = bolt.ws("/rooms/{room}/{number:int}")


@rooms.on_before
def guard(event: Event) -> None:
    event.abort()
    event.abort(401, "who are you?", headers=[("WWW-Authenticate", "Bearer")])
    bolt.ws_event_abort()
    bolt.ws_event_abort(status=429, reason="later", headers=[("Retry-After", "3")])


@rooms.on_connect
def entered(event: Event) -> None:
    assert_type(event.response_headers, list[tuple[str, str]])
    event.response_headers.append(("Set-Cookie", "seen=1"))


@rooms.on_message
async def heard(event: Event) -> str:
    assert_type(event.client_id, str)
    assert_type(event.type, str)
    assert_type(event.message, str)
    assert_type(event.is_binary, bool)
    assert_type(event.binary, bytes)
    assert_type(event.path, str)
    assert_type(event.params, Mapping[str, Any])
    assert_type(event.rooms, tuple[str, ...])
    assert_type(event.json(), Any)
    assert_type(event.join("lobby"), bool)
    assert_type(event.leave("lobby"), bool)
    assert_type(event.close(), bool)
    assert_type(event.close(4000, "done"), bool)
    event.message = "another"  # type: ignore[misc]
    return event.message


@rooms.on_disconnect
def gone(event: Event) -> None:
    assert_type(event.close_code, int)
    assert_type(event.close_reason, str)


@rooms.on_after
def noted() -> None: ...


@bolt.on_before
def each(event: Event) -> None:
    assert_type(event.state, State)
    event.state.user = "ada"
    event.state["visits"] = 1
    assert_type(event.state.get("user"), Any | None)
    request = event.request
    assert_type(request, Request)
    assert_type(request.path, str)
    assert_type(request.headers["user-agent"], str)
    assert_type(request.query.get("token"), str | None)
    assert_type(request.cookies.get("session", ""), str)
    assert_type(request.subprotocols, list[str])
    if request.client is not None:
        assert_type(request.client.host, str)
        assert_type(request.client.port, int)


@bolt.on_after
async def counted() -> None: ...


@bolt.on_error
def failed(event: Event, error: BaseException) -> None:
    assert_type(error, BaseException)


# A decorated callback keeps its type: it can still be called, tested and passed on.
keeps_event: Callable[[Event], None] = entered
keeps_nothing: Callable[[], None] = noted
keeps_async: Callable[[Event], Awaitable[str]] = heard
keeps_pair: Callable[[Event, BaseException], None] = failed
entered("not an event")  # type: ignore[arg-type]
failed("not an event", ValueError())  # type: ignore[arg-type]


# Operations and what they give.


def ambient() -> None:
    assert_type(bolt.ws_client_id(), str)
    assert_type(bolt.ws_event_type(), str)
    assert_type(bolt.ws_event_message(), str)
    assert_type(bolt.ws_event_is_binary(), bool)
    assert_type(bolt.ws_event_binary(), str)
    assert_type(bolt.ws_event_path(), str)
    assert_type(bolt.ws_param("room"), str)


def operations(client_id: str, others: set[str]) -> None:
    assert_type(bolt.ws_send_to(client_id, "text"), bool)
    assert_type(bolt.ws_send_binary_to(client_id, b"bytes"), bool)
    assert_type(bolt.ws_send_binary_to(client_id, "YmFzZTY0"), bool)
    assert_type(bolt.ws_send_binary_to(client_id, memoryview(b"bytes")), bool)
    assert_type(bolt.ws_close_client(client_id), bool)
    assert_type(bolt.ws_close_client(client_id, 4001, "kicked"), bool)
    assert_type(bolt.ws_client_list(), list[str])
    assert_type(bolt.ws_room_join("lobby", client_id), bool)
    assert_type(bolt.ws_room_leave("lobby", client_id), bool)
    assert_type(bolt.ws_room_broadcast("lobby", "text"), int)
    assert_type(bolt.ws_room_broadcast("lobby", "text", exclude=client_id), int)
    assert_type(bolt.ws_room_broadcast("lobby", "text", exclude=others), int)
    assert_type(bolt.ws_room_broadcast("lobby", "text", (x for x in others)), int)
    assert_type(bolt.ws_room_broadcast_binary("lobby", b"bytes", exclude=[client_id]), int)
    assert_type(bolt.ws_room_members("lobby"), list[str])
    assert_type(bolt.ws_room_count("lobby"), int)
    assert_type(bolt.ws_broadcast("text"), int)
    assert_type(bolt.ws_broadcast_binary(b"bytes"), int)
    assert_type(bolt.ws_connection_count(), int)
    assert_type(bolt.ws_dropped_count(), int)
    bolt.ws_send_to(client_id, b"bytes")  # type: ignore[arg-type]
    bolt.ws_broadcast(5)  # type: ignore[arg-type]


async def draining(client_id: str) -> None:
    await bolt.ws_drain(client_id)
    async with bolt.lifespan(site):
        pass
    async with bolt.lifespan():
        pass


def figures() -> None:
    stats = bolt.stats()
    assert_type(stats, Stats)
    assert_type(stats.received, int)
    assert_type(stats.dropped_in, Mapping[str, int])
    assert_type(stats.dropped_out["slow"], int)
    assert_type(stats.closed, Mapping[int, int])
    assert_type(stats.refused, Mapping[str, int])
    assert_type(stats.imbalance(), str)
    stats.received = 1  # type: ignore[misc]


# Errors, and the server.


def errors() -> list[type[BoltError]]:
    return [ConfigurationError, StartError, AlreadyStarted, NotRunning, NoEvent, NotAborting]


def main() -> None:
    bolt.run()
    bolt.run("0.0.0.0", 8080)
    bolt.run(port=443, ssl_certfile="cert.pem", ssl_keyfile="key.pem", log_level="warning")
    bolt.run(uds="/run/chat.sock", access_log=False)
