"""The hospital group of the demo, as one process: live patients, their outcomes, and the warehouse.

    python -m er.hospital --config hospital.json --prepare   writes the history and exits
    python -m er.hospital --config hospital.json             runs until SIGTERM or SIGINT

Owns threads, signals and files; what a site does is in `er.replay`. Boxes may come and go: nothing they do ends this
process. A patient who arrived before the process started is not replayed, but is in the warehouse: the files of all
days that are mature and missing are written, so a restart leaves no hole.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from er import warehouse
from er.box import Box
from er.generator import Site, generate
from er.replay import Counters, SiteReplay
from er.world import DAY_H, ScaledClock, format_rfc3339, hour_of_ms, ms_of_hour

TICK_S = 0.05
WAREHOUSE_S = 0.1
STATUS_S = 5.0
#: Days written per look, so that a process that slept does not ignore its signals for long.
DAYS_PER_LOOK = 8


class ConfigError(Exception):
    """The configuration file cannot be used; the message says why."""


@dataclass(frozen=True)
class SiteConfig:
    """A site and the address of its box."""

    site: Site
    url: str


@dataclass(frozen=True)
class Config:
    """`hospital.json`."""

    clock: ScaledClock
    sites: list[SiteConfig]
    slot: str
    warehouse: Path
    epidemic_from_day: int | None
    first_day: int
    history_from_day: int
    history_days: int

    def history_end_day(self) -> int:
        """The first day that is not history: when day `history_days` begins, only earlier days are mature."""
        return max(self.history_from_day, warehouse.mature_days(ms_of_hour(self.history_days * DAY_H)))


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="er.hospital", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="hospital.json")
    parser.add_argument("--prepare", action="store_true", help="write the warehouse's history and exit")
    options = parser.parse_args(arguments)
    try:
        config = read_config(options.config)
    except ConfigError as error:
        print(f"er.hospital: {error}", file=sys.stderr)
        return 2
    try:
        if options.prepare:
            prepare(config)
            return 0
        return run(config)
    except OSError as error:
        print(f"er.hospital: {error.filename or config.warehouse}: {error.strerror or error}", file=sys.stderr)
        return 1


def read_config(path: Path) -> Config:
    """Reads and checks the configuration."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        clock = ScaledClock(*(float(document["clock"][key]) for key in ("wall_start_ms", "world_start_ms", "scale")))
        sites = [_site(entry) for entry in document["sites"]]
        epidemic = document.get("epidemic_from_day")
        config = Config(
            clock=clock,
            sites=sites,
            slot=str(document["slot"]),
            warehouse=Path(document["warehouse"]),
            epidemic_from_day=None if epidemic is None else int(epidemic),
            first_day=int(document["first_day"]),
            history_from_day=int(document["history_from_day"]),
            history_days=int(document["history_days"]),
        )
    except KeyError as error:
        raise ConfigError(f"{path}: {error.args[0]} is missing") from error
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not config.sites or len({s.site.name for s in config.sites}) != len(config.sites):
        raise ConfigError(f"{path}: sites must be at least one, each with its own name")
    if config.clock.scale <= 0:
        raise ConfigError(f"{path}: clock.scale must be positive")
    if not 0 <= config.history_from_day < config.history_days:
        raise ConfigError(f"{path}: history_from_day must lie between 0 and history_days")
    return config


def _site(entry: Mapping[str, Any]) -> SiteConfig:
    seed = int(entry["seed"])
    if seed < 0:
        raise ValueError(f"site {entry['name']}: seed must not be negative")
    Box(entry["url"])  # refuses an address that cannot be called
    return SiteConfig(Site(str(entry["name"]), seed), str(entry["url"]))


def prepare(config: Config) -> None:
    """Writes the history of all sites."""
    end = config.history_end_day()
    warehouse.write_history(
        config.warehouse,
        ((s.site.name, generate(s.site, config.history_from_day, end, config.epidemic_from_day)) for s in config.sites),
    )
    print(f"hospital: history of {len(config.sites)} sites, days {config.history_from_day} to {end - 1}", flush=True)


def run(config: Config) -> int:
    """Runs until a signal; returns the exit code."""
    stop = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stop.set())
    if not (config.warehouse / warehouse.HISTORY).is_file():
        prepare(config)

    crashed: list[str] = []
    counters = [Counters() for _ in config.sites]
    threads = [
        threading.Thread(target=_site_loop, args=(config, site, c, stop, crashed), name=site.site.name)
        for site, c in zip(config.sites, counters, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        _warehouse_loop(config, counters, stop)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        _status(config, counters)
    if crashed:
        print("\n".join(crashed), file=sys.stderr)
        return 1
    return 0


def _site_loop(config: Config, site: SiteConfig, counters: Counters, stop: threading.Event, crashed: list[str]) -> None:
    """One site's thread: a step every tick. A defect here must end the process, not only the thread."""
    box = Box(site.url)
    try:
        from_h = max(config.first_day * DAY_H, hour_of_ms(_world_ms(config)))
        replay = SiteReplay(site.site, config.slot, box.post, from_h, config.epidemic_from_day, counters)
        while not stop.is_set():
            started = time.monotonic()
            replay.step(_world_ms(config), started)
            stop.wait(max(0.0, TICK_S - (time.monotonic() - started)))
    except Exception:
        crashed.append(traceback.format_exc())
        stop.set()
    finally:
        box.close()


def _warehouse_loop(config: Config, counters: list[Counters], stop: threading.Event) -> None:
    """Writes days as they mature and says now and then how things are."""
    next_day = config.history_end_day()
    status_due = time.monotonic() + STATUS_S
    while not stop.wait(WAREHOUSE_S):
        mature = warehouse.mature_days(_world_ms(config))
        for day in range(next_day, min(mature, next_day + DAYS_PER_LOOK)):
            _write_missing(config, day)
            next_day = day + 1
        if time.monotonic() >= status_due:
            _status(config, counters)
            status_due = time.monotonic() + STATUS_S


def _write_missing(config: Config, day: int) -> None:
    """Writes one day of every site, unless an earlier run has written it."""
    for site in (s.site for s in config.sites):
        if not warehouse.day_path(config.warehouse, site.name, day).is_file():
            patients = generate(site, day, day + 1, config.epidemic_from_day)
            warehouse.write_day(config.warehouse, site.name, day, patients)


def _status(config: Config, counters: list[Counters]) -> None:
    def total(name: str) -> int:
        return sum(getattr(c, name) for c in counters)

    print(
        f"hospital: world {format_rfc3339(_world_ms(config))} sent {total('sent')} failed {total('failed')} "
        f"labels {total('labels')} labels_failed {total('labels_failed')}",
        flush=True,
    )


def _world_ms(config: Config) -> float:
    return config.clock.now_ms(time.time() * 1000)


if __name__ == "__main__":
    sys.exit(main())
