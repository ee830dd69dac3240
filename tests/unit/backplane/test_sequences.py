"""What is lost is counted: once, exactly, and within a heartbeat."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from boltws.backplane.sequences import KEPT, REPORTED, Incoming, Outgoing

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


def test_gaps() -> None:
    """Each message says how many before it did not come."""
    incoming = Incoming()
    assert incoming.heard(A, 1, 5) == 0  # counting begins with what is heard first
    assert incoming.heard(A, 1, 6) == 0
    assert incoming.heard(A, 1, 10) == 3
    assert incoming.heard(A, 1, 11) == 0


def test_a_late_message() -> None:
    """It was counted as lost: it must be dropped, however often it comes."""
    incoming = Incoming()
    incoming.heard(A, 1, 1)
    assert incoming.heard(A, 1, 3) == 1
    assert incoming.heard(A, 1, 2) == -1
    assert incoming.heard(A, 1, 2) == -1
    assert incoming.heard(A, 1, 3) == -1  # twice
    assert incoming.heard(A, 1, 4) == 0


def test_a_new_series() -> None:
    """All of it is due from its first message on; what comes of the old one is too late."""
    incoming = Incoming()
    incoming.heard(A, 4, 9)
    assert incoming.heard(A, 7, 3) == 2
    assert incoming.heard(A, 4, 10) == -1
    assert incoming.told(A, 4, 12, True) == 0
    assert incoming.heard(A, 7, 4) == 0


def test_told() -> None:
    """A heartbeat counts what is lost of the end, once."""
    incoming = Incoming()
    incoming.heard(A, 1, 1)
    assert incoming.told(A, 1, 1, True) == 0
    assert incoming.told(A, 1, 4, True) == 3
    assert incoming.told(A, 1, 4, True) == 0
    assert incoming.heard(A, 1, 4) == -1
    assert incoming.heard(A, 1, 6) == 1
    assert incoming.told(A, 1, 5, True) == 0  # an old heartbeat
    assert incoming.told(A, 2, 3, True) == 3
    assert incoming.heard(A, 1, 7) == -1


def test_told_at_first() -> None:
    """Counting begins with a heartbeat as well, when the subscription stands."""
    incoming = Incoming()
    assert incoming.told(A, 1, 4, False) == 0
    assert incoming.heard(A, 1, 9) == 0  # not due before: it began here
    other = Incoming()
    assert other.told(A, 1, 4, True) == 0
    assert other.heard(A, 1, 9) == 4


def test_nodes_apart() -> None:
    """Each node has its own numbers, and is forgotten alone."""
    incoming = Incoming()
    incoming.heard(A, 1, 1)
    incoming.heard(B, 1, 1)
    incoming.forget(A)
    incoming.forget(b"never")
    assert incoming.heard(A, 1, 7) == 0
    assert incoming.heard(B, 1, 7) == 5


class Numbers(RuleBasedStateMachine):
    """One publisher, one receiver, and a channel that loses, delays and repeats.

    Whatever it does, at each heartbeat that arrives the receiver has counted exactly those that
    were published since it began to count and that it did not take. At most three heartbeats in
    a row are lost: there are four after the last message of a series.
    """

    def __init__(self) -> None:
        super().__init__()
        self.out = Outgoing()
        self.incoming = Incoming()
        self.published: list[tuple[int, int]] = []
        self.begun: int | None = None  # how many were published when counting began
        self.taken: set[tuple[int, int]] = set()
        self.late: list[tuple[int, int]] = []
        self.lost = 0
        self.missed = 0  # heartbeats in a row

    def arrives(self, message: tuple[int, int]) -> None:
        gap = self.incoming.heard(A, *message)
        if self.begun is None:
            assert gap == 0
            self.begun = self.published.index(message)
        if gap < 0:
            return
        assert message not in self.taken, "taken twice"
        self.taken.add(message)
        self.lost += gap

    def reported(self, everything: bool) -> None:
        for key, (series, sequence) in self.out.report(everything).items():
            assert key == "k"
            self.lost += self.incoming.told(A, series, sequence, True)
            if self.begun is None:
                self.begun = self.published.index((series, sequence)) + 1
        due = self.published[self.begun :] if self.begun is not None else []
        assert self.lost == len(due) - len(self.taken & set(due))

    @rule(fate=st.sampled_from(["arrives", "is lost", "is late"]))
    def publish(self, fate: str) -> None:
        message = numbers(self.out)
        self.published.append(message)
        if fate == "arrives":
            self.arrives(message)
        elif fate == "is late":
            self.late.append(message)

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def late_arrival(self, data: st.DataObject) -> None:
        """It comes now, and perhaps once more later."""
        self.arrives(data.draw(st.sampled_from(self.late)))

    @precondition(lambda self: self.missed < REPORTED - 1)
    @rule()
    def lost_heartbeat(self) -> None:
        self.out.report(False)
        self.missed += 1

    @rule()
    def heartbeat(self) -> None:
        self.missed = 0
        self.reported(False)

    @rule()
    def hello(self) -> None:
        self.missed = 0
        self.reported(True)

    @rule(count=st.integers(KEPT - 2, KEPT + 2))
    def idles(self, count: int) -> None:
        """Perhaps until the series is forgotten."""
        for number in range(count):
            if number % REPORTED == REPORTED - 1:
                self.heartbeat()
            elif self.missed < REPORTED - 1:
                self.lost_heartbeat()
            else:
                self.heartbeat()

    def teardown(self) -> None:
        self.reported(False)
        assert self.lost <= len(self.published)


Numbers.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestNumbers = Numbers.TestCase
