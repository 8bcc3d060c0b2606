from __future__ import annotations

import pytest

from er.world import ScaledClock, day_name, format_rfc3339, hour_of_ms, ms_of_hour, parse_rfc3339


@pytest.mark.parametrize(
    ("day", "name"), [(0, "2024-01-01"), (59, "2024-02-29"), (366, "2025-01-01"), (770, "2026-02-09")]
)
def test_days_have_calendar_names(day: int, name: str) -> None:
    assert day_name(day) == name
    assert format_rfc3339(ms_of_hour(day * 24)) == f"{name}T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2024-01-01T00:00:00Z", 0.0),
        ("2024-01-01T02:30:00+01:00", 1.5),
        ("2024-01-02T00:00:00.500Z", 24 + 0.5 / 3600),
        ("2024-01-01T00:00:00.123456789Z", 0.123 / 3600),
    ],
)
def test_rfc3339_is_read(text: str, hour: float) -> None:
    assert hour_of_ms(parse_rfc3339(text)) == pytest.approx(hour, abs=1e-9)


@pytest.mark.parametrize("text", ["", "yesterday", "2024-01-01T00:00:00", "2024-13-01T00:00:00Z"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_rfc3339(text)


def test_the_scaled_clock_is_a_line() -> None:
    clock = ScaledClock(wall_start_ms=1_000, world_start_ms=50_000, scale=100)
    assert clock.now_ms(1_000) == 50_000
    assert clock.now_ms(1_010) == 51_000
