"""What operations are given: no type passes for an id that is nobody's."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from .flow import Start
from .test_runtime import operations, plain


@pytest.mark.parametrize("given", [None, 5, b"id", UUID(int=0), object()])
async def test_what_is_no_clients_id(start: Start, given: Any) -> None:
    """A TypeError that says what is one; nothing is counted as a client that has gone."""
    bolt = plain()
    start(bolt).connect()
    for name in ("ws_send_to ws_send_binary_to ws_close_client ws_room_join ws_room_leave").split():
        what = f"a client id is a str, not {type(given).__name__}; event.client_id is it"
        with pytest.raises(TypeError, match=what):
            operations(bolt, given)[name]()
    with pytest.raises(TypeError, match="a client id"):
        await bolt.ws_drain(given)
    with pytest.raises(TypeError, match="a client id"):
        await bolt.cluster.room_join("a", given)
    assert bolt.stats().dropped_out == {}


async def test_what_excludes_nobody(start: Start) -> None:
    """A TypeError, rather than a message to who was to be left out."""
    bolt = plain()
    client = start(bolt).connect()
    bolt.ws_room_join("a", client.id)
    wrong: list[Any] = [5, object(), [client], [5], b"id"]
    for exclude in wrong:
        with pytest.raises(TypeError, match="exclude is a client id or ids|a client id is a str"):
            bolt.ws_room_broadcast("a", "x", exclude)
        with pytest.raises(TypeError, match="exclude is a client id or ids|a client id is a str"):
            bolt.ws_room_broadcast_binary("a", b"x", exclude)
    assert client.got == []
    unknown: Any = [None, client.id]
    assert bolt.ws_room_broadcast("a", "x", unknown) == 0
    assert bolt.ws_room_broadcast("a", "x", iter([client.id])) == 0
