"""What can go wrong, with what the server said about it."""

from __future__ import annotations

from dataclasses import dataclass, field


class MusterError(Exception):
    """Any failure of this client."""


class Unreachable(MusterError):
    """No fleet server answered."""


class Timeout(MusterError):
    """What was waited for did not happen in time; nothing was changed by waiting."""


@dataclass
class Refused(MusterError):
    """The server refused, as `application/problem+json` (RFC 9457)."""

    status: int
    #: Stable, for programs: `not_found`, `stale`, `invalid` …
    code: str
    detail: str
    #: What to do about it.
    next: str | None = None
    #: Where in the document, as JSON pointer, and what.
    errors: list[dict[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        """The whole of it, for a person."""
        said = [f"{self.detail} ({self.status} {self.code})"]
        said += [f"  {fault.get('pointer', '')}: {fault.get('detail', '')}" for fault in self.errors]
        if self.next:
            said.append(self.next)
        return "\n".join(said)
