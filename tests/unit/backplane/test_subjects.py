"""Rooms, nodes and clients in subjects: legal whatever they are called, and never mixed up."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltws.backplane.subjects import Subjects, encode_name, is_hashed, node_of, room_token
from boltws.ids import id_source

ROOMS = {
    "chat": "rY2hhdA",
    "*": "rKg",
    ">": "rPg",
    "a.b": "rYS5i",
    "a b": "rYSBi",
    " ": "rIA",
    "\r\nPUB x 0\r\n": "rDQpQVUIgeCAwDQo",
    "🦊": "r8J-mig",
    "all": "rYWxs",
    "\0": "rAA",
}

# Every text that may name a room: 1 to 1,024 bytes of UTF-8.
names = (
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400)
    | st.text(st.sampled_from("a.*> "), min_size=90, max_size=110)
).filter(lambda name: len(name.encode()) <= 1024)


def is_legal(token: str) -> bool:
    """Whether it is one token of a NATS subject, and no wildcard, to any server."""
    return re.fullmatch(r"[A-Za-z0-9_-]+", token) is not None


@pytest.mark.parametrize(("room", "token"), ROOMS.items())
def test_a_room_is_encoded(room: str, token: str) -> None:
    """As documented, so that a client in another language comes to the same."""
    assert room_token(room) == token
    assert not is_hashed(token)


def test_a_long_room_is_hashed() -> None:
    """From 97 bytes on; up to 96 the token is the name."""
    longest = "é" * 48
    assert room_token(longest) == "r" + base64.urlsafe_b64encode(longest.encode()).decode()
    tokens = {room_token("é" * 48 + "x"), room_token("x" * 1023), room_token("x" * 1024)}
    assert len(tokens) == 3
    assert all(is_hashed(token) and len(token) == 44 and is_legal(token) for token in tokens)
    assert room_token("x" * 1024) == "hSavWW79_fkDHBVCT7S4_118vYC8sX8-VXCE-MTXrA_c"


@given(names)
def test_any_room_is_one_legal_token(name: str) -> None:
    """No wildcard, no dot, no space; and never what stands for everybody or for a node."""
    token = room_token(name)
    assert is_legal(token)
    assert token != "all"
    assert not re.fullmatch(r"[0-9a-f]{10}", token)
    assert len(token) <= 129


@given(names, names)
def test_two_rooms_share_no_token(one: str, other: str) -> None:
    """Or one would hear the other's messages."""
    assert (room_token(one) == room_token(other)) == (one == other)


@given(names)
def test_a_token_can_be_read(name: str) -> None:
    """Short names come back from their token: nothing of them is lost."""
    token = room_token(name)
    if not is_hashed(token):
        code = token[1:]
        assert base64.urlsafe_b64decode(code + "=" * (-len(code) % 4)).decode() == name


@given(st.binary(max_size=50))
def test_encoding(name: bytes) -> None:
    """Base64url without padding, and it can be undone."""
    code = encode_name(name)
    assert "=" not in code
    assert base64.urlsafe_b64decode(code + "==="[: -len(code) % 4]) == name


def test_the_node_of_an_id() -> None:
    """The ids that a node gives name it."""
    node, next_id = id_source()
    assert {node_of(next_id()) for _ in range(1000)} == {node}
    assert node_of("01234567-89ab-8cde-8f01-23456789abcd") == "0123456789"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        ">",
        "01234567-89ab-4cde-8f01-23456789abcd",  # another version
        "01234567-89ab-8cde-cf01-23456789abcd",  # another variant
        "01234567-89AB-8CDE-8F01-23456789ABCD",
        "0123456789ab8cde8f0123456789abcd",
        "01234567-89ab-8cde-8f01-23456789abcd\n",
        " 01234567-89ab-8cde-8f01-23456789abcd",
        "01234567-89ab-8cde-8f01-23456789abc",
        "٠1234567-89ab-8cde-8f01-23456789abcd",  # noqa: RUF001 a digit, but not of ours
    ],
)
def test_what_is_no_id(text: str) -> None:
    """It has no node, so it never gets into a subject."""
    assert node_of(text) is None


def matches(pattern: str, subject: str) -> bool:
    """NATS' rule: `*` stands for one token, `>` for the rest."""
    wanted, found = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(found) >= len(wanted) and all(
            w in ("*", f) for w, f in zip(wanted[:-1], found, strict=False)
        )
    return len(wanted) == len(found) and all(
        w in ("*", f) for w, f in zip(wanted, found, strict=True)
    )


def test_each_subject_reaches_whom_it_should() -> None:
    """What a node subscribes to, against all that is published: each message comes to those it is
    for, and to one subscription of theirs."""
    subjects = Subjects("p.q")
    token, other = room_token("one"), room_token("two")
    node, client = "0123456789", "01234567-89ab-8cde-8f01-23456789abcd"
    subscribed = [
        subjects.everyone,
        subjects.outside_everyone,
        subjects.heartbeats,
        subjects.node(node),
        subjects.outside_node(node),
        subjects.room_interest(token),
    ]
    published = {
        subjects.everyone: 1,
        subjects.outside_everyone: 1,
        subjects.heartbeats: 1,
        subjects.node(node): 1,
        subjects.node("aaaaaaaaaa"): 0,
        subjects.room(token): 1,
        subjects.outside_room(token): 1,
        subjects.room(other): 0,
        subjects.outside_room(other): 0,
        subjects.outside_client("to", node, client): 1,
        subjects.outside_client("close", node, client): 1,
        subjects.outside_client("to", "aaaaaaaaaa", client): 0,
    }
    heard = {
        subject: sum(matches(pattern, subject) for pattern in subscribed) for subject in published
    }
    assert heard == published


def test_outside_publishers_can_be_restricted() -> None:
    """One permission covers all that they publish, and nothing of what nodes say to each other."""
    subjects = Subjects()
    token, node = room_token("one"), "0123456789"
    allowed = subjects.outside + ">"
    for subject in (
        subjects.outside_everyone,
        subjects.outside_room(token),
        subjects.outside_client("to", node, "x"),
        subjects.outside_client("close", node, "x"),
    ):
        assert matches(allowed, subject)
    for subject in (
        subjects.everyone,
        subjects.heartbeats,
        subjects.room(token),
        subjects.node(node),
    ):
        assert not matches(allowed, subject)
