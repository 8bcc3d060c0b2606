"""The connection to one fleet server: sends, tries again where that is safe, and turns refusals into exceptions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import httpx_sse

from . import types
from .api import Operations
from .errors import MusterError, Refused, Timeout, Unreachable

#: Attempts of a request that changes nothing, or the same twice.
TRIES = 4
#: A server asks for patience at most this long, seconds.
PATIENCE_S = 30.0
SAFE = frozenset({"GET", "PUT"})
BUSY = frozenset({429, 502, 503, 504})
#: Phases in which a rollout moves no more by itself, and needs nobody.
ROLLOUT_ENDED = frozenset({"completed", "rolled_back", "aborted", "superseded"})
RUN_ENDED = frozenset({"succeeded", "rejected", "failed", "cancelled"})


@dataclass(frozen=True)
class Event:
    """An entry of the server's log."""

    id: int
    #: `rollout.started`, `incident.opened` …; `reset` if too much was missed: look at everything anew.
    kind: str
    subject: str
    sentence: str


class Muster(Operations):
    """A fleet server. One method for each operation of its API, and what waiting for them needs.

    >>> with Muster("http://127.0.0.1:8480", actor="anna") as fleet:
    ...     for device in fleet.pages(fleet.list_devices, site="er-1"):
    ...         print(device["name"], device["presence"])

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

    def __enter__(self) -> Muster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connections back."""
        self._http.close()

    def pages(self, operation: Callable[..., Any], **filters: Any) -> Iterator[Any]:
        """All items of a list, page by page as they are asked for.

        :param operation: one of the `list_…` methods
        :param filters: its arguments
        """
        cursor: str | None = None
        while True:
            page = operation(**filters, cursor=cursor)
            yield from page["items"]
            cursor = page.get("next")
            if not cursor:
                return

    def wait_for_rollout(self, rollout: str, *, timeout_s: float, every_s: float = 1.0) -> types.Rollout:
        """The rollout once it has ended, however it did.

        :raises Timeout: with the phase and reason that it is in
        """
        return self._wait(
            lambda: self.get_rollout(rollout),
            lambda seen: seen["phase"]["is"] in ROLLOUT_ENDED,
            lambda seen: f"rollout {rollout} is {seen['phase']['is']}",
            (timeout_s, every_s),
        )

    def wait_for_run(self, run: str, *, timeout_s: float, every_s: float = 1.0) -> types.Run:
        """The retraining run once it has ended, however it did.

        :raises Timeout: with the state that it is in
        """
        return self._wait(
            lambda: self.get_run(run),
            lambda seen: seen["state"] in RUN_ENDED,
            lambda seen: f"run {run} is {seen['state']}",
            (timeout_s, every_s),
        )

    def events(self, after: int | None = None) -> Iterator[Event]:
        """The log as it grows, without an end; resumes after a lost connection where it was.

        :param after: begin after this entry; left out: what happens from now on
        """
        failures = 0
        while True:
            headers = {"Last-Event-ID": str(after)} if after is not None else {}
            try:
                source = httpx_sse.connect_sse(
                    self._http, "GET", "/api/v1/events", headers=headers, timeout=httpx.Timeout(30.0, read=60.0)
                )
                with source as stream:
                    if stream.response.is_error:
                        stream.response.read()
                        raise refused(stream.response)
                    for sent in stream.iter_sse():
                        failures = 0
                        if sent.id:
                            after = int(sent.id)
                            data = sent.json()
                            yield Event(after, sent.event, data["subject"], data["sentence"])
            except httpx.TransportError as error:
                failures += 1
                if failures >= TRIES:
                    raise Unreachable(f"the log of {self.url} cannot be followed: {error}") from error
            # The server ends a stream now and then; coming back at once would hammer it.
            time.sleep(min(2.0**failures, PATIENCE_S))

    def _wait(
        self,
        ask: Callable[[], Any],
        ended: Callable[[Any], bool],
        standing: Callable[[Any], str],
        times: tuple[float, float],
    ) -> Any:
        timeout_s, every_s = times
        deadline = time.monotonic() + timeout_s
        while True:
            seen = ask()
            if ended(seen):
                return seen
            if time.monotonic() + every_s > deadline:
                raise Timeout(f"{standing(seen)} after {timeout_s:.0f} s")
            time.sleep(every_s)

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
        tries = TRIES if method in SAFE else 1
        for attempt in range(tries):
            is_last = attempt + 1 == tries
            try:
                response = self._http.request(method, path, **parts)
            except httpx.TransportError as error:
                if is_last:
                    raise Unreachable(f"no answer from {self.url}{path}: {error}") from error
                time.sleep(0.25 * 2**attempt)
                continue
            if response.status_code in BUSY and not is_last:
                time.sleep(patience(response, attempt))
                continue
            if response.is_error:
                raise refused(response)
            return response
        raise MusterError("unreachable: the last attempt returns or raises")


def spelt(value: Any) -> str:
    """A value as queries write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def patience(response: httpx.Response, attempt: int) -> float:
    """Seconds until the next attempt: what the server asks for, within reason."""
    try:
        asked = float(response.headers.get("Retry-After", ""))
    except ValueError:
        asked = 0.25 * 2**attempt
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
