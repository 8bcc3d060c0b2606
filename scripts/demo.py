#!/usr/bin/env python3
"""The whole story on this machine: `make demo`.

A hospital group of three emergency rooms, a box in each. A model that warns of patients who will deteriorate is trained,
signed and rolled out. An epidemic arrives whose patients look better than they are. The boxes notice, the model is trained
again on what the hospital has seen by then, and the better one reaches every box. Then a broken one is signed by people
in a hurry; the canary finds it by what it does, and goes back. Nobody touches anything in between.

World time runs fast (a day in two seconds); signatures, leases and connections run in real time.

    DEMO_EXIT=1   end by itself, with exit code 0 only if every step really happened
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from lab import DAY_S, EXAMPLE, LOCAL, MODEL, Failure, Lab, Process, on_stop, parse_ms, runs_openvino, until, wall_ms

SITES = ("er-1", "er-2", "er-3")
SECONDS_PER_DAY = 2.0
#: The history ends where the world starts; the live days follow.
WORLD_DAY = 760
BASELINE_DAYS = 30
#: How much of the epidemic the retraining waits for, from the first suspicious day.
DATA_DAYS = 28
PANE_S = DAY_S // 4
REPORT_S = DAY_S // 8

#: What a newcomer may do next.
AFTERWARDS = """
The hospital goes on, half a day in {half_day:g} s, and its models go on being retrained. In the dashboard, {http} :
  which boxes run a version?    Overview, Models: the version beside its bar
  start and stop a rollout:     Rollouts, New rollout; give installs 60 days or more, for days are short here
  why does a box wait?          Devices: the last column; the box's own page says more
Ctrl-C ends everything."""


class Timeline:
    """What happened when, on the terminal as it happens and once more at the end."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.start = time.monotonic()
        self.rows: list[tuple[float, float | None, str]] = []
        self.terminal = sys.stdout.isatty()

    def add(self, text: str) -> None:
        day = self.lab.day() if self.lab.wall_start else None
        row = (time.monotonic() - self.start, day, text)
        self.rows.append(row)
        self.clear()
        print(self.line(row), flush=True)

    def waiting(self, text: str) -> None:
        """A line that replaces itself; only on a terminal."""
        if self.terminal:
            print(f"\r\033[K  {time.monotonic() - self.start:6.1f} s  … {text}", end="", flush=True)

    def clear(self) -> None:
        if self.terminal:
            print("\r\033[K", end="")

    @staticmethod
    def line(row: tuple[float, float | None, str]) -> str:
        seconds, day, text = row
        when = f"day {day:5.1f}" if day is not None else "         "
        return f"  {seconds:6.1f} s  {when}  {text}"

    def again(self) -> None:
        print("\nTimeline (real seconds; world days since 2024-01-01):")
        for row in self.rows:
            print(self.line(row))


class Demo:
    def __init__(self) -> None:
        self.lab = Lab(LOCAL / "demo", factor=DAY_S / SECONDS_PER_DAY, world_day=WORLD_DAY)
        self.lab.http_port = int(os.environ.get("DEMO_PORT", "8480"))
        self.time = Timeline(self.lab)
        self.epidemic_day = 0

    # -- the story --------------------------------------------------------------------------------------------------

    def play(self) -> list[str]:
        """The whole story; returns its closing lines."""
        self.prepare()
        champion = self.first_release()
        self.normal_life()
        drift_to_fleet = self.epidemic(champion)
        return [*drift_to_fleet, self.bad_candidate()]

    def prepare(self) -> None:
        lab = self.lab
        lab.fresh()
        self.write_hospital(epidemic_day=None)
        lab.run([lab.python, "-m", "er.hospital", "--config", lab.dir / "hospital.json", "--prepare"], cwd=EXAMPLE)
        self.time.add(f"the hospital's warehouse holds two years of {len(SITES)} emergency rooms")
        out = lab.dir / "trained" / "first"
        trigger = {"id": "trg-00000000000000000000000001", "kind": "initial"}
        from_epoch = lab.EPOCH_MS + WORLD_DAY * DAY_S * 1000
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(from_epoch / 1000))
        lab.train(out, {"run": "run-00000000000000000000000001", "trigger": trigger, "world_now": now})
        self.time.add("a first model is trained on them")

    def first_release(self) -> str:
        lab = self.lab
        lab.start_world()
        lab.start_fleet()
        lab.make_trust()
        self.time.add(f"the fleet server is up: watch it at {self.lab.addresses['http']}")
        self.time.add("the publisher's keys and root are made; the offline keys stay with the publisher")
        bundle = lab.publish_bundle(lab.build_bundle(lab.dir / "trained" / "first", "1.0.0", PANE_S))
        self.time.add(f"{bundle} is built, checked, signed and in the catalogue")
        for site in SITES:
            lab.start_box(site, REPORT_S)
        lab.wait_for_boxes()
        self.time.add(f"{len(SITES)} boxes are online")
        self.more_boxes()
        self.policy()
        plan = self.plan(canary_bake_days=0.5, all_bake_days=0.5)
        # Applications call the boxes from now on; the epidemic comes when a quiet month has passed.
        self.epidemic_day = int(lab.day()) + BASELINE_DAYS + 8
        rollout = lab.roll_out(bundle, plan, "the first release")
        self.wait_for_activation()
        self.write_hospital(self.epidemic_day)
        self.start_hospital()
        self.wait_for_rollout(rollout, "completed")
        self.check_provider()
        through = "OpenVINO" if runs_openvino() else "ONNX Runtime (OpenVINO drives Intel's processors alone)"
        self.time.add(f"canary, then everyone: all boxes answer patients through {through}")
        self.start_builder()
        return bundle

    def normal_life(self) -> None:
        """A month in which nothing may be raised."""
        quiet_until = self.epidemic_day
        while (day := self.lab.day()) < quiet_until:
            self.lab.check_alive()
            self.time.waiting(f"day {day:.0f}: ordinary days, the epidemic comes on day {quiet_until}")
            time.sleep(0.5)
        incidents = self.lab.get("/api/v1/incidents")["items"]
        if incidents:
            raise Failure(f"drift was raised in an ordinary month: {incidents[0]['sentence']}")
        self.time.add(f"{BASELINE_DAYS} ordinary days: no false alarm")

    def epidemic(self, champion: str) -> list[str]:
        lab = self.lab
        self.time.add("an epidemic begins; its patients look better than they are")
        alarm = self.wait_for_log("incident.opened", "drift is noticed", lab.wall_s(40))
        noticed = (parse_ms(alarm["world_at"]) - lab.EPOCH_MS) / (DAY_S * 1000) - self.epidemic_day
        self.time.add(f"drift is raised {noticed:.0f} days in: {alarm['sentence']}")
        trigger = self.wait_for_log("trigger.accepted", "the retrain policy answers", lab.wall_s(20))
        self.time.add(trigger["sentence"])
        self.wait_for_log("run.queued", "enough of the epidemic has been seen", lab.wall_s(60))
        self.time.add("enough of the epidemic has been seen; a builder takes the run")
        run = until("the run ends", self.ended_run, 180, 0.3)
        if run["state"] != "succeeded":
            raise Failure(f"the retraining {run['state']}: {json.dumps(run.get('failure') or run.get('result'))}")
        self.time.add(f"retrained, better than the champion on recent patients: {self.figures(run)}")
        started = self.wait_for_log("rollout.started", "its rollout starts", 30, after=alarm["id"])
        self.wait_for_rollout(started["subject"], "completed")
        rollout = lab.rollout(started["subject"])
        self.time.add(f"{rollout['bundle']['path']} passed its gates and runs on every box")
        if rollout["bundle"]["path"] == champion:
            raise Failure("the rollout moved nothing")
        return self.drift_to_fleet(alarm, run, rollout)

    def drift_to_fleet(self, alarm: dict[str, Any], run: dict[str, Any], rollout: dict[str, Any]) -> list[str]:
        """From the alarm to the last box that proved the new digest; training and waiting for data are shown apart."""
        proofs = [
            entry
            for entry in self.lab.log_entries()
            if entry["kind"] == "device.event.activated" and entry["id"] > alarm["id"]
        ]
        if len({entry["subject"] for entry in proofs}) < len(SITES):
            raise Failure("not every box proved the new bundle")
        total = (max(parse_ms(entry["at"]) for entry in proofs) - parse_ms(alarm["at"])) / 1000
        steps = {step["kind"]: parse_ms(step["at"]) for step in run["timeline"]}
        training = (steps["succeeded"] - steps["claimed"]) / 1000
        collecting = (steps["queued"] - steps.get("collecting", steps["queued"])) / 1000
        return [
            f"waiting for data {collecting:.1f} s of it: until {DATA_DAYS} world days after the onset",
            f"drift to fleet: {total:.1f} s (training {training:.1f} s)",
        ]

    def bad_candidate(self) -> str:
        lab = self.lab
        bad = lab.dir / "trained" / "bad"
        source = lab.dir / "trained" / "first"
        lab.run([lab.python, "-m", "er.bad_candidate", "--from", source, "--out", bad], cwd=EXAMPLE)
        bundle = lab.publish_bundle(lab.build_bundle(bad, "6.6.6", PANE_S))
        self.time.add(f"{bundle}: columns swapped at export, signed by people in a hurry")
        rollout = lab.roll_out(bundle, self.plan(canary_bake_days=2, all_bake_days=1), "hotfix")
        self.wait_for_rollout(rollout, "rolled_back")
        found = lab.rollout(rollout)
        devices = lab.get(f"/api/v1/rollouts/{rollout}/devices")["items"]
        exposed = [device for device in devices if device["state"] in ("returned", "returning")]
        if found["phase"]["stage"] != "canary" or len(exposed) != 1:
            raise Failure(f"the bad candidate reached {len(exposed)} boxes")
        self.time.add(f"the canary's gate found it: {found['phase']['reason']['sentence']}")
        running = {slot["current"]["path"] for device in lab.get("/api/v1/devices")["items"] for slot in device["slots"]}
        if bundle in running or len(running) != 1:
            raise Failure(f"the boxes run {running}")
        return "bad candidate: stopped at canary, rolled back"

    # -- parts ------------------------------------------------------------------------------------------------------

    def more_boxes(self) -> None:
        """Others beside those of the story; here there are none."""

    def start_hospital(self) -> Process:
        lab = self.lab
        return lab.spawn("hospital", [lab.python, "-m", "er.hospital", "--config", lab.dir / "hospital.json"], cwd=EXAMPLE)

    def plan(self, canary_bake_days: float, all_bake_days: float) -> dict[str, Any]:
        def stage(name: str, size: dict[str, float], bake_days: float) -> dict[str, Any]:
            bake_s = int(bake_days * DAY_S)
            return {"name": name, "size": size, "bake_s": bake_s, "deadline_s": bake_s + 30 * DAY_S}

        return {
            # Its default of six hours is half a second here, which a busy machine needs for an install.
            "install_deadline_s": 20 * DAY_S,
            "stages": [
                stage("canary", {"count": 1}, canary_bake_days),
                stage("everyone", {"percent": 100.0}, all_bake_days),
            ],
        }

    def policy(self) -> None:
        file = self.lab.dir / "policy.json"
        policy = {
            "enabled": True,
            "trigger": {"drift": {"share_of_streams": 0.2}},
            "cooldown_s": 7 * DAY_S,
            "min_data_s": DATA_DAYS * DAY_S,
            "max_runs_per_week": 2,
            "rollout": {"automatic": True, **self.plan(canary_bake_days=2, all_bake_days=1)},
        }
        file.write_text(json.dumps(policy, indent=2))
        self.lab.muster("policy", "set", MODEL, file)

    def trainer(self) -> list[str]:
        """The command that the builder trains with."""
        return [str(self.lab.python), "-m", "er.train"]

    def start_builder(self) -> None:
        lab = self.lab
        config = lab.dir / "builder.toml"
        config.write_text(
            f'name = "builder-1"\nfleet = "{lab.addresses["http"]}"\nwork_dir = "{lab.dir / "builder"}"\n'
            f'key = "{lab.workspace / "keys" / f"builder-{MODEL}.key"}"\n'
            f'root = "{lab.workspace / "metadata" / "1.root.json"}"\n'
            f'agent = "{lab.target / "muster-agent"}"\nruntime = "{lab.runtime}"\npoll_s = 0.5\n\n'
            f'[[models]]\nmodel = "{MODEL}"\ncommand = {json.dumps(self.trainer())}\ncwd = "{EXAMPLE}"\n'
            f'data = "{lab.dir / "warehouse"}"\ntimeout_s = 300\nmemory_mb = 8192\nfrozen_tolerance = 0.03\n'
            f"pane_s = {PANE_S}\n"
        )
        lab.spawn("builder", [lab.target / "muster", "builder", "run", "--config", config])

    def write_hospital(self, epidemic_day: int | None) -> None:
        lab = self.lab
        urls = {box.name: box.url for box in lab.boxes}
        config = {
            "clock": {"wall_start_ms": lab.wall_start, "world_start_ms": lab.world_start_ms, "scale": lab.factor},
            "sites": [
                {"name": site, "url": urls.get(site, "http://127.0.0.1:9"), "seed": 11 + n} for n, site in enumerate(SITES)
            ],
            "slot": MODEL,
            "warehouse": str(lab.dir / "warehouse"),
            "epidemic_from_day": epidemic_day,
            "first_day": WORLD_DAY,
            "history_days": WORLD_DAY,
            "history_from_day": 60,
        }
        (lab.dir / "hospital.json").write_text(json.dumps(config, indent=2))

    # -- waiting ----------------------------------------------------------------------------------------------------

    def wait_for_activation(self) -> None:
        def canary() -> bool:
            self.lab.check_alive()
            entries = self.lab.log_entries()
            return any(entry["kind"] == "device.event.activated" for entry in entries)

        until("the canary has activated the first bundle", canary, 60)

    def wait_for_log(self, kind: str, what: str, timeout_s: float, after: int = 0) -> dict[str, Any]:
        def find() -> dict[str, Any] | None:
            self.lab.check_alive()
            self.time.waiting(f"day {self.lab.day():.0f}: until {what}")
            entries = [entry for entry in self.lab.log_entries() if entry["kind"] == kind and entry["id"] > after]
            return entries[0] if entries else None

        return until(what, find, timeout_s)

    def wait_for_rollout(self, rollout: str, phase: str) -> None:
        def reached() -> bool:
            self.lab.check_alive()
            found = self.lab.rollout(rollout)
            is_ = found["phase"]["is"]
            waiting = "; ".join(on["sentence"] for on in found["waiting_on"])
            self.time.waiting(f"day {self.lab.day():.0f}: rollout {is_}: {waiting}")
            if is_ != phase and is_ in ("held", "aborted", "rolled_back", "completed"):
                raise Failure(f"the rollout is {is_}, not {phase}: {json.dumps(found['phase'])}")
            return is_ == phase

        until(f"the rollout is {phase}", reached, 180, 0.3)

    def ended_run(self) -> dict[str, Any] | None:
        self.lab.check_alive()
        runs = self.lab.get("/api/v1/runs")["items"]
        if not runs:
            return None
        run = self.lab.get(f"/api/v1/runs/{runs[0]['id']}")
        progress = run.get("progress") or {}
        self.time.waiting(f"day {self.lab.day():.0f}: {progress.get('message') or run['state']}")
        return None if run["state"] in ("collecting", "queued", "claimed") else run

    @staticmethod
    def figures(run: dict[str, Any]) -> str:
        evaluation = (run.get("result") or {}).get("evaluation") or {}
        sets = evaluation.get("sets", [])
        shown = [f"{s['name']} {s['challenger']:.3f} against {s['champion']:.3f}" for s in sets if s.get("champion") is not None]
        return f"{evaluation.get('metric', '')} {', '.join(shown)}"

    def check_provider(self) -> None:
        for device in self.lab.get("/api/v1/devices")["items"]:
            for slot in device["slots"]:
                if slot["current"]["provider"] != "openvino" and runs_openvino():
                    raise Failure(f"{device['name']} runs on {slot['current']['provider']}: {slot['current']['provider_reason']}")


def main() -> int:
    demo = Demo()
    on_stop(demo.lab)
    began = wall_ms()
    print("Muster demo: three emergency rooms, an epidemic, and nobody awake.\n", flush=True)
    try:
        closing = demo.play()
    except Failure as failure:
        demo.time.clear()
        print(f"\nThe demo failed: {failure}\nLogs: {demo.lab.dir / 'logs'}", file=sys.stderr)
        demo.lab.stop()
        return 1
    except BaseException:
        demo.lab.stop()
        raise
    demo.time.again()
    print(f"\nDashboard: {demo.lab.addresses['http']}   MQTT: {demo.lab.addresses['mqtt']}   logs: {demo.lab.dir / 'logs'}")
    print(f"The whole story took {(wall_ms() - began) / 1000:.0f} s.\n")
    print("\n".join(closing), flush=True)
    if os.environ.get("DEMO_EXIT") == "1":
        demo.lab.stop()
        return 0
    print(AFTERWARDS.format(http=demo.lab.addresses["http"], half_day=SECONDS_PER_DAY / 2), flush=True)
    # From here on an end is what was asked for.
    signal.signal(signal.SIGINT, lambda *_: (demo.lab.stop(), sys.exit(0)))
    while True:
        try:
            demo.lab.check_alive()
        except Failure as failure:
            print(f"\n{failure}", file=sys.stderr)
            demo.lab.stop()
            return 1
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
