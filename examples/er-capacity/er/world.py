"""World time: the simulated hospital's calendar and the scaled clock that the demo runs it on.

Owns the only conversions between hours since day 0, Unix milliseconds and RFC 3339. Never reads the wall clock by
itself: `ScaledClock.now_ms` is told the time.

Hour 0 of day 0 is 2024-01-01T00:00Z, a Monday. Days are real calendar days, the *model's* year has 365 of them: its
seasons slip by one day after a 29 February, which no statistic here can see.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

DAY_H = 24
HOUR_MS = 3_600_000
DAY_MS = DAY_H * HOUR_MS
EPOCH = datetime(2024, 1, 1, tzinfo=timezone.utc)
EPOCH_MS = int(EPOCH.timestamp() * 1000)

#: An outcome is known this long after arrival, never sooner.
LABEL_DELAY_H = 24


def ms_of_hour(time_h: float) -> int:
    """Unix milliseconds of a time given in hours since day 0."""
    return EPOCH_MS + round(time_h * HOUR_MS)


def hour_of_ms(time_ms: int | float) -> float:
    """Hours since day 0 of a time given in Unix milliseconds."""
    return (time_ms - EPOCH_MS) / HOUR_MS


def day_name(day: int) -> str:
    """`YYYY-MM-DD` of a day number."""
    return (EPOCH + timedelta(days=day)).strftime("%Y-%m-%d")


def format_rfc3339(time_ms: int | float) -> str:
    """RFC 3339 in UTC with whole seconds."""
    return (EPOCH + timedelta(milliseconds=time_ms - EPOCH_MS)).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> int:
    """Unix milliseconds of an RFC 3339 time; one without an offset is refused with `ValueError`."""
    # Python 3.11 reads "Z" and any number of fraction digits itself.
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return round((time - EPOCH) / timedelta(milliseconds=1)) + EPOCH_MS


@dataclass(frozen=True)
class ScaledClock:
    """World time as a straight line over wall time; every process of a demo is given the same line."""

    wall_start_ms: float
    world_start_ms: float
    scale: float

    def now_ms(self, wall_ms: float) -> float:
        """World time, in Unix milliseconds, at a wall time."""
        return self.world_start_ms + (wall_ms - self.wall_start_ms) * self.scale
