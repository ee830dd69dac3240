"""What is lost is counted: once, exactly, and within a heartbeat."""

from __future__ import annotations

import pytest

from boltws.backplane.peers import FORGOTTEN, HEARTBEAT
from boltws.backplane.sequences import KEPT, KEPT_FOR_SILENT, REPORTED, Incoming, Outgoing

A, B = b"aaaaa", b"bbbbb"


def numbers(outgoing: Outgoing, key: str = "k") -> tuple[int, int]:
    series, sequence, _ = outgoing.next(key)
    return series, sequence


# The publisher.


def test_numbers() -> None:
    """Each subject counts from 1, in a series of its own."""
    out = Outgoing()
    assert [numbers(out) for _ in range(3)] == [(1, 1), (1, 2), (1, 3)]
    assert [numbers(out, "other") for _ in range(2)] == [(2, 1), (2, 2)]
    assert numbers(out) == (1, 4)


def test_reports() -> None:
    """The last numbers are told in the next heartbeats, and then no more."""
    out = Outgoing()
    assert out.report(False) == {}
    numbers(out)
    numbers(out)
    numbers(out, "other")
    for _ in range(REPORTED):
        assert out.report(False) == {"k": (1, 2), "other": (2, 1)}
    assert out.report(False) == {}
    numbers(out)
    assert out.report(False) == {"k": (1, 3)}


def test_a_report_of_everything() -> None:
    """To a node that has just come, quiet subjects are told too."""
    out = Outgoing()
    numbers(out)
    for _ in range(REPORTED + 1):
        out.report(False)
    assert out.report(False) == {}
    assert out.report(True) == {"k": (1, 1)}


def test_idle_subjects_are_forgotten() -> None:
    """After that many heartbeats; what comes then is a new series."""
    out = Outgoing()
    numbers(out)
    for _ in range(KEPT):
        assert out._last
        out.report(False)
    out.report(False)
    assert not out._last
    assert out.report(True) == {}
    assert numbers(out) == (2, 1)


def test_idle_subjects_are_kept_for_a_silent_node() -> None:
    """For as long as it is remembered, and for the moment that it takes it to ask."""
    out = Outgoing()
    numbers(out)
    for _ in range(KEPT_FOR_SILENT - REPORTED):
        out.report(False, silent=True)
    for _ in range(REPORTED - 1):
        out.report(False)
        assert out.report(True) == {"k": (1, 1)}
    out.report(False)
    assert out.report(True) == {}


def test_a_silent_node_is_not_waited_for_without_end() -> None:
    """One after the other may be silent."""
    assert KEPT_FOR_SILENT >= KEPT + FORGOTTEN / HEARTBEAT
    out = Outgoing()
    numbers(out)
    for _ in range(KEPT_FOR_SILENT):
        out.report(False, silent=True)
    assert out.report(True, silent=True) == {"k": (1, 1)}
    out.report(False, silent=True)
    assert out.report(True, silent=True) == {}


def test_a_busy_subject_is_kept() -> None:
    """A series ends by idling alone."""
    out = Outgoing()
    for number in range(1, 10):
        assert numbers(out) == (1, number)
        for _ in range(KEPT):
            out.report(False)


@pytest.mark.parametrize("hellos", [REPORTED, KEPT + 1])
def test_hellos_are_no_heartbeats(hellos: int) -> None:
    """Many nodes come within a moment: what was published is told in the next heartbeats still,
    for those who miss all that is sent in this moment."""
    out = Outgoing()
    numbers(out)
    for _ in range(hellos):
        out.report(True)
    assert out.report(False) == {"k": (1, 1)}


# The receiver.


def begun(series: int, sequence: int) -> Incoming:
    """What counts from there, for one node."""
    incoming = Incoming()
    incoming.begin(A, series, sequence)
    return incoming


def test_gaps() -> None:
    """Each message says how many before it did not come."""
    incoming = Incoming()
    assert incoming.heard(A, 1, 5) is None  # whoever asks says where counting begins
    assert incoming.heard(A, 1, 5) is None
    incoming.begin(A, 1, 5)
    assert incoming.heard(A, 1, 6) == 0
    assert incoming.heard(A, 1, 10) == 3
    assert incoming.heard(A, 1, 11) == 0


def test_a_late_message() -> None:
    """It was counted as lost: it must be dropped, however often it comes."""
    incoming = begun(1, 1)
    assert incoming.heard(A, 1, 1) == -1  # the one that it began with
    assert incoming.heard(A, 1, 3) == 1
    assert incoming.heard(A, 1, 2) == -1
    assert incoming.heard(A, 1, 2) == -1
    assert incoming.heard(A, 1, 3) == -1  # twice
    assert incoming.heard(A, 1, 4) == 0


def test_a_new_series() -> None:
    """All of it is due from its first message on; what comes of the old one is too late."""
    incoming = begun(4, 9)
    assert incoming.heard(A, 7, 3) == 2
    assert incoming.heard(A, 4, 10) == -1
    assert incoming.told(A, 4, 12) == 0
    assert incoming.heard(A, 7, 4) == 0


def test_told() -> None:
    """A heartbeat counts what is lost of the end, once."""
    incoming = begun(1, 1)
    assert incoming.told(A, 1, 1) == 0
    assert incoming.told(A, 1, 4) == 3
    assert incoming.told(A, 1, 4) == 0
    assert incoming.heard(A, 1, 4) == -1
    assert incoming.heard(A, 1, 6) == 1
    assert incoming.told(A, 1, 5) == 0  # an old heartbeat
    assert incoming.told(A, 2, 3) == 3
    assert incoming.heard(A, 1, 7) == -1


def test_told_at_first() -> None:
    """Counting begins with a heartbeat as well, and not before somebody says so."""
    incoming = Incoming()
    assert incoming.told(A, 1, 4) is None
    assert incoming.told(A, 1, 4) is None
    assert incoming.heard(A, 1, 4) is None
    incoming.begin(A, 1, 4)
    assert incoming.told(A, 1, 4) == 0
    assert incoming.heard(A, 1, 4) == -1
    assert incoming.heard(A, 1, 9) == 4


def test_nodes_apart() -> None:
    """Each node has its own numbers, and is forgotten alone."""
    incoming = begun(1, 1)
    incoming.begin(B, 1, 1)
    incoming.forget(A)
    incoming.forget(b"never")
    assert incoming.heard(A, 1, 7) is None
    assert incoming.heard(B, 1, 7) == 5
