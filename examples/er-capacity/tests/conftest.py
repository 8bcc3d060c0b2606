"""What several tests need: a small hospital group, its warehouse, the trainer as the builder runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from er import warehouse
from er.generator import Site, generate
from er.world import DAY_H, format_rfc3339, ms_of_hour

EXAMPLE = Path(__file__).parent.parent

SITES = (Site("er-1", 11), Site("er-2", 12))
# A year of history, so that it has seen a winter; then an epidemic, an alarm a few days later, and 28 days of waiting.
HISTORY_FROM_DAY, HISTORY_END_DAY = 100, 465
EPIDEMIC_DAY = 470
ONSET_DAY = 475
NOW_DAY = ONSET_DAY + 28
# Patients that no model of these tests has seen.
FUTURE_DAYS = (NOW_DAY + 2, NOW_DAY + 62)


def day_time(day: float) -> str:
    """World time of the beginning of a day."""
    return format_rfc3339(ms_of_hour(day * DAY_H))


@dataclass(frozen=True)
class Run:
    """A finished trainer run."""

    out: Path
    stdout: str

    def document(self, name: str) -> Any:
        return json.loads((self.out / name).read_text())


def trainer_env(folder: Path, data: Path, trigger: dict[str, Any], now_day: float = NOW_DAY) -> dict[str, str]:
    """The environment that the builder sets; makes the request and the empty output folder."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "out"
    out.mkdir()
    request = {
        "schema": "muster-run/1",
        "run": "run-1",
        "model": "deterioration",
        "trigger": {"id": "trg-1", "streams": [], **trigger},
        "world_now": day_time(now_day),
    }
    (folder / "run.json").write_text(json.dumps(request))
    return {"MUSTER_REQUEST": str(folder / "run.json"), "MUSTER_DATA": str(data), "MUSTER_OUT": str(out)}


def run_module(module: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs one of the example's programs to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=EXAMPLE,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse: one year of history, then live days into an epidemic."""
    folder = tmp_path_factory.mktemp("warehouse")
    warehouse.write_history(
        folder, ((site.name, generate(site, HISTORY_FROM_DAY, HISTORY_END_DAY, EPIDEMIC_DAY)) for site in SITES)
    )
    for day in range(HISTORY_END_DAY, warehouse.mature_days(ms_of_hour(NOW_DAY * DAY_H))):
        for site in SITES:
            warehouse.write_day(folder, site.name, day, generate(site, day, day + 1, EPIDEMIC_DAY))
    return folder


@pytest.fixture(scope="session")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Trains once per kind, in a process of its own."""
    runs: dict[str, Run] = {}
    triggers = {
        # Before the epidemic: what the boxes run when it comes.
        "initial": ({"kind": "initial"}, float(EPIDEMIC_DAY)),
        "drift": ({"kind": "drift", "onset": day_time(ONSET_DAY), "incident": "inc-1"}, float(NOW_DAY)),
    }

    def run(kind: str) -> Run:
        if kind not in runs:
            folder = tmp_path_factory.mktemp(kind)
            env = trainer_env(folder, data, *triggers[kind])
            finished = run_module("er.train", env=env)
            assert finished.returncode == 0, finished.stderr
            assert finished.stderr == ""
            runs[kind] = Run(folder / "out", finished.stdout)
        return runs[kind]

    return run
