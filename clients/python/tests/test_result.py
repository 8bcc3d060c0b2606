"""The hand-back, against a server that takes it as the fleet does."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from muster import result


class Fleet(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.said: list[tuple[str, Any]] = []
        #: Statuses of the next answers; afterwards all is well.
        self.statuses: list[int] = []

    def request(self) -> result.Request:
        url = f"http://127.0.0.1:{self.server_port}/api/v1/runs/run-1/result"
        return result.Request.of({"schema": "muster-run/1", "result": {"url": url, "token": "mrt_1"}})


class Answer(BaseHTTPRequestHandler):
    server: Fleet

    def log_message(self, *_: Any) -> None:
        pass

    def do_PUT(self) -> None:
        self.take()

    def do_POST(self) -> None:
        self.take()

    def take(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if self.headers["Authorization"] != "Bearer mrt_1":
            status = 404
        path = self.path.removeprefix("/api/v1/runs/run-1/result")
        if status == 200 and self.command == "PUT":
            digest = path.removeprefix("/files/")
            status = 200 if hashlib.sha256(content).hexdigest() == digest else 422
            self.server.files[digest] = content
        elif status == 200:
            self.server.said.append((path, json.loads(content)))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b'{"detail": "no run takes a result by this token"}' if status == 404 else b"{}")


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setattr(result.time, "sleep", lambda _: None)
    server = Fleet()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_file_is_handed_back_by_its_digest(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "trainer.json").write_text("{}")
    (tmp_path / "saved_model" / "saved_model.pb").write_bytes(b"\0model")
    request = fleet.request()
    request.progress(["epoch 1"])
    request.succeeded(tmp_path)
    ((_, progress), (path, said)) = fleet.said
    assert (progress, path, said["status"]) == ({"log": ["epoch 1"]}, "", "succeeded")
    assert [file["path"] for file in said["files"]] == ["saved_model/saved_model.pb", "trainer.json"]
    assert [fleet.files[file["sha256"]] for file in said["files"]] == [b"\0model", b"{}"]
    assert [file["bytes"] for file in said["files"]] == [6, 2]


def test_a_failure_is_said(fleet: Fleet) -> None:
    fleet.request().failed("no rows since the onset")
    assert fleet.said == [("", {"status": "failed", "message": "no rows since the onset"})]


def test_a_fleet_that_restarts_is_waited_for(fleet: Fleet) -> None:
    fleet.statuses = [503, 500]
    fleet.request().failed("x")
    assert len(fleet.said) == 1
    fleet.statuses = [503] * result.TRIES
    with pytest.raises(result.HandBackError, match="503"):
        fleet.request().failed("x")


def test_what_is_refused_is_not_repeated(fleet: Fleet, tmp_path: Path) -> None:
    request = fleet.request()
    stale = result.Request(request.document, request.url, "mrt_0")
    with pytest.raises(result.HandBackError, match="no run takes a result"):
        stale.failed("x")
    with pytest.raises(result.HandBackError, match="nothing to hand back"):
        request.succeeded(tmp_path)
    assert fleet.said == []


def test_the_request_comes_from_where_tools_put_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MUSTER_REQUEST_JSON", "MUSTER_REQUEST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(result.HandBackError, match="MUSTER_REQUEST_JSON"):
        result.Request.from_environment()
    monkeypatch.setenv("MUSTER_REQUEST", json.dumps(fleet.request().document))
    assert result.Request.from_environment() == fleet.request()
    with pytest.raises(result.HandBackError, match="muster-run/1"):
        result.Request.of({"schema": "muster-run/1"})
