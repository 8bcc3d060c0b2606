"""One box as its hospital sees it: JSON over one kept-alive HTTP connection.

Owns the connection and the question whether a failed call is worth repeating. Never repeats a call itself.
"""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 5.0
REPLY_BYTES_MAX = 4 * 1024 * 1024
#: A box that is starting, busy or between two models answers with these; anything else is our mistake.
TRANSIENT_STATUS = frozenset({404, 408, 425, 429, 500, 502, 503, 504})


class BoxError(Exception):
    """A call failed. `kind` is the same for the same cause, so that it can be told once."""

    def __init__(self, kind: str, detail: str, transient: bool) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.detail = detail
        self.transient = transient


class Box:
    """A client for one thread."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is not an http://host:port address")
        self._prefix = parts.path.rstrip("/")
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)

    def post(self, path: str, document: dict[str, Any]) -> None:
        """Sends one document; returns when the box has accepted it, raises `BoxError` when it has not."""
        body = json.dumps(document, separators=(",", ":")).encode()
        try:
            self._connection.request("POST", self._prefix + path, body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            # Read to the end, or the connection cannot be used again.
            reply = response.read(REPLY_BYTES_MAX + 1)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise BoxError(type(error).__name__, str(error), transient=True) from error
        if len(reply) > REPLY_BYTES_MAX:
            self.close()
            raise BoxError("reply too long", f"more than {REPLY_BYTES_MAX} bytes", transient=False)
        if not 200 <= response.status < 300:
            detail = " ".join(reply[:200].decode("utf-8", "replace").split())
            raise BoxError(f"HTTP {response.status}", detail, transient=response.status in TRANSIENT_STATUS)

    def close(self) -> None:
        """Drops the connection; the next call opens a new one."""
        self._connection.close()
