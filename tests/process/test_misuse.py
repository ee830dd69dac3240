"""Right names at the wrong time, or with wrong values: each has its own error, and says so."""

from __future__ import annotations

import json
import sys

import pytest

import boltws
from boltws import Bolt, BoltError, ConfigurationError

from .harness import PATIENCE, serving

# Every attempt is made in one app's life: before its start, in a callback, on the loop outside of
# one, and after its stop. The app writes down what was raised, or "nothing".
APP = """
import contextvars
import json
from pathlib import Path

from boltws import Bolt

bolt = Bolt()
live = bolt.ws("/live/{room}")
nobody = "00000000-0000-8000-8000-000000000000"
found = {}


def attempt(when, name, call):
    try:
        call()
    except Exception as error:
        found[f"{when}: {name}"] = f"{type(error).__name__}: {error}"
    else:
        found[f"{when}: {name}"] = "nothing"


OPERATIONS = {
    "ws_send_to": lambda: bolt.ws_send_to(nobody, "x"),
    "ws_send_binary_to": lambda: bolt.ws_send_binary_to(nobody, b"x"),
    "ws_close_client": lambda: bolt.ws_close_client(nobody),
    "ws_client_list": lambda: bolt.ws_client_list(),
    "ws_room_join": lambda: bolt.ws_room_join("room", nobody),
    "ws_room_leave": lambda: bolt.ws_room_leave("room", nobody),
    "ws_room_broadcast": lambda: bolt.ws_room_broadcast("room", "x"),
    "ws_room_broadcast_binary": lambda: bolt.ws_room_broadcast_binary("room", b"x"),
    "ws_room_members": lambda: bolt.ws_room_members("room"),
    "ws_room_count": lambda: bolt.ws_room_count("room"),
    "ws_broadcast": lambda: bolt.ws_broadcast("x"),
    "ws_broadcast_binary": lambda: bolt.ws_broadcast_binary(b"x"),
    "ws_connection_count": lambda: bolt.ws_connection_count(),
}
GETTERS = {
    "ws_client_id": lambda: bolt.ws_client_id(),
    "ws_event_type": lambda: bolt.ws_event_type(),
    "ws_event_message": lambda: bolt.ws_event_message(),
    "ws_event_is_binary": lambda: bolt.ws_event_is_binary(),
    "ws_event_binary": lambda: bolt.ws_event_binary(),
    "ws_event_path": lambda: bolt.ws_event_path(),
    "ws_param": lambda: bolt.ws_param("room"),
    "ws_event_abort": lambda: bolt.ws_event_abort(),
}
REGISTRATIONS = {
    "ws": lambda: bolt.ws("/late"),
    "before": lambda: bolt.before(print),
    "after": lambda: bolt.after(print),
    "on_before": lambda: bolt.on_before(print),
    "on_after": lambda: bolt.on_after(print),
    "on_error": lambda: bolt.on_error(print),
    "endpoint.before": lambda: live.before(print),
    "endpoint.after": lambda: live.after(print),
    "endpoint.on_before": lambda: live.on_before(print),
    "endpoint.on_after": lambda: live.on_after(print),
    "endpoint.on_connect": lambda: live.on_connect(print),
    "endpoint.on_disconnect": lambda: live.on_disconnect(print),
    "endpoint.where": lambda: live.where("room", "[a-z]+"),
}
VALUES = {
    "bytes as text": lambda: bolt.ws_send_to(bolt.ws_client_id(), b"x"),
    "None as text": lambda: bolt.ws_broadcast(None),
    "a number as text": lambda: bolt.ws_room_broadcast("room", 5),
    "a surrogate": lambda: bolt.ws_broadcast("\\ud800"),
    "bad base64": lambda: bolt.ws_send_binary_to(bolt.ws_client_id(), "?"),
    "bad padding": lambda: bolt.ws_broadcast_binary("AAA"),
    "a number as bytes": lambda: bolt.ws_broadcast_binary(5),
    "a reserved code": lambda: bolt.ws_close_client(bolt.ws_client_id(), 1005),
    "an unknown code": lambda: bolt.ws_close_client(bolt.ws_client_id(), 2000),
    "a long reason": lambda: bolt.ws_close_client(bolt.ws_client_id(), 1000, "x" * 124),
    "a nameless room": lambda: bolt.ws_room_join("", bolt.ws_client_id()),
    "a long room": lambda: bolt.ws_room_join("x" * 1025, bolt.ws_client_id()),
}


def all_of(when, calls):
    for name, call in calls.items():
        attempt(when, name, call)


@live.on_message
def said(event):
    all_of("running", OPERATIONS)
    all_of("running", GETTERS)
    all_of("running", REGISTRATIONS)
    all_of("running", VALUES)
    contextvars.Context().run(all_of, "no event", GETTERS)
    event.reply("done")


if __name__ == "__main__":
    all_of("before", OPERATIONS)
    all_of("before", GETTERS)
    bolt.run(port=0)
    all_of("after", OPERATIONS)
    Path("found.json").write_text(json.dumps(found))
"""

OPERATIONS = (
    "ws_send_to ws_send_binary_to ws_close_client ws_client_list ws_room_join ws_room_leave "
    "ws_room_broadcast ws_room_broadcast_binary ws_room_members ws_room_count ws_broadcast "
    "ws_broadcast_binary ws_connection_count"
).split()
GETTERS = (
    "ws_client_id ws_event_type ws_event_message ws_event_is_binary ws_event_binary "
    "ws_event_path ws_param ws_event_abort"
).split()
REGISTRATIONS = (
    "ws before after on_before on_after on_error endpoint.before endpoint.after "
    "endpoint.on_before endpoint.on_after endpoint.on_connect endpoint.on_disconnect "
    "endpoint.where"
).split()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each attempt raised, from one run of the app."""
    folder = tmp_path_factory.mktemp("misuse")
    (folder / "app.py").write_text(APP)
    with serving([sys.executable, "app.py"], folder) as served:
        with served.connect("/live/here") as client:
            client.send("go")
            # The broadcasts among the attempts arrive here before it.
            while client.recv(timeout=PATIENCE) != "done":
                pass
        assert served.stop() == 0, served.output
        served.assert_no_noise()
    content: dict[str, str] = json.loads((folder / "found.json").read_text())
    return content


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_work_between_start_and_stop_alone(found: dict[str, str], name: str) -> None:
    """NotRunning before the start and after the stop, each saying so; nothing in between."""
    assert found[f"running: {name}"] == "nothing"
    for when in ("before", "after"):
        raised = found[f"{when}: {name}"]
        assert raised.startswith("NotRunning: "), raised
        assert len(raised) > len("NotRunning: ")


@pytest.mark.parametrize("name", GETTERS)
def test_getters_work_in_a_callback_alone(found: dict[str, str], name: str) -> None:
    """NoEvent where none is being handled, and the error says where one would be."""
    if name == "ws_event_abort":
        assert found["running: ws_event_abort"].startswith("NotAborting: ")
    else:
        assert found[f"running: {name}"] == "nothing"
    for when in ("before", "no event"):
        raised = found[f"{when}: {name}"]
        assert raised.startswith("NoEvent: "), raised
        assert "callback" in raised


@pytest.mark.parametrize("name", REGISTRATIONS)
def test_after_the_start_nothing_can_be_added(found: dict[str, str], name: str) -> None:
    """AlreadyStarted, not a change that nobody would ever see."""
    raised = found[f"running: {name}"]
    assert raised.startswith("AlreadyStarted: "), raised
    assert "start" in raised.removeprefix("AlreadyStarted: ")


@pytest.mark.parametrize(
    ("name", "error", "named"),
    [
        ("bytes as text", "TypeError", ["str", "bytes"]),
        ("None as text", "TypeError", ["str", "None"]),
        ("a number as text", "TypeError", ["str", "int"]),
        ("a surrogate", "ValueError", ["surrogate"]),
        ("bad base64", "ValueError", ["base64"]),
        ("bad padding", "ValueError", ["base64"]),
        ("a number as bytes", "TypeError", ["bytes", "int"]),
        ("a reserved code", "ValueError", ["1005", "3000"]),
        ("an unknown code", "ValueError", ["2000", "3000"]),
        ("a long reason", "ValueError", ["123", "124"]),
        ("a nameless room", "ValueError", ["1", "1,024"]),
        ("a long room", "ValueError", ["1,024"]),
    ],
)
def test_a_wrong_value_is_told(
    found: dict[str, str], name: str, error: str, named: list[str]
) -> None:
    """The error names what is expected, and what was given."""
    raised = found[f"running: {name}"]
    kind, _, message = raised.partition(": ")
    # A subclass of ValueError, UnicodeEncodeError for one, is one as well.
    assert kind == error or (error == "ValueError" and kind.startswith("Unicode")), raised
    assert [part for part in named if part not in message] == [], raised


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("chat", ["'chat'", "'/'"]),
        ("", ["''", "'/'"]),
        ("/chat/{room", ["/chat/{room", "brace"]),
        ("/chat/room}", ["/chat/room}", "brace"]),
        ("/chat/{}", ["/chat/{}", "name"]),
        ("/chat/:", ["/chat/:", "name"]),
        ("/chat/{a b}", ["'a b'"]),
        ("/{id}/{id}", ["'id'", "twice"]),
        ("/:id/x/{id:int}", ["'id'", "twice"]),
        ("/{id:number}", ["'number'", "int", "float", "uuid"]),
        ("/{id:}", ["''", "int"]),
        ("/{rest:path}/more", ["rest", "last"]),
        ("/pre{rest:path}", ["rest", "alone"]),
        ("/chat?x=1", ["query"]),
        ("/chat#x", ["fragment"]),
        (5, ["5", "str"]),
    ],
)
def test_a_bad_path_is_told(path: str, named: list[str]) -> None:
    """ConfigurationError names the path and what is wrong with it."""
    with pytest.raises(ConfigurationError) as raised:
        Bolt().ws(path)
    assert [part for part in named if part not in str(raised.value)] == [], raised.value


def test_a_bad_where_is_told() -> None:
    """A name the path does not have, and what is no regular expression."""
    endpoint = Bolt().ws("/chat/:room")
    with pytest.raises(ConfigurationError, match=r"'romo'.*room"):
        endpoint.where("romo", "[a-z]+")
    with pytest.raises(ConfigurationError, match=r"\[a-z.*regular expression"):
        endpoint.where("room", "[a-z")


BAD_OPTIONS: list[tuple[str, object, str]] = [
    ("origins", "example.com", "https://"),
    ("origins", ["https://example.com/path"], "https://"),
    ("channel_capacity", 0, "1 or more"),
    ("channel_capacity", 1.5, "whole"),
    ("channel_bytes", -1, "1 or more"),
    ("overflow", "dropp", "'drop_oldest'"),
    ("send_buffer_limit", 0, "1 or more"),
    ("slow_consumer", "pause", "'close', 'drop'"),
    ("max_message_size", "1 MiB", "whole"),
    ("message_timeout", 0, "above 0"),
    ("max_fragments", True, "whole"),
    ("rate_limit", 10, "(messages, seconds)"),
    ("rate_limit", (0, 1), "(messages, seconds)"),
    ("rate_policy", "wait", "'pause', 'drop', 'close'"),
    ("handler_timeout", -1, "above 0"),
    ("error_policy", "ignore", "'keep', 'close'"),
    ("blocking", "yes", "True, False"),
    ("subprotocols", "chat", "list"),
    ("subprotocols", ["a b"], "token"),
]
BAD_BOLT_OPTIONS: list[tuple[str, object, str]] = [
    ("blocking_threads", 0, "1 or more"),
    ("max_connections", 0, "1 or more"),
    ("max_connections_per_address", -1, "1 or more"),
    ("handshake_timeout", 0, "above 0"),
    ("max_header_size", 1, "256 or more"),
    ("ping_interval", 0, "above 0"),
    ("ping_timeout", "20s", "seconds"),
    ("close_timeout", float("inf"), "seconds"),
    ("shutdown_timeout", float("nan"), "seconds"),
    ("shutdown_spread", -1, "0 or more"),
    ("trusted_proxies", ["proxy"], "10.0.0.0/8"),
    ("trusted_proxies", "10.0.0.0/8", "list"),
    ("attach", 1, "True, False"),
    ("http", "site", "ASGI"),
]


@pytest.mark.parametrize(("name", "value", "fits"), [*BAD_OPTIONS, *BAD_BOLT_OPTIONS])
def test_a_bad_option_is_told(name: str, value: object, fits: str) -> None:
    """ConfigurationError names the option, the value and what fits, at construction."""
    with pytest.raises(ConfigurationError) as raised:
        Bolt(**{name: value})  # type: ignore[arg-type]
    message = str(raised.value)
    assert [part for part in (name, fits, repr(value)) if part not in message] == [], message


@pytest.mark.parametrize(("name", "value", "fits"), BAD_OPTIONS)
def test_a_bad_endpoint_option_is_told(name: str, value: object, fits: str) -> None:
    """One endpoint's options are checked as all endpoints' are, and a bad one registers nothing."""
    bolt = Bolt()
    with pytest.raises(ConfigurationError) as raised:
        bolt.ws("/live", **{name: value})  # type: ignore[arg-type]
    message = str(raised.value)
    assert [part for part in (name, fits, repr(value)) if part not in message] == [], message
    bolt.ws("/live")


@pytest.mark.parametrize("name", [name for name, _, _ in BAD_BOLT_OPTIONS if name != "http"])
def test_an_option_for_all_is_not_taken_for_one(name: str) -> None:
    """What the whole server has once cannot be set on an endpoint, and the error says where."""
    with pytest.raises((ConfigurationError, TypeError), match=name) as raised:
        Bolt().ws("/live", **{name: None})  # type: ignore[arg-type]
    assert "Bolt(" in str(raised.value)


def test_an_unknown_option_is_told() -> None:
    """A misspelt option is named, with the one that was meant."""
    with pytest.raises(ConfigurationError, match=r"'chanel_capacity'.*'channel_capacity'"):
        Bolt(chanel_capacity=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match=r"'overflows'.*'overflow'"):
        Bolt().ws("/live", overflows="drop")  # type: ignore[call-arg]


def test_every_error_is_one_of_ours_and_of_pythons() -> None:
    """Who catches BoltError gets them all; each is also the builtin that people expect."""
    expected = {
        "ConfigurationError": ValueError,
        "StartError": RuntimeError,
        "AlreadyStarted": RuntimeError,
        "NotRunning": RuntimeError,
        "NoEvent": LookupError,
        "NotAborting": RuntimeError,
    }
    for name, builtin in expected.items():
        error = getattr(boltws, name)
        assert error.__mro__[1:3] == (BoltError, builtin)
    assert BoltError.__bases__ == (Exception,)


def test_the_stats_answer_at_any_time() -> None:
    """A snapshot needs no running server; an app that has not started has books that balance."""
    assert Bolt().stats().imbalance() == ""
