"""One server's address: sends, tries again where that is safe, and turns refusals into exceptions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal, Self

import httpx

from .errors import Refused, Unreachable

#: Attempts of a request that changes nothing, or the same twice.
TRIES = 4
#: A server asks for patience at most this long, seconds.
PATIENCE_S = 30.0
SAFE = frozenset({"GET", "PUT"})
BUSY = frozenset({429, 502, 503, 504})


class Connection:
    """What every operation is sent by.

    :param url: the operators' address of the server
    :param actor: who acts, for the log
    :param token: sent as bearer token; never logged
    :param timeout_s: for one answer
    :param transport: how requests travel; for tests
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8480",
        *,
        actor: str | None = None,
        token: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Accept": "application/json", "User-Agent": "muster-client/0.1"}
        if actor:
            headers["X-Muster-Actor"] = actor
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connections back."""
        self._http.close()

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        revision: int | None = None,
        json: Any = None,
        content: bytes | None = None,
        read: Literal["json", "bytes", "nothing"] = "json",
    ) -> Any:
        parts: dict[str, Any] = {
            "params": {name: spelt(value) for name, value in (query or {}).items() if value is not None},
            "headers": {} if revision is None else {"If-Match": f'"{revision}"'},
        }
        if json is not None:
            parts["json"] = json
        if content is not None:
            parts |= {"content": content}
            parts["headers"]["Content-Type"] = "application/octet-stream"
        response = self._answer(method, path, parts)
        if read == "bytes":
            return response.content
        # 204, and answers that say nothing.
        return response.json() if read == "json" and response.content else None

    def _answer(self, method: str, path: str, parts: dict[str, Any]) -> httpx.Response:
        failures = 0
        while True:
            is_last = method not in SAFE or failures + 1 == TRIES
            try:
                response = self._http.request(method, path, **parts)
            except httpx.TransportError as error:
                if is_last:
                    raise Unreachable(f"no answer from {self.url}{path}: {error}") from error
                pause = back_off(failures)
            else:
                if not response.is_error:
                    return response
                if is_last or response.status_code not in BUSY:
                    raise refused(response)
                pause = patience(response, failures)
            failures += 1
            time.sleep(pause)


def spelt(value: Any) -> str:
    """A value as queries write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def back_off(failures: int) -> float:
    """Seconds until the next attempt, where nobody says how many."""
    return float(0.25 * 2**failures)


def patience(response: httpx.Response, failures: int) -> float:
    """Seconds until the next attempt: what the server asks for, within reason."""
    try:
        asked = float(response.headers.get("Retry-After", ""))
    except ValueError:
        asked = back_off(failures)
    return min(max(asked, 0.0), PATIENCE_S)


def refused(response: httpx.Response) -> Refused:
    """The problem document, or what can be said without one."""
    try:
        problem = response.json()
        return Refused(
            status=response.status_code,
            code=problem["code"],
            detail=problem["detail"],
            next=problem.get("next"),
            errors=problem.get("errors") or [],
        )
    except (ValueError, KeyError, TypeError):
        detail = f"{response.request.method} {response.request.url.path} was answered without a problem document"
        return Refused(status=response.status_code, code="unknown", detail=detail)
