"""Client ids: UUIDs of version 8 whose first 40 bits name their node."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from boltws.ids import id_source


def test_an_id_is_a_uuid_of_version_8() -> None:
    """In its canonical form, with the variant of RFC 9562, across refills of the pool."""
    _, next_id = id_source()
    for _ in range(600):
        text = next_id()
        uuid = UUID(text)
        assert str(uuid) == text
        assert uuid.version == 8
        assert uuid.variant == RFC_4122


def test_no_id_comes_twice() -> None:
    """Neither within a pool of random bytes nor across pools."""
    _, next_id = id_source()
    assert len({next_id() for _ in range(2000)}) == 2000


def test_the_first_40_bits_name_the_node() -> None:
    """All ids of a source share them; another source, another process, has its own."""
    (_, one), (_, other) = id_source(), id_source()
    nodes = {UUID(one()).bytes[:5] for _ in range(600)}
    assert len(nodes) == 1
    assert UUID(other()).bytes[:5] not in nodes


def test_the_other_82_bits_are_random() -> None:
    """Every bit but the node, the version and the variant takes both values."""
    _, next_id = id_source()
    ids = [UUID(next_id()).int for _ in range(600)]
    ones, zeros = 0, 0
    for number in ids:
        ones |= number
        zeros |= ~number
    fixed = (2**40 - 1) << 88 | 0xF << 76 | 0b11 << 62
    assert ones & zeros == 2**128 - 1 - fixed
