"""The hospital as a process: config, history, live days, signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from box_double import INFER, LABELS, BoxDouble
from conftest import EXAMPLE

from er import hospital, warehouse
from er.generator import Site, generate
from er.world import DAY_H, DAY_MS, ms_of_hour

FIRST_DAY = 770
# One world day in half a second.
SCALE = DAY_MS / 500


def config(folder: Path, urls: list[str], **changes: Any) -> Path:
    document = {
        "clock": {
            "wall_start_ms": time.time() * 1000,
            "world_start_ms": ms_of_hour(FIRST_DAY * DAY_H),
            "scale": SCALE,
        },
        "sites": [{"name": f"er-{n}", "url": url, "seed": 10 + n} for n, url in enumerate(urls, start=1)],
        "slot": "deterioration",
        "warehouse": str(folder / "warehouse"),
        "epidemic_from_day": 772,
        "first_day": FIRST_DAY,
        "history_days": FIRST_DAY,
        "history_from_day": 740,
        **changes,
    }
    path = folder / "hospital.json"
    path.write_text(json.dumps(document))
    return path


def test_the_history_holds_only_what_is_known_when_the_first_day_begins(tmp_path: Path) -> None:
    assert hospital.main(["--config", str(config(tmp_path, ["http://127.0.0.1:9"])), "--prepare"]) == 0
    rows = warehouse.read(tmp_path / "warehouse")
    # Day 769 is over, but its last patients may still deteriorate.
    assert len(rows) == len(generate(Site("er-1", 11), 740, 769))
    assert rows.time_ms.max() < ms_of_hour(769 * DAY_H)
    assert [p.name for p in (tmp_path / "warehouse").iterdir()] == ["history.parquet"]


def test_three_sites_and_two_years_are_prepared_in_time(tmp_path: Path) -> None:
    urls = ["http://127.0.0.1:9"] * 3
    # Processor time: how busy the machine is says nothing about the program.
    began = time.process_time()
    assert hospital.main(["--config", str(config(tmp_path, urls, history_from_day=70)), "--prepare"]) == 0
    assert time.process_time() - began < 10


def test_patients_outcomes_and_days_flow_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with BoxDouble() as one, BoxDouble() as other:
        # One box is still starting when the first patients arrive.
        one.answer = lambda path, body: 503 if len(one.refused) < 3 else 200
        path = config(tmp_path, [one.url, other.url])
        clock = json.loads(path.read_text())["clock"]
        data = tmp_path / "warehouse"
        process = subprocess.Popen(
            [sys.executable, "-m", "er.hospital", "--config", str(path)],
            cwd=EXAMPLE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            for box in (one, other):
                box.wait_until(lambda box=box: len(box.labels()) >= 100)
            until(lambda: len(list(data.glob(warehouse.LIVE_DAYS))) >= 6)
            seen = sorted(data.glob(warehouse.LIVE_DAYS))
            world_ms = clock["world_start_ms"] + (time.time() * 1000 - clock["wall_start_ms"]) * clock["scale"]
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, err
    assert "Traceback" not in err and err.count("infer: HTTP 503") == 1
    status = out.splitlines()[-1].split()
    assert int(status[status.index("sent") + 1]) >= one.patients() + other.patients() - 512
    assert status[status.index("failed") + 1] == "0"
    # Each box saw the patients of its own site only.
    assert all(call["id"].startswith("er-1-") for call in one.accepted[INFER])
    assert all(call["id"].startswith("er-2-") for call in other.accepted[INFER])
    assert max(len(call["labels"]) for call in one.accepted[LABELS]) <= 256

    # Days begin where the history ends, leave no hole, and were mature when they appeared.
    for number, site in ((1, "er-1"), (2, "er-2")):
        days = [day for day in range(769, 820) if warehouse.day_path(data, site, day) in seen]
        assert days == list(range(769, 769 + len(days)))
        assert len(days) <= 1 + (world_ms - ms_of_hour(771 * DAY_H)) // DAY_MS
        path = warehouse.day_path(data, site, 772)
        if path in seen:
            assert len(generate(Site(site, 10 + number), 772, 773, 772)) == len(
                [i for i in warehouse.read(data).patient_id if i.startswith(f"{site}-0772-")]
            )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clock": {"wall_start_ms": 0, "world_start_ms": 0, "scale": 0}}, "scale must be positive"),
        ({"clock": {"wall_start_ms": 0}}, "world_start_ms is missing"),
        ({"sites": []}, "at least one"),
        ({"sites": [{"name": "er-1", "url": "127.0.0.1:80", "seed": 1}]}, "not an http"),
        ({"sites": [{"name": "er-1", "url": "http://127.0.0.1:80", "seed": -1}]}, "must not be negative"),
        ({"history_from_day": 770}, "history_from_day must lie"),
        ({"first_day": "soon"}, "soon"),
    ],
)
def test_a_config_that_cannot_work_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hospital.main(["--config", str(config(tmp_path, ["http://127.0.0.1:9"], **change))]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def until(predicate: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Looks again and again at a state that another process brings about."""
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
