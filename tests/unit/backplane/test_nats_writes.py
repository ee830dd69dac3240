"""What one node does reaches the clients of the others."""

from __future__ import annotations

import pytest

from boltws.backplane import envelope

from .fleet import Fleet, Posted, head

NAMES = ["blue", "*", ">", "a.b", "a b", "\n", "👍", "é" * 48, "é" * 49, "x" * 1024]
NOBODY = "ffffffff-ff00-8000-8000-000000000000"


@pytest.mark.parametrize("room", NAMES)
async def test_a_room(fleet: Fleet, room: str) -> None:
    """Its members everywhere get each message, whatever the room is named; others nothing."""
    one, two = await fleet.two()
    here, there, elsewhere = one.client(room), two.client(room), two.client("other")
    await fleet.quiet()
    assert one.bolt.ws_room_broadcast(room, "text") == 1
    assert one.bolt.ws_room_broadcast_binary(room, b"\xff\0") == 1
    await fleet.quiet()
    assert here.got == there.got == ["text", b"\xff\0"]
    assert elsewhere.got == []
    assert (one.stats.backplane_published, two.stats.backplane_received) == (2, 2)


async def test_everybody(fleet: Fleet) -> None:
    """A broadcast to all reaches all clients of all nodes, those in no room too."""
    one, two = await fleet.two()
    three = await fleet.node()
    clients = [one.client(), two.client(), two.client("blue"), three.client()]
    assert one.bolt.ws_broadcast("text") == 1
    assert three.bolt.ws_broadcast_binary(b"bytes") == 1
    await fleet.quiet()
    assert sorted(map(str, clients[0].got)) == ["b'bytes'", "text"]
    assert all(sorted(map(str, c.got)) == ["b'bytes'", "text"] for c in clients)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 2**20 - 2048])
async def test_sizes(fleet: Fleet, size: int) -> None:
    """Each size of a frame's length arrives as it was sent, up to the limit itself."""
    one, two = await fleet.two()
    client = two.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "x" * size)
    one.bolt.ws_broadcast_binary(b"y" * size)
    one.bolt.ws_send_to(client.id, "z" * size)
    await fleet.quiet()
    assert client.got == ["x" * size, b"y" * size, "z" * size]
    assert max(len(message.payload) for message in fleet.nats.posted) <= fleet.nats.max_payload


async def test_too_large(fleet: Fleet) -> None:
    """A message over the server's limit is refused before anybody has it, here or elsewhere."""
    fleet.nats.max_payload = 10_000
    one, two = await fleet.two()
    here, there = one.client("blue"), two.client("blue")
    await fleet.quiet()
    large = "x" * 7_953
    for call in (
        lambda: one.bolt.ws_room_broadcast("blue", large),
        lambda: one.bolt.ws_broadcast(large),
        lambda: one.bolt.ws_send_to(there.id, large),
        lambda: one.bolt.ws_room_broadcast("blue", "x", [NOBODY] * 500),
        lambda: one.bolt.ws_room_broadcast("blue", "x", [NOBODY] * 70_000),
    ):
        with pytest.raises(ValueError, match="at most 7,952 bytes.*max_payload"):
            call()
    assert one.bolt.ws_send_to(here.id, large)  # one of ours goes through no server
    await fleet.quiet()
    assert (here.got, there.got) == ([large], [])
    assert one.stats.backplane_published == 0


async def test_one_client(fleet: Fleet) -> None:
    """Sent to, by any node, in one hop; True says that it was published."""
    one, two = await fleet.two()
    three = await fleet.node()
    client, other = two.client(), two.client()
    assert one.bolt.ws_send_to(client.id, "text")
    assert three.bolt.ws_send_binary_to(client.id, b"bytes")
    await fleet.quiet()
    assert sorted(map(str, client.got)) == ["b'bytes'", "text"]
    assert other.got == []
    assert {message.subject for message in fleet.nats.on(".n.")} == {f"boltws.n.{two.id}"}
    assert three.stats.backplane_received == 0
    # It is a send of the node that has the client.
    assert (one.stats.sends, two.stats.sends, two.stats.handed) == (0, 2, 2)


async def test_close_elsewhere(fleet: Fleet) -> None:
    """The client is closed with the code and the reason that were given."""
    one, two = await fleet.two()
    client, other = two.client(), two.client()
    assert one.bolt.ws_close_client(client.id, 4001, "é" * 61)
    assert one.bolt.ws_close_client(other.id)
    await fleet.quiet()
    assert client.closes == [(4001, "é" * 61)]
    assert other.closes == [(1000, "")]


async def test_join_and_leave_elsewhere(fleet: Fleet) -> None:
    """A client of another node is put into a room and taken out of it."""
    one, two = await fleet.two()
    client = two.client()
    assert one.bolt.ws_room_join("é" * 512, client.id)
    await fleet.quiet()
    assert two.bolt.ws_room_members("é" * 512) == [client.id]
    one.bolt.ws_room_broadcast("é" * 512, "in")
    assert one.bolt.ws_room_leave("é" * 512, client.id)
    one.bolt.ws_room_broadcast("é" * 512, "out")
    await fleet.quiet()
    assert two.bolt.ws_room_members("é" * 512) == []
    assert client.got == ["in"]
    assert one.bolt.ws_room_members("é" * 512) == []


async def test_left_out(fleet: Fleet) -> None:
    """Those named in `exclude` are left out wherever they are, however they are given."""
    one, two = await fleet.two()
    here, there = one.client("blue"), two.client("blue")
    also, named = two.client("blue", "x" * 200), one.client("x" * 200)
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "but there", there.id)
    one.bolt.ws_room_broadcast("blue", "but here", [here.id])
    one.bolt.ws_room_broadcast("blue", "but two", iter((there.id, here.id)))
    one.bolt.ws_room_broadcast_binary("blue", b"but none", ())
    await fleet.quiet()
    two.bolt.ws_room_broadcast("x" * 200, "but named", (named.id, NOBODY))
    await fleet.quiet()
    assert here.got == ["but there", b"but none"]
    assert there.got == ["but here", b"but none"]
    assert also.got == ["but there", "but here", "but two", b"but none", "but named"]
    assert named.got == []


@pytest.mark.parametrize("name", ["a" * 36, "0" * 30 + " " * 6, "-" * 36, "é" * 36, "nobody", ""])
async def test_left_out_who_is_nobody(fleet: Fleet, name: str) -> None:
    """What is no client's id leaves nobody out, and does nothing to the message."""
    one, two = await fleet.two()
    there = two.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "a message of some length", [name])
    await fleet.quiet()
    assert there.got == ["a message of some length"]


async def test_left_out_who_is_no_str(fleet: Fleet) -> None:
    """None among those to leave out, who is not known yet, works as it does in one process."""
    one, two = await fleet.two()
    there = two.client("blue")
    await fleet.quiet()
    exclude: list[str | None] = [None]
    one.bolt.ws_room_broadcast("blue", "x", exclude)  # type: ignore[arg-type]
    await fleet.quiet()
    assert there.got == ["x"]


async def test_order(fleet: Fleet) -> None:
    """What one node sends to one room arrives in that order, text and bytes mixed."""
    one, two = await fleet.two()
    clients = [two.client("blue"), one.client("blue"), two.client("blue")]
    await fleet.quiet()
    wanted: list[str | bytes] = []
    for number in range(200):
        if number % 3:
            wanted.append(str(number))
            one.bolt.ws_room_broadcast("blue", str(number))
        else:
            wanted.append(bytes([number]))
            one.bolt.ws_room_broadcast_binary("blue", bytes([number]))
    await fleet.quiet()
    assert all(client.got == wanted for client in clients)


async def test_no_echo(fleet: Fleet) -> None:
    """A node does not hear what it has published itself."""
    one = await fleet.node()
    client = one.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "a")
    one.bolt.ws_broadcast("b")
    await fleet.quiet()
    assert client.got == ["a", "b"]
    assert one.link.options["no_echo"] is True
    assert (one.stats.backplane_published, one.stats.backplane_received) == (2, 0)


async def test_local_members_first(fleet: Fleet) -> None:
    """Members here have a message when the call returns, before it is on its way."""
    one, two = await fleet.two()
    here, there = one.client("blue"), two.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "x")
    assert (here.got, there.got) == (["x"], [])


@pytest.mark.parametrize("name", ["nobody", "", NOBODY, NOBODY.upper(), NOBODY.replace("-", "")])
async def test_an_unknown_client(fleet: Fleet, name: str) -> None:
    """No node has it: nothing is published, and the books say that there is no such client."""
    one, _ = await fleet.two()
    assert not one.bolt.ws_send_to(name, "x")
    assert not one.bolt.ws_close_client(name)
    assert not one.bolt.ws_room_join("blue", name)
    assert not one.bolt.ws_room_leave("blue", name)
    assert one.stats.dropped_out == {"no_client": 1}
    assert one.stats.backplane_published == 0


async def test_a_client_that_has_gone(fleet: Fleet) -> None:
    """Its node knows, and counts it; a node that sent to it could not know."""
    one, two = await fleet.two()
    client, own = two.client(), one.client()
    client.leaves()
    own.leaves()
    assert one.bolt.ws_send_to(client.id, "x")
    assert not one.bolt.ws_send_to(own.id, "x")  # one of ours is asked for nowhere else
    await fleet.quiet()
    assert two.stats.dropped_out == {"no_client": 1}
    assert one.stats.dropped_out == {"no_client": 1}


async def test_a_node_that_has_gone(fleet: Fleet) -> None:
    """What is for its clients is refused at once."""
    one, two = await fleet.two()
    client = two.client()
    await two.stop()
    await fleet.quiet()
    assert not one.bolt.ws_send_to(client.id, "x")
    assert not one.bolt.ws_close_client(client.id)
    assert not one.bolt.ws_room_join("blue", client.id)


async def test_one_message_however_many_members(fleet: Fleet) -> None:
    """A room with many members on many nodes costs one publish."""
    one, two = await fleet.two()
    three = await fleet.node()
    clients = [node.client("blue") for node in (one, two, three) for _ in range(20)]
    await fleet.quiet()
    fleet.nats.posted.clear()
    assert one.bolt.ws_room_broadcast("blue", "x") == 20
    await fleet.quiet()
    assert [client.got for client in clients] == [["x"]] * 60
    assert len(fleet.nats.on("")) == 1


async def test_a_message_for_another_room_of_the_same_hash(fleet: Fleet) -> None:
    """A long name stands in the envelope, and only the room of that name gets the message."""
    one, two = await fleet.two()
    client = two.client("x" * 97)
    await fleet.quiet()
    one.bolt.ws_room_broadcast("x" * 97, "right")
    await fleet.quiet()
    right: Posted = fleet.nats.on(".r.")[0]
    wrong = head(envelope.ROOM, envelope.NAME) + envelope.pack_name("y" * 97) + b"wrong"
    fleet.nats.publish(right.subject, wrong)
    await fleet.quiet()
    assert client.got == ["right"]
