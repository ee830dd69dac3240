"""Which nodes live."""

from __future__ import annotations

from boltws.backplane.peers import DEAD, FORGOTTEN, HEARTBEAT, Peers


def test_the_times() -> None:
    """As the design has them: three heartbeats may be lost, and a death is known within 7 s;
    one that was cut off for ten minutes is known still."""
    assert (HEARTBEAT, DEAD, FORGOTTEN) == (2.0, 7.0, 600.0)


def test_new() -> None:
    """A node is new when it is first heard, and again when it was gone."""
    peers = Peers()
    assert peers.heard("a", 0)
    assert not peers.heard("a", 1)
    assert peers.heard("b", 1)
    assert peers.gone("a")
    assert peers.heard("a", 2)
    assert not peers.silent
    assert peers.bury(9) == ["b", "a"]
    assert peers.silent
    assert peers.heard("b", 10)
    assert peers.silent
    assert peers.heard("a", 10)
    assert not peers.silent


def test_seven_seconds() -> None:
    """It lives until just before them, and is buried at them: no moment is in between."""
    peers = Peers()
    peers.heard("a", 100)
    for now in (100, 103.5, 106.999):
        assert (peers.live(now), peers.is_live("a", now)) == (["a"], True)
        assert peers.bury(now) == []
    assert (peers.live(107), peers.is_live("a", 107)) == ([], False)
    assert peers.bury(107) == ["a"]
    assert peers.bury(200) == []


def test_each_has_its_own_clock() -> None:
    """A heartbeat of one says nothing of another."""
    peers = Peers()
    peers.heard("a", 0)
    peers.heard("b", 0)
    peers.heard("a", 4)
    assert peers.live(7) == ["a"]
    assert peers.bury(7) == ["b"]
    assert peers.live(10.9) == ["a"]
    assert peers.bury(11) == ["a"]


def test_silent_but_not_buried() -> None:
    """One that is dead and not buried yet is no more among the living."""
    peers = Peers()
    peers.heard("a", 0)
    assert peers.live(8) == []
    assert not peers.heard("a", 8.5)  # it was only late
    assert peers.live(15) == ["a"]


def test_gone() -> None:
    """It took its leave: dead at once, and only once."""
    peers = Peers()
    peers.heard("a", 0)
    assert peers.gone("a")
    assert not peers.gone("a")
    assert not peers.gone("never heard")
    assert (peers.live(0), peers.bury(100)) == ([], [])


def test_the_dead_are_known_for_a_while() -> None:
    """Until just before ten minutes of silence, and then each is forgotten once."""
    peers = Peers()
    peers.heard("a", 0)
    peers.heard("b", 50)
    assert peers.bury(60) == ["a", "b"]
    assert peers.forget(599.9) == []
    assert peers.forget(600) == ["a"]
    assert peers.forget(649.9) == []
    assert peers.forget(1000) == ["b"]
    assert peers.forget(1e9) == []
    assert (peers.gone("a"), peers.gone("b")) == (False, False)


def test_the_living_are_not_forgotten() -> None:
    """Neither one that was never dead, nor one that came back from there."""
    peers = Peers()
    peers.heard("always", 0)
    peers.heard("back", 0)
    peers.heard("always", 600)
    assert peers.bury(600) == ["back"]
    assert peers.heard("back", 601)
    assert peers.forget(607) == []
    assert sorted(peers.bury(700)) == ["always", "back"]
    assert peers.forget(1199) == []
    assert peers.forget(1200) == ["always"]
    assert peers.forget(1201) == ["back"]


def test_the_leave_of_a_dead_one() -> None:
    """It was known still: so there is something to forget, now and not later."""
    peers = Peers()
    peers.heard("a", 0)
    assert peers.bury(10) == ["a"]
    assert peers.gone("a")
    assert not peers.gone("a")
    assert peers.forget(1e9) == []


def test_unknown() -> None:
    """A node that was never heard is not alive, at whatever time of a clock that begins at 0."""
    peers = Peers()
    assert not any(peers.is_live("a", now) for now in (0, 0.5, 6.9, 7, 1e9))


def test_our_own_heartbeat() -> None:
    """One that is late, and the first, begin the time anew for which the others are heard."""
    peers = Peers()
    assert not peers.beat(10)
    assert peers.heard_for(11) == 1
    assert peers.beat(12)
    assert peers.heard_for(14.9) == 4.9
    assert peers.heard_for(15) == 0
    assert not peers.beat(20)
    assert peers.heard_for(21) == 1
