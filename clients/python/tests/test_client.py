"""The client's manners, against scripted answers; the real server meets it in the notebook's story."""

from __future__ import annotations

import json
from collections.abc import Iterable

import httpx
import pytest

from muster import Muster, Refused, Timeout, Unreachable, client


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(client.time, "sleep", slept.append)
    return slept


class Server:
    """Answers in order, and remembers what was asked."""

    def __init__(self, answers: Iterable[httpx.Response | Exception]) -> None:
        self.answers = iter(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def muster(self, **options: str) -> Muster:
        return Muster("http://fleet", transport=httpx.MockTransport(self), **options)  # type: ignore[arg-type]


def problem(status: int, code: str, **more: object) -> httpx.Response:
    body = {"type": f"/problems/{code}", "title": code, "status": status, "code": code, "detail": "it is wrong", **more}
    return httpx.Response(status, json=body, headers={"content-type": "application/problem+json"})


def test_pages_are_walked_to_the_end_with_the_same_filter() -> None:
    server = Server(
        [httpx.Response(200, json={"items": [1, 2], "next": "c 1"}), httpx.Response(200, json={"items": [3]})]
    )
    fleet = server.muster()
    assert list(fleet.pages(fleet.list_devices, site="er-1")) == [1, 2, 3]
    assert [str(request.url) for request in server.asked] == [
        "http://fleet/api/v1/devices?site=er-1",
        "http://fleet/api/v1/devices?site=er-1&cursor=c+1",
    ]


def test_who_acts_and_the_token_travel_and_paths_are_quoted() -> None:
    server = Server([httpx.Response(200, json={})])
    server.muster(actor="anna", token="s3cret").get_device("../x y")
    (request,) = server.asked
    assert request.headers["x-muster-actor"] == "anna"
    assert request.headers["authorization"] == "Bearer s3cret"
    assert request.url.raw_path == b"/api/v1/devices/..%2Fx%20y"


def test_a_revision_is_an_etag_in_quotes() -> None:
    server = Server([httpx.Response(200, json={})])
    server.muster().put_site("er-1", {"zone": "UTC"}, if_match=7)  # type: ignore[typeddict-unknown-key]
    assert server.asked[0].headers["if-match"] == '"7"'
    assert json.loads(server.asked[0].content) == {"zone": "UTC"}


def test_a_refusal_is_told_whole() -> None:
    faults = [{"pointer": "/stages/0", "detail": "bakes too short"}]
    server = Server([problem(422, "invalid", errors=faults, next="make it longer")])
    with pytest.raises(Refused) as refusal:
        server.muster().create_rollout({"model": "er", "bundle": "b", "stages": []})  # type: ignore[typeddict-item]
    assert (refusal.value.status, refusal.value.code) == (422, "invalid")
    for said in ("it is wrong", "/stages/0: bakes too short", "make it longer"):
        assert said in str(refusal.value)


def test_what_is_no_problem_document_is_still_a_refusal() -> None:
    server = Server([httpx.Response(404, text="<html>")])
    with pytest.raises(Refused, match="without a problem document"):
        server.muster().get_overview()


def test_only_what_is_safe_is_tried_again(no_waiting: list[float]) -> None:
    busy = httpx.Response(503, headers={"retry-after": "2"})
    server = Server([busy, httpx.ConnectError("down"), httpx.Response(200, json={"ok": 1})])
    assert server.muster().get_overview() == {"ok": 1}
    assert no_waiting == [2.0, 0.5]

    server = Server([httpx.ConnectError("down")])
    with pytest.raises(Unreachable):
        server.muster().create_run({"model": "er", "reason": "new season"})  # type: ignore[typeddict-unknown-key]
    assert len(server.asked) == 1


def test_a_server_cannot_ask_for_endless_patience_or_attempts(no_waiting: list[float]) -> None:
    server = Server([httpx.Response(429, headers={"retry-after": "86400"})] * 3 + [problem(429, "busy")])
    with pytest.raises(Refused):
        server.muster().get_overview()
    assert no_waiting == [client.PATIENCE_S] * 3


def test_waiting_ends_with_the_phase_it_is_in() -> None:
    running = httpx.Response(200, json={"phase": {"is": "running"}})
    server = Server([running, httpx.Response(200, json={"phase": {"is": "completed"}})])
    assert server.muster().wait_for_rollout("rol-1", timeout_s=60)["phase"]["is"] == "completed"
    with pytest.raises(Timeout, match="rol-1 is running after 0 s"):
        Server([running]).muster().wait_for_rollout("rol-1", timeout_s=0.5)


def test_events_resume_after_a_lost_connection() -> None:
    def stream(*ids: int) -> httpx.Response:
        data = json.dumps({"subject": "dev-1", "sentence": "joined"})
        text = "".join(f"id: {id}\nevent: device.joined\ndata: {data}\n\n" for id in ids)
        return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})

    server = Server([stream(4, 5), httpx.ReadError("lost"), stream(6)])
    events = server.muster().events(after=3)
    assert [next(events).id for _ in range(3)] == [4, 5, 6]
    assert [request.headers["last-event-id"] for request in server.asked] == ["3", "5", "5"]
    assert next(Server([stream(9)]).muster().events()).sentence == "joined"
