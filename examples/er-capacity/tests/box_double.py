"""A box as far as the hospital can see one: the two HTTP calls that it makes, with failures on demand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

INFER = "/v2/models/deterioration/infer"
LABELS = "/muster/v1/labels"


class BoxDouble:
    """Serves on a free loopback port until its `with` block ends.

    `answer` decides the status of each call from its path and body; what got a 200 is in `accepted`, by path.
    """

    def __init__(self) -> None:
        self.answer: Callable[[str, dict[str, Any]], int] = lambda path, body: 200
        self.accepted: dict[str, list[dict[str, Any]]] = {INFER: [], LABELS: []}
        self.refused: list[dict[str, Any]] = []
        self.connections = 0
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def patients(self) -> int:
        """How many were accepted for scoring."""
        return sum(call["inputs"][0]["shape"][0] for call in self.accepted[INFER])

    def labels(self) -> list[dict[str, Any]]:
        """All outcomes that were accepted."""
        return [label for call in self.accepted[LABELS] for label in call["labels"]]

    def wait_until(self, predicate: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Waits for a state that calls bring about."""
        with self._changed:
            assert self._changed.wait_for(predicate, timeout_s), "the box did not see it in time"

    def __enter__(self) -> BoxDouble:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        box = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Or a kept-alive connection waits 40 ms for its own acknowledgement.
            disable_nagle_algorithm = True
            timeout = 5

            def setup(self) -> None:
                super().setup()
                box.connections += 1

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = box.answer(self.path, body) if self.path in box.accepted else 404
                with box._changed:
                    (box.accepted[self.path] if status == 200 else box.refused).append(body)
                    box._changed.notify_all()
                reply = json.dumps({} if status == 200 else {"error": f"told to say {status}"}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(reply)))
                # A box that goes down takes its connections with it.
                if status == 503:
                    self.close_connection = True
                    self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet: the tests look at `accepted`."""

        return Handler
