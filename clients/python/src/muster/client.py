"""A fleet server as notebooks and pipelines see it: the API's operations, and what waiting for them needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import httpx_sse

from . import types
from .api import Operations
from .connection import PATIENCE_S, TRIES, refused
from .errors import Timeout, Unreachable

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
    """

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
