"""A storm is a rate, and has a name."""

import pytest

from lbspeaker.core.storm import CALM_S, MANY, MOST_MACS, STORM_OF_MANY_PER_S, StormDetector

HOST, SPEAKER = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


def storm(detector: StormDetector, mac: bytes, frames: int, now: float, *, member: bool = False) -> list[int]:
    """So many frames at one moment; return how many there were when that was news, of this very MAC."""
    told = [detector.seen(mac, now, member=member) for _ in range(frames)]
    assert {news[0] for news in told if news} <= {mac}
    return [news[1] for news in told if news]


ARMED = {
    "15 in a quarter of a second are as many as may be": (15, 0.25, False),
    "16 are more": (16, 0.25, True),
    "60 in a second": (60, 1.0, False),
    "61 in a second": (61, 1.0, True),
    "a few in a moment are no rate yet": (15, 0.001, False),
    "a stretch of time as short counts as a quarter of a second": (16, 0.001, True),
}


@pytest.mark.parametrize(("frames", "passed_s", "armed"), ARMED.values(), ids=ARMED)
def test_it_looks_at_frames_when_there_are_many(frames: int, passed_s: float, armed: bool) -> None:
    detector = StormDetector(0.0)
    detector.metered(frames, passed_s)
    assert detector.armed is armed


def test_it_looks_until_it_was_calm_for_a_while() -> None:
    detector = StormDetector(0.0)
    detector.metered(1000, 1.0)
    quarters = [1.25 + n / 4 for n in range(40)]
    armed = [at for at in quarters if detector.metered(0, at) is None and detector.armed]
    assert armed[-1] == 1.0 + CALM_S - 0.25


def test_what_was_counted_is_forgotten_when_it_is_calm() -> None:
    detector = StormDetector(0.0)
    storm(detector, HOST, 100, 0.0)
    detector.metered(0, 0.1)
    assert storm(detector, HOST, 100, 0.2) == []


def test_who_sends_more_than_a_hundred_in_a_second_storms_and_that_is_news_once() -> None:
    detector = StormDetector(0.0)
    assert storm(detector, HOST, 1000, 0.5) == [101]
    assert storm(detector, HOST, 1000, 1.5) == []
    assert detector.storms == 1
    assert storm(detector, SPEAKER, 101, 1.6) == [101], "another one is another news"
    assert detector.storms == 2


def test_a_speaker_may_send_what_profile_fast_sends() -> None:
    detector = StormDetector(0.0)
    assert storm(detector, SPEAKER, 200, 0.0, member=True) == []
    assert storm(detector, SPEAKER, 1, 0.0, member=True) == [201]


def test_a_total_is_no_storm_however_large() -> None:
    detector = StormDetector(0.0)
    for second in range(100):
        assert storm(detector, HOST, 100, second + 0.0) == []
    assert not detector.stormy(99.0)


def test_a_storm_is_over_when_it_was_calm_for_a_while_and_then_is_news_again() -> None:
    detector = StormDetector(0.0)
    assert not detector.stormy(0.0)
    storm(detector, HOST, 101, 0.0)
    storm(detector, HOST, 101, 2.0)
    assert detector.stormy(1.99 + CALM_S)
    assert not detector.stormy(2.0 + CALM_S)
    assert storm(detector, HOST, 101, 2.0 + CALM_S) == [101]
    assert detector.storms == 2


def crowd(detector: StormDetector, strangers: int, each: int, now: float) -> list[tuple[bytes, int]]:
    frames = [number.to_bytes(6, "big") for _ in range(each) for number in range(strangers)]
    return [news for mac in frames if (news := detector.seen(mac, now))]


def test_a_crowd_storms_together_though_nobody_does_alone() -> None:
    detector = StormDetector(0.0)
    assert crowd(detector, STORM_OF_MANY_PER_S, 1, 0.0) == []
    assert crowd(detector, 1000, 2, 1.0) == [(MANY, STORM_OF_MANY_PER_S + 1)]
    assert detector.stormy(1.0)
    assert detector.storms == 1


def test_who_storms_alone_is_no_crowd() -> None:
    detector = StormDetector(0.0)
    assert crowd(detector, 3, 1000, 0.0) == [(bytes(6)[:-1] + bytes([n]), 101) for n in range(3)]


def test_members_are_no_crowd() -> None:
    detector = StormDetector(0.0)
    assert not any(detector.seen(number.to_bytes(6, "big"), 0.0, member=True) for number in range(1000))


def test_of_too_many_macs_the_first_are_watched() -> None:
    detector = StormDetector(0.0)
    for number in range(MOST_MACS):
        detector.seen(number.to_bytes(6, "big"), 0.0, member=True)
    told = [detector.seen(HOST, 0.5) for _ in range(1000)]
    assert list(filter(None, told)) == [(MANY, STORM_OF_MANY_PER_S + 1)], "with whom there is no room for"
    assert storm(detector, bytes(6), 1000, 0.5) == [101]
    assert storm(detector, HOST, 1000, 1.0) == [101], "a new second, and room"
