"""One site's live traffic: patients are scored as they arrive, outcomes are reported a day later.

    generator ──arrivals──▶ outbox ──infer──▶ box
                                     │ accepted
                                     ▼
                            awaiting outcome ──labels, 24 h later──▶ box

Owns two bounded queues and what happens to a patient when the box does not answer. Driven from outside: `step` is
told both times, world and wall, so that tests need no waiting. Used by one thread.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from er.box import BoxError
from er.features import FEATURES, LABEL, feature_matrix
from er.generator import Patients, Site, generate
from er.world import DAY_H, LABEL_DELAY_H, hour_of_ms

REQUEST_ROWS_MAX = 256
#: Requests per step, so that a long outage's backlog does not starve the outcomes.
REQUESTS_PER_STEP = 8
#: Patients that wait for the box; beyond it the newest are not scored, as in a real outage.
OUTBOX_MAX = 4096
#: A patient whom nobody could score for this long has been seen without a score.
RETRY_WALL_S = 30.0
LABELS_PER_POST = 256
LABELS_WALL_S = 0.2
#: Outcomes not yet due or not yet accepted; beyond it the oldest are dropped.
AWAITING_MAX = 20_000
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 1.0

Post = Callable[[str, dict[str, Any]], None]


@dataclass
class Counters:
    """What became of the patients and their outcomes so far."""

    sent: int = 0
    failed: int = 0
    labels: int = 0
    labels_failed: int = 0


@dataclass
class _Request:
    """Patients that go to the box together; the id stays the same however often it is tried."""

    id: str
    rows: list[NDArray[np.float32]]
    arrived_h: list[float]
    outcomes: list[float]
    first_tried_s: float | None = None


@dataclass(frozen=True)
class _Outcome:
    due_h: float
    request: str
    row: int
    value: float


@dataclass
class _Backoff:
    """Waits longer after every failure, up to a bound."""

    until_s: float = 0.0
    delay_s: float = BACKOFF_FIRST_S

    def failed(self, now_s: float) -> None:
        self.until_s = now_s + self.delay_s
        self.delay_s = min(self.delay_s * 2, BACKOFF_MAX_S)

    def succeeded(self) -> None:
        self.delay_s = BACKOFF_FIRST_S


@dataclass
class SiteReplay:
    """Replays one site against one box, from a world time on."""

    site: Site
    slot: str
    post: Post
    from_h: float
    epidemic_from_day: int | None = None
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self._outbox: deque[_Request] = deque()
        self._awaiting: deque[_Outcome] = deque()
        self._infer_backoff = _Backoff()
        self._label_backoff = _Backoff()
        self._labels_due_s = 0.0
        self._told: set[str] = set()
        self._open_day(int(self.from_h // DAY_H))
        self._next = int(np.searchsorted(self._today.time_h, self.from_h))

    def waiting(self) -> int:
        """Patients who arrived and were neither scored nor given up."""
        return sum(len(request.rows) for request in self._outbox)

    def step(self, world_ms: float, wall_s: float) -> None:
        """Does all that is due at a moment."""
        now_h = hour_of_ms(world_ms)
        self._admit(now_h)
        self._score(wall_s)
        self._report_outcomes(now_h, wall_s)

    def _admit(self, now_h: float) -> None:
        """Puts everyone who arrived by now into the outbox."""
        while True:
            end = int(np.searchsorted(self._today.time_h, now_h, side="right"))
            waiting = self.waiting()
            for i in range(self._next, end):
                if waiting < OUTBOX_MAX:
                    self._enqueue(i)
                    waiting += 1
                else:
                    self.counters.failed += 1
                    self._tell("outbox full", f"{OUTBOX_MAX} patients wait for the box; more are not scored")
            self._next = max(self._next, end)
            if now_h < (self._day + 1) * DAY_H:
                return
            self._open_day(self._day + 1)

    def _open_day(self, day: int) -> None:
        self._day = day
        self._today: Patients = generate(self.site, day, day + 1, self.epidemic_from_day)
        self._x = feature_matrix(vars(self._today))
        self._outcome = getattr(self._today, LABEL)
        self._next = 0

    def _enqueue(self, i: int) -> None:
        """Adds a patient to the newest request that nobody has tried yet."""
        last = self._outbox[-1] if self._outbox else None
        if last is None or last.first_tried_s is not None or len(last.rows) >= REQUEST_ROWS_MAX:
            # Named after its first patient: unique, and the same after a restart.
            last = _Request(self._today.patient_id[i], [], [], [])
            self._outbox.append(last)
        last.rows.append(self._x[i])
        last.arrived_h.append(float(self._today.time_h[i]))
        last.outcomes.append(float(self._outcome[i]))

    def _score(self, wall_s: float) -> None:
        """Sends the oldest requests; a box that does not answer is asked again, for a bounded time."""
        for _ in range(REQUESTS_PER_STEP):
            if not self._outbox or wall_s < self._infer_backoff.until_s:
                return
            request = self._outbox[0]
            if request.first_tried_s is None:
                request.first_tried_s = wall_s
            try:
                self.post(f"/v2/models/{self.slot}/infer", _infer_document(request))
            except BoxError as error:
                self._tell(f"infer: {error.kind}", error.detail)
                if error.transient:
                    self._infer_backoff.failed(wall_s)
                if not error.transient or wall_s - request.first_tried_s >= RETRY_WALL_S:
                    self._outbox.popleft()
                    self.counters.failed += len(request.rows)
                continue
            self._infer_backoff.succeeded()
            self._outbox.popleft()
            self.counters.sent += len(request.rows)
            self._await_outcomes(request)

    def _await_outcomes(self, request: _Request) -> None:
        """Only patients that the box has scored get an outcome; the queue stays in order of arrival."""
        for row, (arrived_h, value) in enumerate(zip(request.arrived_h, request.outcomes, strict=True)):
            self._awaiting.append(_Outcome(arrived_h + LABEL_DELAY_H, request.id, row, value))
        while len(self._awaiting) > AWAITING_MAX:
            self._awaiting.popleft()
            self.counters.labels_failed += 1
            self._tell("labels: queue full", f"more than {AWAITING_MAX} outcomes wait; the oldest are dropped")

    def _report_outcomes(self, now_h: float, wall_s: float) -> None:
        """Reports the outcomes that are known by now: at once if they fill a post, else a few times a second."""
        due: list[_Outcome] = []
        for outcome in self._awaiting:
            if outcome.due_h > now_h or len(due) == LABELS_PER_POST:
                break
            due.append(outcome)
        early = len(due) < LABELS_PER_POST and wall_s < self._labels_due_s
        if not due or early or wall_s < self._label_backoff.until_s:
            return
        self._labels_due_s = wall_s + LABELS_WALL_S
        labels = [{"request": o.request, "row": o.row, "value": o.value} for o in due]
        try:
            self.post("/muster/v1/labels", {"slot": self.slot, "labels": labels})
        except BoxError as error:
            self._tell(f"labels: {error.kind}", error.detail)
            if error.transient:
                self._label_backoff.failed(wall_s)
                return
            self.counters.labels_failed += len(due)
        else:
            self._label_backoff.succeeded()
            self.counters.labels += len(due)
        for _ in due:
            self._awaiting.popleft()

    def _tell(self, kind: str, detail: str) -> None:
        """Says each kind of trouble once: the counters tell how often."""
        if kind not in self._told:
            self._told.add(kind)
            print(f"hospital: {self.site.name}: {kind}: {detail} (said once)", file=sys.stderr, flush=True)


def _infer_document(request: _Request) -> dict[str, Any]:
    """The Open Inference Protocol's request, version 2, data in row order."""
    # Six decimals are more than FP32 keeps of these values, and half the bytes.
    data = np.round(np.stack(request.rows).astype(float), 6).ravel().tolist()
    tensor = {"name": "x", "shape": [len(request.rows), len(FEATURES)], "datatype": "FP32", "data": data}
    return {"id": request.id, "inputs": [tensor]}
