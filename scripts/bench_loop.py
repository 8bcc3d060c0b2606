#!/usr/bin/env python3
"""From the drift alarm to 95 % of the boxes that prove the new bundle, LOOPS times: `make bench-loop`.

A hospital group: a real fleet server, builder and trainer, three real agents with OpenVINO whose patients come from the
ER generator, and BOXES simulated ones (`agent/examples/swarm`): members with certificates and connections of their own
that check every order and move by the agent's real mind, and have no model. An epidemic comes, the loop closes; it goes,
and the world is another one again: so a fleet lives through EPIDEMICS changes, then a fresh one is made. Where the gate finds
the challenger no better than a champion that knows both worlds, the champion stays, and that is no loop.

After every BAD_EVERY-th loop a bad challenger with good offline figures is rolled out. One kind has its columns swapped
at export; the other is as good as the champion, but wrong on one hardware class, which only simulated boxes are of. Both
have to be stopped at a canary.

Each stage is timed by the fleet's own log. What is deliberate (waiting for data, bakes) and what is the owner's
(training) is shown apart from what is ours.

    LOOPS=30  BOXES=1000  EPIDEMICS=3  BAD_EVERY=1

Goals are printed last as `goal NAME: VALUE UNIT, wanted <= LIMIT: met|missed`; a missed one ends with 1.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import demo
from demo import Demo
from lab import DAY_S, EXAMPLE, LOCAL, MODEL, Failure, Lab, Process, on_stop, parse_ms, rfc3339, until

MACHINERY_S_MAX = 60.0
SHARE = 0.95
#: Stages whose length is chosen, not needed: by the policy, by the plan, by the trainer.
APART = ("waiting for data", "training", "canary bake", "canaries bake")
#: World days without a change before each, in which a site learns what is normal with its new model.
QUIET_DAYS = 12
BAKE_DAYS = 2.0
#: Stages: one real box whose patients have outcomes, then boxes of every hardware class, then everybody.
CANARIES = 9
SITES = 10
#: Swapped columns are seen on real patients, the other one on simulated boxes of one class.
BAD_KINDS = ("swapped", "one class")


class Kept(Exception):
    """The champion was as good as what was trained: nothing to replace it with."""


class Fleet(Demo):
    """The demo's hospital with other patients, more boxes, and a clock at each stage."""

    def __init__(self, number: int, boxes: int) -> None:
        super().__init__()
        self.number = number
        self.size = boxes
        self.lab = Lab(LOCAL / "bench-loop", factor=DAY_S / demo.SECONDS_PER_DAY, world_day=demo.WORLD_DAY)
        self.time.lab = self.lab
        self.hospital: Process | None = None
        self.is_epidemic = False
        self.quiet_from = 0.0

    # -- the fleet ----------------------------------------------------------------------------------------------------

    @property
    def stamps(self) -> Path:
        return self.lab.dir / "training.txt"

    @property
    def wrong(self) -> Path:
        """Bundles that are wrong on one hardware class: the simulated boxes' world."""
        return self.lab.dir / "wrong.txt"

    @property
    def all_boxes(self) -> int:
        return self.size + len(demo.SITES)

    def begin(self) -> None:
        self.prepare()
        self.first_release()
        self.quiet_from = self.lab.day()

    def write_hospital(self, epidemic_day: int | None) -> None:
        super().write_hospital(epidemic_day)
        path = self.lab.dir / "hospital.json"
        config = json.loads(path.read_text())
        for site in config["sites"]:
            site["seed"] += 100 * self.number
        path.write_text(json.dumps(config, indent=2))

    def more_boxes(self) -> None:
        lab = self.lab
        each = self.size // SITES
        if not each:
            return
        files: list[str | Path] = []
        for site in range(SITES):
            file = lab.dir / f"ward-{site}.enrol"
            lab.muster("enrol", "new", "--site", f"ward-{site}", "--count", str(each), "--approve", "auto", "--out", file)
            files += ["--file", file]
        self.wrong.write_text("")
        clock = {"wall_start": rfc3339(lab.wall_start), "world_start": rfc3339(lab.world_start_ms), "factor": lab.factor}
        began = time.monotonic()
        args = ["--each", str(each), "--state", lab.dir / "swarm", "--wrong", self.wrong, "--clock", json.dumps(clock)]
        lab.spawn("swarm", [lab.target / "examples" / "swarm", *files, *args])

        def online() -> bool:
            lab.check_alive()
            return lab.get("/api/v1/overview")["devices"]["online"] >= self.all_boxes

        until("every simulated box is online", online, 300, 0.5)
        self.time.add(f"{each * SITES} simulated boxes have joined, in {time.monotonic() - began:.0f} s")

    def start_hospital(self) -> Process:
        lab = self.lab
        self.hospital = lab.spawn("hospital", [lab.python, "-m", "er.hospital", "--config", lab.dir / "hospital.json"], cwd=EXAMPLE)
        return self.hospital

    def plan(self, canary_bake_days: float, all_bake_days: float) -> dict[str, Any]:
        def stage(name: str, size: dict[str, Any], bake_days: float) -> dict[str, Any]:
            bake_s = int(bake_days * DAY_S)
            return {"name": name, "size": size, "bake_s": bake_s, "deadline_s": bake_s + 200 * DAY_S}

        return {
            "install_deadline_s": 100 * DAY_S,
            "in_flight_max": max(100, self.size),
            "stages": [
                stage("canary", {"devices": [self.lab.boxes[0].device]}, canary_bake_days),
                stage("canaries", {"count": CANARIES}, canary_bake_days),
                stage("everyone", {"percent": 100.0}, all_bake_days),
            ],
        }

    def trainer(self) -> list[str]:
        """The demo's, with the time before and after it; what it made is kept for the bad challengers."""
        stamp = f"date +%s.%N >> '{self.stamps}'"
        last = self.lab.dir / "trained" / "last"
        keep = f"rm -rf '{last}' && cp -r \"$MUSTER_OUT\" '{last}'"
        return ["sh", "-c", f"{stamp}; '{self.lab.python}' -m er.train; CODE=$?; {stamp}; {keep}; exit $CODE"]

    # -- one loop -----------------------------------------------------------------------------------------------------

    def change_the_world(self) -> None:
        """The epidemic comes, or goes."""
        lab = self.lab
        while (day := lab.day()) < self.quiet_from + QUIET_DAYS:
            lab.check_alive()
            self.time.waiting(f"day {day:.0f}: ordinary days")
            time.sleep(0.5)
        self.is_epidemic = not self.is_epidemic
        if self.hospital is not None:
            self.hospital.stop()
            lab.processes.remove(self.hospital)
        self.epidemic_day = int(lab.day()) + 1
        self.write_hospital(self.epidemic_day if self.is_epidemic else None)
        self.start_hospital()
        self.time.add("an epidemic comes" if self.is_epidemic else "the epidemic is over")

    def close_the_loop(self) -> Loop:
        """From a change of the world to the bundle that knows it."""
        lab = self.lab
        self.change_the_world()
        before = self.last_entry()
        first = self.wait_for_log("incident.opened", "drift is noticed", lab.wall_s(60), after=before)
        noticed = (parse_ms(first["world_at"]) - lab.EPOCH_MS) / (DAY_S * 1000) - self.epidemic_day
        self.time.add(f"drift is raised {noticed:.0f} days in: {first['sentence']}")
        try:
            trigger = self.wait_for_log("trigger.accepted", "the retrain policy answers", lab.wall_s(60), after=before)
        except Failure as failure:
            raise Failure(f"{failure}\n  {self.plight()}") from None
        # One box may have been suspected of a fault before it was clear that the world has changed.
        alarm = self.alarm_of(trigger["subject"])
        # Until enough of the new world has been seen, which may have been so before it was understood.
        run = until("the run ends", self.ended_run, lab.wall_s(60) + 180, 0.3)
        if run["state"] == "rejected" and run["failure"]["code"] == "worse_on_recent":
            raise Kept(run["failure"]["sentence"])
        if run["state"] != "succeeded":
            raise Failure(f"the retraining {run['state']}: {json.dumps(run.get('failure') or run.get('gates'))}")
        self.time.add(f"retrained: {self.figures(run)}")
        started = self.wait_for_log("rollout.started", "its rollout starts", 30, after=alarm["id"])
        self.wait_for_rollout(started["subject"], "completed")
        self.quiet_from = lab.day()
        rollout = lab.rollout(started["subject"])
        self.time.add(f"{rollout['bundle']['path']} runs on every box")
        self.check_spread(rollout["bundle"]["path"], self.all_boxes)
        return Loop(self, alarm, run, noticed)

    def alarm_of(self, trigger: str) -> dict[str, Any]:
        """When the incident was opened that a trigger acts on."""
        triggers = self.lab.get("/api/v1/triggers")["items"]
        incident = next(one["incident"] for one in triggers if one["id"] == trigger)
        entries = self.lab.log_entries()
        return next(entry for entry in entries if (entry["subject"], entry["kind"]) == (incident, "incident.opened"))

    def plight(self) -> str:
        """Why nobody retrains, as the fleet tells it: for who reads of a loop that did not close."""
        said = [f"day {self.lab.day():.0f}, the change came on day {self.epidemic_day}"]
        for incident in self.lab.get("/api/v1/incidents")["items"][:10]:
            said.append(f"incident: {json.dumps({key: value for key, value in incident.items() if key != 'devices'})}")
        for trigger in self.lab.get("/api/v1/triggers")["items"][:10]:
            said.append(f"trigger: {json.dumps(trigger)}")
        return "\n  ".join(said)

    def last_entry(self) -> int:
        entries = self.lab.log_entries()
        return entries[-1]["id"] if entries else 0

    def check_spread(self, bundle: str, least: int) -> None:
        """Boxes that prove a bundle by its digest, as the fleet shows them."""
        models = self.lab.get("/api/v1/overview")["models"]
        version = bundle.removeprefix("bundles/").split("/", 1)[1].removesuffix(".json").split("/")[-1]
        shown = {spread["version"]: spread["devices"] for model in models for spread in model["bundles"]}
        if shown.get(version, 0) < least:
            raise Failure(f"{bundle} is proven by {shown.get(version, 0)} boxes and not by {least}: {shown}")

    # -- bad challengers ----------------------------------------------------------------------------------------------

    def bad_challenger(self, number: int) -> tuple[str, bool]:
        """Rolls one out; its kind, and whether it was stopped at a canary and everybody went back."""
        kind = BAD_KINDS[number % len(BAD_KINDS)]
        lab = self.lab
        last, bad, version = lab.dir / "trained" / "last", lab.dir / "trained" / f"bad-{number}", f"6.6.{number}"
        if kind == "swapped":
            lab.run([lab.python, "-m", "er.bad_candidate", "--from", last, "--out", bad], cwd=EXAMPLE)
        else:
            # As good as the champion, where it is right.
            bad = last
            with self.wrong.open("a") as file:
                file.write(f"bundles/{MODEL}/{version}.json\n")
        bundle = lab.publish_bundle(lab.build_bundle(bad, version, demo.PANE_S))
        rollout = lab.roll_out(bundle, self.plan(BAKE_DAYS, 1), "hotfix")

        def ended() -> dict[str, Any] | None:
            lab.check_alive()
            found = lab.rollout(rollout)
            waiting = "; ".join(on["sentence"] for on in found["waiting_on"])
            self.time.waiting(f"day {lab.day():.0f}: {kind}: {found['phase']['is']}: {waiting}")
            return found if found["phase"]["is"] in ("rolled_back", "held", "completed", "aborted") else None

        try:
            found = until("the bad challenger's rollout ends", ended, 180, 0.5)
        except Failure:
            # Neither stopped nor passed: what it waits for is worth knowing.
            found = lab.rollout(rollout)
            layers = [layer for stage in found["stages"] for layer in (stage["gate"] or {"layers": []})["layers"]]
            said = [f"{layer['layer']}: {layer['sentence']}" for layer in layers if layer["verdict"] == "insufficient"]
            waits = [on["sentence"] for on in found["waiting_on"]]
            print(f"  the bad challenger ({kind}) is undecided: {waits}; {said}", file=sys.stderr, flush=True)
        self.quiet_from = lab.day()
        phase = found["phase"]
        reached = sum(stage["activated"] + stage["returned"] for stage in found["stages"])
        stopped = phase["is"] == "rolled_back" and phase["stage"] in ("canary", "canaries") and reached <= CANARIES
        why = (phase.get("reason") or {}).get("sentence", "")
        self.time.add(f"bad challenger ({kind}): {phase['is']} at {phase['stage']}, {reached} boxes saw it: {why}")
        return kind, stopped


class Loop:
    """One closed loop in numbers."""

    def __init__(self, fleet: Fleet, alarm: dict[str, Any], run: dict[str, Any], noticed: float) -> None:
        entries = [entry for entry in fleet.lab.log_entries() if entry["id"] >= alarm["id"]]

        def first(kind: str) -> float:
            return next(parse_ms(entry["at"]) / 1000 for entry in entries if entry["kind"] == kind)

        proofs: dict[str, float] = {}
        for entry in entries:
            if entry["kind"] == "device.event.activated":
                proofs.setdefault(entry["subject"], parse_ms(entry["at"]) / 1000)
        times = sorted(proofs.values())
        wanted = math.ceil(SHARE * fleet.all_boxes)
        if len(times) < wanted:
            raise Failure(f"{len(times)} boxes proved the new bundle, not {wanted}")
        steps = {step["kind"]: parse_ms(step["at"]) / 1000 for step in run["timeline"]}
        begun, trained = (float(line) for line in fleet.stamps.read_text().splitlines()[-2:])
        bake = BAKE_DAYS * DAY_S / fleet.lab.factor
        alarmed, started = parse_ms(alarm["at"]) / 1000, first("rollout.started")
        canary, canaries = times[0], times[CANARIES - 1]
        after_canary, after_canaries = times[1] - canary, times[CANARIES] - canaries
        self.stages = {
            "alarm to trigger": first("trigger.accepted") - alarmed,
            "waiting for data": steps["queued"] - steps.get("collecting", steps["queued"]),
            "claim": begun - steps["queued"],
            "training": trained - begun,
            "build, gates, publish": steps["succeeded"] - trained,
            "rollout starts": started - steps["succeeded"],
            "canary serves": canary - started,
            "canary bake": min(bake, after_canary),
            "canary judged": max(0.0, after_canary - bake),
            "canaries serve": canaries - times[1],
            "canaries bake": min(bake, after_canaries),
            "canaries judged": max(0.0, after_canaries - bake),
            f"{SHARE:.0%} serve": times[wanted - 1] - times[CANARIES],
            f"alarm to {SHARE:.0%}": times[wanted - 1] - alarmed,
        }
        self.stages["machinery"] = self.stages[f"alarm to {SHARE:.0%}"] - sum(self.stages[stage] for stage in APART)
        last = times[-1]
        # A builder publishes under its own name, which is no person's.
        self.touched = [
            f"{entry['kind']} by {entry['actor']}"
            for entry in entries
            if parse_ms(entry["at"]) / 1000 <= last
            and entry["actor"]["kind"] == "person"
            and entry["actor"].get("name") != "builder-1"
        ]
        self.touches = len(self.touched)
        self.noticed, self.is_epidemic = noticed, fleet.is_epidemic
        sets = ((run.get("result") or {}).get("evaluation") or {}).get("sets", [])
        recent = next((s for s in sets if "recent" in s["name"]), {})
        self.stale, self.retrained = recent.get("champion"), recent.get("challenger")


def percentile(values: list[float], share: float) -> float:
    """The smallest value that so large a share is not above."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def live(number: int, wanted: int, boxes: int, bad_every: int, loops: list[Loop], bad: list[tuple[str, bool]]) -> None:
    """A fleet of its own, through `wanted` changes of its world."""
    fleet = Fleet(number, boxes)
    on_stop(fleet.lab)
    try:
        fleet.begin()
        for _ in range(wanted):
            try:
                loop = fleet.close_the_loop()
            except Kept as kept:
                print(f"the champion stays: {kept}", flush=True)
                return
            loops.append(loop)
            print(f"loop {len(loops)}: machinery {loop.stages['machinery']:.1f} s", *loop.touched, flush=True)
            if len(loops) % bad_every == 0:
                bad.append(fleet.bad_challenger(len(bad)))
    finally:
        fleet.lab.stop()


def report(loops: list[Loop], bad: list[tuple[str, bool]], failed: int, boxes: int) -> bool:
    """Prints every stage and every goal; whether all goals are met."""
    print(f"\n{len(loops)} loops, 3 real and {boxes} simulated boxes, real seconds; a world day takes {demo.SECONDS_PER_DAY:g} s")
    print(f"  {'stage':<24}{'p50':>8}{'p95':>8}")
    for stage in loops[0].stages if loops else ():
        values = [loop.stages[stage] for loop in loops]
        note = "  not ours" if stage in APART else ""
        print(f"  {stage:<24}{percentile(values, 0.5):8.1f}{percentile(values, 0.95):8.1f}{note}")
    for what, of in (
        ("an epidemic comes", [loop for loop in loops if loop.is_epidemic]),
        ("it is over", [loop for loop in loops if not loop.is_epidemic]),
    ):
        known = [loop for loop in of if loop.stale is not None and loop.retrained is not None]
        if known:
            noticed, stale, retrained = (
                percentile([getattr(loop, name) for loop in known], 0.5) for name in ("noticed", "stale", "retrained")
            )
            print(f"  {what} (p50 of {len(known)}): noticed after {noticed:.0f} world days; log loss of its patients: ", end="")
            print(f"stale {stale:.3f}, retrained {retrained:.3f}")
    for kind in BAD_KINDS:
        outcomes = [stopped for of, stopped in bad if of == kind]
        print(f"  bad challengers, {kind}: {outcomes.count(True)} of {len(outcomes)} stopped at a canary")
    machinery = percentile([loop.stages["machinery"] for loop in loops], 0.95) if loops else math.inf
    passed = sum(not stopped for _, stopped in bad)
    goals: list[tuple[str, float, str, float]] = [
        ("loop_machinery_p95", machinery, "s", MACHINERY_S_MAX),
        ("loop_operator_touches", float(sum(loop.touches for loop in loops)), "touches", 0.0),
        ("loop_bad_challengers_passed", float(passed), f"of {len(bad)}", 0.0),
        ("loops_that_did_not_close", float(failed), "loops", 0.0),
    ]
    for name, value, unit, limit in goals:
        word = "met" if value <= limit else "missed"
        print(f"goal {name}: {value:.1f} {unit}, wanted <= {limit:g}: {word}")
    return all(value <= limit for _, value, _, limit in goals)


def main() -> int:
    # Faster than the demo is watched: what is deliberate is shorter, what is measured is not.
    demo.SECONDS_PER_DAY = 1.0

    def number(name: str, default: int) -> int:
        return int(os.environ.get(name, str(default)))

    wanted, boxes = number("LOOPS", 30), number("BOXES", 1000)
    epidemics, bad_every = number("EPIDEMICS", 3), number("BAD_EVERY", 1)
    loops: list[Loop] = []
    bad: list[tuple[str, bool]] = []
    failed = fleets = 0
    try:
        while (left := wanted - len(loops) - failed) > 0:
            fleets += 1
            try:
                live(fleets, min(left, epidemics), boxes, bad_every, loops, bad)
            except Failure as failure:
                # The others of this fleet are tried on a fresh one.
                print(f"a loop did not close: {failure}", file=sys.stderr, flush=True)
                failed += 1
    except SystemExit:
        # Ended by hand: what there is is worth seeing.
        report(loops, bad, failed, boxes)
        raise
    return 0 if report(loops, bad, failed, boxes) else 1


if __name__ == "__main__":
    sys.exit(main())
