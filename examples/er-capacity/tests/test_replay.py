"""One site against a box, with both times in the test's hand: nothing here waits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from box_double import INFER, LABELS, BoxDouble

from er import replay
from er.box import Box, BoxError
from er.features import feature_matrix
from er.generator import Patients, Site, generate
from er.replay import SiteReplay
from er.world import DAY_H, ms_of_hour

SITE = Site("er-1", 11)
DAY = 800


@pytest.fixture
def box() -> Iterator[BoxDouble]:
    with BoxDouble() as double:
        yield double


class Driver:
    """A replay, and the two clocks that drive it."""

    def __init__(self, box: BoxDouble, from_h: float = DAY * DAY_H) -> None:
        self.client = Box(box.url)
        self.replay = SiteReplay(SITE, "deterioration", self.client.post, from_h, DAY)
        self.now_h = from_h
        self.wall_s = 1000.0

    def advance(self, hours: float, steps: int = 1, wall_s: float = 0.05) -> None:
        for _ in range(steps):
            self.now_h += hours / steps
            self.wall_s += wall_s
            self.replay.step(ms_of_hour(self.now_h), self.wall_s)


def test_everyone_is_scored_once_in_order_and_their_outcomes_follow_a_day_later(box: BoxDouble) -> None:
    driver = Driver(box)
    driver.advance(DAY_H, steps=96)
    patients = generate(SITE, DAY, DAY + 1, DAY)
    assert box.patients() == len(patients) == driver.replay.counters.sent
    tensors = [call["inputs"][0] for call in box.accepted[INFER]]
    assert all(t["name"] == "x" and t["datatype"] == "FP32" and t["shape"][1] == 27 for t in tensors)
    x = np.concatenate([np.reshape(t["data"], t["shape"]) for t in tensors])
    np.testing.assert_allclose(x, feature_matrix(vars(patients)), atol=1e-6)
    ids = [call["id"] for call in box.accepted[INFER]]
    assert len(set(ids)) == len(ids) > 24
    assert box.labels() == [], "nobody's outcome is known on the day itself"

    # Exactly those who arrived 24 hours ago.
    driver.advance(12, steps=12, wall_s=1)
    assert len(box.labels()) == np.sum(patients.time_h <= DAY * DAY_H + 12)
    driver.advance(12, steps=12, wall_s=1)
    sent = {
        (call["id"], row): value
        for call, value in zip(box.accepted[INFER], _outcomes_by_call(box, patients), strict=False)
        for row, value in enumerate(value)
    }
    reported = {(label["request"], label["row"]): label["value"] for label in box.labels()}
    assert reported.items() <= sent.items() and len(reported) == len(patients)
    assert {call["slot"] for call in box.accepted[LABELS]} == {"deterioration"}
    assert driver.replay.counters.labels == len(patients) and box.connections == 1


def test_a_restarting_box_costs_nobody_and_is_mentioned_once(
    box: BoxDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = Driver(box)
    driver.advance(2, steps=8)
    box.answer = lambda path, body: 503
    driver.advance(3, steps=60)
    waiting = driver.replay.waiting()
    assert waiting > 0
    # The very same request is offered again, less and less often.
    assert 2 <= len(box.refused) < 10 and all(call == box.refused[0] for call in box.refused)
    box.answer = lambda path, body: 200
    driver.advance(1, steps=10, wall_s=1)
    patients = generate(SITE, DAY, DAY + 1, DAY)
    assert box.patients() == np.sum(patients.time_h <= DAY * DAY_H + 6) == driver.replay.counters.sent
    assert driver.replay.counters.failed == 0 and driver.replay.waiting() == 0
    err = capsys.readouterr().err
    assert err.count("infer: HTTP 503") == 1 and "told to say 503" in err


def test_patients_nobody_could_score_are_given_up_after_a_while(box: BoxDouble) -> None:
    driver = Driver(box)
    box.answer = lambda path, body: 503 if path == INFER else 200
    driver.advance(1, steps=10)
    first = len(generate(SITE, DAY, DAY + 1, DAY).time_h)
    driver.advance(1, steps=100, wall_s=1)
    failed = driver.replay.counters.failed
    assert 0 < failed < first
    box.answer = lambda path, body: 200
    driver.advance(0, steps=5, wall_s=2)
    assert driver.replay.waiting() == 0 and driver.replay.counters.sent > 0
    driver.advance(26, steps=60, wall_s=1)
    # Who was not scored has no outcome to report.
    assert {label["request"] for label in box.labels()} <= {call["id"] for call in box.accepted[INFER]}


def test_a_request_that_the_box_calls_wrong_is_not_repeated(box: BoxDouble) -> None:
    driver = Driver(box)
    box.answer = lambda path, body: 400
    driver.advance(6, steps=24)
    ids = [call["id"] for call in box.refused]
    assert len(ids) == len(set(ids)) > 5
    assert driver.replay.waiting() == 0 and driver.replay.counters.failed > 0


def test_outcomes_wait_for_a_box_that_is_away(box: BoxDouble) -> None:
    driver = Driver(box)
    driver.advance(6, steps=6)
    sent = driver.replay.counters.sent
    box.answer = lambda path, body: 503 if path == LABELS else 200
    driver.advance(30, steps=30, wall_s=2)
    assert box.labels() == []
    box.answer = lambda path, body: 200
    driver.advance(0, steps=4, wall_s=2)
    assert len(box.labels()) >= sent and driver.replay.counters.labels_failed == 0


def test_both_queues_are_bounded(
    box: BoxDouble, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(replay, "OUTBOX_MAX", 50)
    monkeypatch.setattr(replay, "AWAITING_MAX", 30)
    driver = Driver(box)
    box.answer = lambda path, body: 503
    driver.advance(DAY_H, steps=24)
    assert driver.replay.waiting() == 50
    box.answer = lambda path, body: 200
    driver.advance(0, steps=3, wall_s=2)
    counters = driver.replay.counters
    assert (counters.sent, counters.labels_failed) == (50, 20)
    assert counters.sent + counters.failed == len(generate(SITE, DAY, DAY + 1, DAY))
    err = capsys.readouterr().err
    assert err.count("outbox full") == 1 and err.count("labels: queue full") == 1


def test_a_process_that_slept_catches_up_in_requests_of_bounded_size(box: BoxDouble) -> None:
    driver = Driver(box)
    driver.advance(5 * DAY_H)
    sizes = [call["inputs"][0]["shape"][0] for call in box.accepted[INFER]]
    assert sum(sizes) == len(generate(SITE, DAY, DAY + 5, DAY)) and max(sizes) <= 256


def test_a_replay_that_begins_at_noon_leaves_the_morning_out(box: BoxDouble) -> None:
    noon = DAY * DAY_H + 12.0
    driver = Driver(box, from_h=noon)
    driver.advance(12, steps=12)
    assert box.patients() == np.sum(generate(SITE, DAY, DAY + 1, DAY).time_h >= noon)


def test_a_box_that_is_not_there_is_a_transient_error() -> None:
    with BoxDouble() as gone:
        url = gone.url
    with pytest.raises(BoxError) as caught:
        Box(url).post(INFER, {})
    assert caught.value.transient and caught.value.kind == "ConnectionRefusedError"


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "https://127.0.0.1", "http://"])
def test_an_address_that_cannot_be_called_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an http"):
        Box(url)


def _outcomes_by_call(box: BoxDouble, patients: Patients) -> list[list[float]]:
    """The true outcomes, cut as the requests were cut."""
    cut, calls = 0, []
    for call in box.accepted[INFER]:
        rows = call["inputs"][0]["shape"][0]
        calls.append([float(v) for v in patients.deterioration_24h[cut : cut + rows]])
        cut += rows
    return calls
