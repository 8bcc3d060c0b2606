#!/usr/bin/env python3
"""From the drift alarm to the last box that proves the new bundle, LOOPS times: `make bench-loop`.

Every loop is a hospital group of its own, from the first release on: real fleet server, real builder and trainer, three
real agents with OpenVINO. Each stage is timed by the fleet's own log; what is deliberate (waiting for data, bakes) and
what is the owner's (training) is shown apart from what is ours. After every BAD_EVERY-th loop a bad candidate is signed
by hand, which passes offline, and has to be stopped before it leaves the canary.

    LOOPS=30       how many loops
    BAD_EVERY=5    after how many of them a bad candidate comes

Goals are printed last as `goal NAME: VALUE UNIT, wanted <= LIMIT: met|missed`; a missed one ends with 1.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import demo
from demo import Demo
from lab import DAY_S, LOCAL, Failure, Lab, on_stop, parse_ms

MACHINERY_S_MAX = 60.0
#: Stages whose length is chosen, not needed: by the policy, by the plan, by the trainer.
APART = ("waiting for data", "training", "canary bake")


class Loop(Demo):
    """The demo's story with other patients, and with a clock at each stage."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.lab = Lab(LOCAL / "bench-loop", factor=DAY_S / demo.SECONDS_PER_DAY, world_day=demo.WORLD_DAY)
        self.time.lab = self.lab
        self.stages: dict[str, float] = {}
        self.touches = 0

    @property
    def stamps(self) -> Path:
        return self.lab.dir / "training.txt"

    def write_hospital(self, epidemic_day: int | None) -> None:
        super().write_hospital(epidemic_day)
        path = self.lab.dir / "hospital.json"
        config = json.loads(path.read_text())
        for site in config["sites"]:
            site["seed"] += 100 * self.number
        path.write_text(json.dumps(config, indent=2))

    def trainer(self) -> list[str]:
        """The demo's, with the time before and after it."""
        stamp = f"date +%s.%N >> '{self.stamps}'"
        return ["sh", "-c", f"{stamp}; '{self.lab.python}' -m er.train; CODE=$?; {stamp}; exit $CODE"]

    def drift_to_fleet(self, alarm: dict[str, Any], run: dict[str, Any], rollout: dict[str, Any]) -> list[str]:
        entries = [entry for entry in self.lab.log_entries() if entry["id"] >= alarm["id"]]

        def first(kind: str) -> float:
            return next(parse_ms(entry["at"]) / 1000 for entry in entries if entry["kind"] == kind)

        proofs = sorted(parse_ms(entry["at"]) / 1000 for entry in entries if entry["kind"] == "device.event.activated")
        if len({entry["subject"] for entry in entries if entry["kind"] == "device.event.activated"}) < len(demo.SITES):
            raise Failure("not every box proved the new bundle")
        steps = {step["kind"]: parse_ms(step["at"]) / 1000 for step in run["timeline"]}
        begun, trained = (float(line) for line in self.stamps.read_text().splitlines()[-2:])
        bake = self.plan(canary_bake_days=2, all_bake_days=1)["stages"][0]["bake_s"] / self.lab.factor
        alarmed, started, canary, others = first("incident.opened"), first("rollout.started"), proofs[0], proofs[1]
        self.stages = {
            "alarm to trigger": first("trigger.accepted") - alarmed,
            "waiting for data": steps["queued"] - steps.get("collecting", steps["queued"]),
            "claim": begun - steps["queued"],
            "training": trained - begun,
            "build, gates, publish": steps["succeeded"] - trained,
            "rollout starts": started - steps["succeeded"],
            "canary serves": canary - started,
            "canary bake": min(bake, others - canary),
            "canary judged": max(0.0, others - canary - bake),
            "everybody serves": proofs[-1] - others,
            "alarm to everybody": proofs[-1] - alarmed,
        }
        apart = sum(self.stages[stage] for stage in APART)
        self.stages["machinery"] = self.stages["alarm to everybody"] - apart
        last = proofs[-1]
        self.touches = sum(
            entry["actor"]["kind"] == "person" for entry in entries if parse_ms(entry["at"]) / 1000 <= last
        )
        return []


def percentile(values: list[float], share: float) -> float:
    """The smallest value that so large a share is not above."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def live(number: int, with_bad: bool) -> tuple[Loop, bool | None]:
    """One loop, and whether its bad candidate was stopped, if it had one."""
    loop = Loop(number)
    on_stop(loop.lab)
    try:
        loop.prepare()
        champion = loop.first_release()
        loop.normal_life()
        loop.epidemic(champion)
        if not with_bad:
            return loop, None
        try:
            loop.bad_candidate()
        except Failure as failure:
            print(f"  the bad candidate was not stopped: {failure}", file=sys.stderr)
            return loop, False
        return loop, True
    finally:
        loop.lab.stop()


def report(loops: list[Loop], stopped: list[bool], failed: int) -> bool:
    """Prints every stage and every goal; whether all goals are met."""
    print(f"\n{len(loops)} loops, real seconds; a world day takes {demo.SECONDS_PER_DAY:g} s")
    print(f"  {'stage':<24}{'p50':>8}{'p95':>8}")
    for stage in loops[0].stages if loops else ():
        values = [loop.stages[stage] for loop in loops]
        note = "  not ours" if stage in APART else ""
        print(f"  {stage:<24}{percentile(values, 0.5):8.1f}{percentile(values, 0.95):8.1f}{note}")
    machinery = percentile([loop.stages["machinery"] for loop in loops], 0.95) if loops else math.inf
    goals: list[tuple[str, float, str, float]] = [
        ("loop_machinery_p95", machinery, "s", MACHINERY_S_MAX),
        ("loop_operator_touches", float(sum(loop.touches for loop in loops)), "touches", 0.0),
        ("loop_bad_candidates_passed", float(stopped.count(False)), f"of {len(stopped)}", 0.0),
        ("loops_that_did_not_close", float(failed), "loops", 0.0),
    ]
    for name, value, unit, limit in goals:
        word = "met" if value <= limit else "missed"
        print(f"goal {name}: {value:.1f} {unit}, wanted <= {limit:g}: {word}")
    return all(value <= limit for _, value, _, limit in goals)


def main() -> int:
    # Faster than the demo is watched: what is deliberate is shorter, what is measured is not.
    demo.SECONDS_PER_DAY, demo.BASELINE_DAYS = 1.0, 12
    wanted, bad_every = int(os.environ.get("LOOPS", "30")), int(os.environ.get("BAD_EVERY", "5"))
    loops: list[Loop] = []
    stopped: list[bool] = []
    failed = 0
    for number in range(1, wanted + 1):
        try:
            loop, was_stopped = live(number, with_bad=number % bad_every == 0)
        except Failure as failure:
            print(f"loop {number} did not close: {failure}", file=sys.stderr, flush=True)
            failed += 1
            continue
        loops.append(loop)
        stopped.extend([] if was_stopped is None else [was_stopped])
        print(f"loop {number}: machinery {loop.stages['machinery']:.1f} s", flush=True)
    return 0 if report(loops, stopped, failed) else 1


if __name__ == "__main__":
    sys.exit(main())
