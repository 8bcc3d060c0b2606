"""Hands a training's result back to the fleet, from wherever it ran: a Ray job, a task of Airflow, a build, a pod.

Standard library only, and nothing of this package: where nothing may be installed, this one file can be copied.

>>> from muster import result
>>> run = result.Request.from_environment()
>>> try:
...     train(run.document, "out")
...     run.succeeded("out")
... except NotEnoughRows as error:
...     run.failed(str(error))

The token in the request is good for one result of this attempt; handing back the same once more changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 60.0
#: A fleet that restarts is back within these tries; the pause doubles from the first one on.
TRIES = 6
PAUSE_S = 1.0
FAILURE_CHARS = 500


class HandBackError(Exception):
    """The fleet did not take it: the attempt has ended, or what was made is nothing that a trainer writes."""


@dataclass(frozen=True)
class Request:
    """What a run asks of its trainer, and where its result goes."""

    #: The `muster-run/1` document.
    document: dict[str, Any]
    url: str
    token: str

    @classmethod
    def of(cls, document: dict[str, Any]) -> Request:
        """From the document itself: Airflow's `conf["muster"]`, a webhook's `data`."""
        place = document.get("result") or {}
        if document.get("schema") != "muster-run/1" or not place.get("url") or not place.get("token"):
            raise HandBackError("this is no muster-run/1 document that says where its result goes")
        return cls(document, str(place["url"]).rstrip("/"), str(place["token"]))

    @classmethod
    def from_environment(cls) -> Request:
        """As Ray and Kubernetes are given it (`MUSTER_REQUEST_JSON`), or Jenkins (`MUSTER_REQUEST`)."""
        for name in ("MUSTER_REQUEST_JSON", "MUSTER_REQUEST"):
            if text := os.environ.get(name):
                return cls.of(json.loads(text))
        raise HandBackError("neither MUSTER_REQUEST_JSON nor MUSTER_REQUEST is set")

    def progress(self, lines: Iterable[str]) -> None:
        """Lines for the run's log."""
        self._post("/progress", {"log": list(lines)})

    def succeeded(self, folder: str | Path) -> None:
        """Uploads every file below the folder and says that these are the result."""
        files = []
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            self._send("PUT", f"/files/{digest}", content, "application/octet-stream")
            name = path.relative_to(folder).as_posix()
            files.append({"path": name, "sha256": digest, "bytes": len(content)})
        if not files:
            raise HandBackError(f"{folder}: there is nothing to hand back")
        self._post("", {"status": "succeeded", "files": files})

    def failed(self, message: str) -> None:
        """Says why there is no result."""
        self._post("", {"status": "failed", "message": message[:FAILURE_CHARS]})

    def _post(self, path: str, document: dict[str, Any]) -> None:
        self._send("POST", path, json.dumps(document).encode(), "application/json")

    def _send(self, method: str, path: str, content: bytes, kind: str) -> None:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        for attempt in range(TRIES):
            request = urllib.request.Request(self.url + path, content, headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                    return
            except urllib.error.HTTPError as error:
                said = error.read(2000).decode(errors="replace")
                if error.code < 500 and error.code != 429:
                    raise HandBackError(f"{method} {path or '/'}: {error.code} {said}") from None
                reason = f"{error.code} {said}"
            except OSError as error:
                reason = str(error)
            if attempt + 1 < TRIES:
                time.sleep(PAUSE_S * 2**attempt)
        raise HandBackError(f"{method} {path or '/'}: {reason}")
