#!/usr/bin/env python3
"""The stories of hw-tests/README.md, on this machine. Give names to run only those; none runs all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from lab import DAY_S, LOCAL, MODEL, Box, Failure, Lab, on_stop, runs_openvino, until  # noqa: E402

#: A world day in 10 s: bakes are short, and nothing else is.
SECONDS_PER_DAY = 10.0


def stage(name: str, size: dict[str, float], bake_s: int) -> dict[str, object]:
    # Nobody calls these boxes, so the gate is told to ask for installs and exposure only.
    gate = {"latency_requests_min": 0, "labels_min": 0}
    return {"name": name, "size": size, "bake_s": bake_s, "deadline_s": 30 * DAY_S, "gate": gate}


def infer(url: str, model: str, rows: list[list[float]], column: str = "x", output: str | None = None) -> list[float]:
    """One answer of a box to many rows: the first output, or the one that is named, flat."""
    data = [value for row in rows for value in row]
    request: dict[str, object] = {
        "inputs": [{"name": column, "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": data}]
    }
    if output is not None:
        request["outputs"] = [{"name": output}]
    sent = urllib.request.Request(f"{url}/v2/models/{model}/infer", data=json.dumps(request).encode())
    with urllib.request.urlopen(sent, timeout=10) as answer:
        return json.load(answer)["outputs"][0]["data"]


class Clients:
    """An application that asks one box all the time, and keeps what went wrong."""

    def __init__(self, url: str, columns: int) -> None:
        tensor = {"name": "x", "shape": [1, columns], "datatype": "FP32", "data": [1.0] * columns}
        self.request = urllib.request.Request(
            f"{url}/v2/models/{MODEL}/infer", data=json.dumps({"inputs": [tensor]}).encode()
        )
        self.answered = 0
        self.failures: list[str] = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.ask)

    def ask(self) -> None:
        while not self.stop.wait(0.02):
            try:
                with urllib.request.urlopen(self.request, timeout=10) as answer:
                    json.load(answer)
                self.answered += 1
            except (OSError, ValueError) as error:
                self.failures.append(repr(error))

    def __enter__(self) -> Clients:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


class Stories:
    """One fleet of three boxes for all stories, with two bundles in its catalogue."""

    def __init__(self) -> None:
        self.lab = Lab(LOCAL / "stories", factor=DAY_S / SECONDS_PER_DAY, world_day=760)
        self.bundles: list[str] = []

    def set_up(self) -> None:
        lab = self.lab
        lab.fresh()
        lab.start_world()
        lab.start_fleet()
        lab.make_trust()
        trained = lab.dir / "trained"
        config = lab.dir / "hospital.json"
        config.write_text(
            json.dumps(
                {
                    "clock": {"wall_start_ms": lab.wall_start, "world_start_ms": lab.world_start_ms, "scale": lab.factor},
                    "sites": [{"name": "er-1", "url": "http://127.0.0.1:9", "seed": 11}],
                    "slot": MODEL,
                    "warehouse": str(lab.dir / "warehouse"),
                    "epidemic_from_day": None,
                    "first_day": 760,
                    "history_days": 760,
                    "history_from_day": 600,
                }
            )
        )
        example = ROOT / "examples" / "er-capacity"
        lab.run([lab.python, "-m", "er.hospital", "--config", config, "--prepare"], cwd=example)
        trigger = {"id": "trg-00000000000000000000000001", "kind": "initial"}
        request = {"run": "run-00000000000000000000000001", "trigger": trigger, "world_now": "2026-01-30T00:00:00Z"}
        lab.train(trained, request)
        for version in ("1", "2"):
            self.bundles.append(lab.publish_bundle(lab.build_bundle(trained, version, DAY_S // 4)))
        for name in ("er-1", "er-2", "er-3"):
            lab.start_box(name, report_s=DAY_S // 24)
        lab.wait_for_boxes()
        self.finish(self.roll_out(self.bundles[0], 600))

    def roll_out(self, bundle: str, bake_s: int) -> str:
        stages = [stage("canary", {"count": 1}, bake_s), stage("everyone", {"percent": 100.0}, bake_s)]
        return self.lab.roll_out(bundle, {"stages": stages, "install_deadline_s": 20 * DAY_S}, "a story")

    def finish(self, rollout: str) -> None:
        def completed() -> bool:
            self.lab.check_alive()
            phase = self.lab.rollout(rollout)["phase"]
            if phase["is"] in ("held", "rolled_back", "aborted"):
                raise Failure(f"the rollout is {phase}")
            return phase["is"] == "completed"

        until("the rollout completes", completed, 120, 0.3)

    def running(self) -> str:
        """The bundle that the boxes run."""
        other = self.other_bundle()
        return next(bundle for bundle in self.bundles if bundle != other)

    def other_bundle(self) -> str:
        """The bundle that the boxes do not run."""
        running = {slot["current"]["path"] for box in self.lab.get("/api/v1/devices")["items"] for slot in box["slots"]}
        return next(bundle for bundle in self.bundles if bundle not in running)

    def strange_patients(self) -> None:
        """Sends much older and hotter patients to every box until drift is raised."""
        with (self.lab.dir / "trained" / "holdout_recent.csv").open() as rows:
            columns = rows.readline().strip().split(",")[:-1]
            patients = [[float(value) for value in row.strip().split(",")[:-1]] for _, row in zip(range(40), rows)]
        shifts = {"age": 30.0, "temp_c": 2.0, "heart_rate": 30.0, "sbp": -30.0, "resp_rate": 8.0}
        for patient in patients:
            for name, shift in shifts.items():
                patient[columns.index(name)] += shift

        def raised() -> bool:
            for box in self.lab.boxes:
                infer(box.url, MODEL, patients)
            return bool(self.lab.get("/api/v1/incidents")["items"])

        until("drift is raised", raised, 90, 0.25)

    # -- stories ----------------------------------------------------------------------------------------------------

    def provider(self) -> None:
        expected, library = ("openvino", "intel_cpu_plugin") if runs_openvino() else ("onnx_cpu", "libonnxruntime.so")
        for box in self.lab.boxes:
            reported = self.report(box)["slots"][0]["current"]["provider"]["provider"]
            assert box.process is not None
            maps = Path(f"/proc/{box.process.pid}/maps").read_text()
            mapped = sorted({line.split("/")[-1] for line in maps.splitlines() if "openvino" in line or "onnxruntime" in line})
            # What the runtime would tell its maker, it would keep in a database.
            tells = any("onnxruntime.db" in name for name in mapped)
            if reported != expected or tells or not any(library in name for name in mapped):
                raise Failure(f"{box.name} reports {reported} and maps {mapped}")
        print(f"    every box reports {expected} and maps {', '.join(mapped)}")

    def report(self, box: Box) -> dict[str, list[dict[str, dict[str, dict[str, str]]]]]:
        with urllib.request.urlopen(f"{box.url}/muster/v1/state", timeout=10) as answer:
            return json.load(answer)

    def runs(self, box: Box, bundle: str) -> bool:
        """Whether the box itself says so; a box that is still starting does not."""
        try:
            slots = self.report(box)["slots"]
        except OSError:
            return False
        return bool(slots) and (slots[0].get("current") or {}).get("bundle", {}).get("path") == bundle

    def doctors(self) -> None:
        """Server and boxes are well by their own word, and no running agent notices that it was looked at."""
        pids = [self.report(box)["pid"] for box in self.lab.boxes]
        print("    " + self.lab.muster("doctor").splitlines()[-1] + " at the server")
        for box in self.lab.boxes:
            print("    " + self.agent(box, "doctor").splitlines()[-1] + f" on {box.name}")
        online = self.lab.get("/api/v1/devices?presence=online")["items"]
        if len(online) != len(self.lab.boxes) or pids != [self.report(box)["pid"] for box in self.lab.boxes]:
            raise Failure(f"a box lost its connection or its agent: {len(online)} of {len(self.lab.boxes)} are online")

    def wire(self) -> None:
        if shutil.which("mosquitto_sub") is None:
            raise Failure("mosquitto_sub is missing: apt-get install mosquitto-clients")
        # Whoever listens needs a certificate too; an observer's reads and never writes.
        folder = self.lab.dir / "observer"
        config = self.lab.dir / "fleet.toml"
        self.lab.run(
            [self.lab.target / "muster-fleet", "observer-certificate", "story", "--config", config, "--out", folder]
        )
        port = self.lab.addresses["mqtt"].rsplit(":", 1)[1]
        topics = ["muster/1/d/+/down/order", "muster/1/d/+/up/state", "muster/1/trust/+"]
        args = ["mosquitto_sub", "-V", "mqttv5", "-h", "127.0.0.1", "-p", port, "-F", "%t %p", "-W", "8"]
        args += ["-i", "o-story", "--cafile", str(folder / "ca.pem")]
        args += ["--cert", str(folder / "client.pem"), "--key", str(folder / "client.key")]
        for topic in topics:
            args += ["-t", topic]
        listening = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
        # State is not retained: a box says it again when something changes.
        rollout = self.roll_out(self.other_bundle(), 60)
        out, _ = listening.communicate(timeout=30)
        self.finish(rollout)
        seen: dict[str, str] = {}
        for line in out.splitlines():
            topic, _, payload = line.partition(" ")
            kind = "trust" if "/trust/" in topic else topic.rsplit("/", 1)[1]
            json.loads(payload)
            seen.setdefault(kind, f"{topic} {payload[:100]}…")
        if set(seen) != {"order", "state", "trust"}:
            raise Failure(f"only {sorted(seen)} could be read")
        for line in seen.values():
            print(f"    {line}")

    def server_killed(self) -> None:
        rollout = self.roll_out(self.other_bundle(), 1800)
        until("the canary was asked", lambda: self.lab.rollout(rollout)["stages"][0]["handed"] > 0, 30, 0.05)
        server = next(process for process in self.lab.processes if process.name == "fleet")
        server.kill()
        self.lab.processes.remove(server)
        self.lab.start_fleet()
        phase = self.lab.rollout(rollout)["phase"]["is"]
        self.finish(rollout)
        print(f"    killed with -9 while handing out; it came back {phase} and completed")

    def agent_killed(self) -> None:
        kills = 0
        # At different moments of a rollout: downloading, testing, activating, just after.
        for delay in (0.0, 0.15, 0.3, 0.5, 0.8):
            bundle = self.other_bundle()
            rollout = self.roll_out(bundle, 60)

            def asked() -> str | None:
                found = self.lab.get(f"/api/v1/rollouts/{rollout}/devices")["items"]
                return next((device["name"] for device in found if device["state"] != "waiting"), None)

            name = until("the canary was asked", asked, 30, 0.02)
            time.sleep(delay)
            box = next(box for box in self.lab.boxes if box.name == name)
            assert box.process is not None
            box.process.kill()
            self.lab.processes.remove(box.process)
            kills += 1
            self.lab.start_box(box.name, report_s=DAY_S // 24)
            self.finish(rollout)
            for each in self.lab.boxes:
                until(f"{each.name} answers with {bundle}", lambda box=each: self.runs(box, bundle), 30)
        print(f"    {kills} kills with -9 around activation; each box came back whole and the rollouts completed")

    def window(self) -> None:
        """A bundle is staged outside its site's window, delayed by an application, and takes over without a failed request."""
        lab, box, bundle = self.lab, self.lab.boxes[1], self.other_bundle()
        # A box's site is called as the box here. The window begins in four world days: nothing waits for it by chance.
        weekday = (int(lab.day()) + 4) % 7  # 2024-01-01 was a Monday
        days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
        lab.muster("site", "set", box.name, "--zone", "UTC", "--activate", f"{days[weekday]} 02:00-06:00")
        with Clients(box.url, self.columns) as clients:
            rollout = self.roll_out(bundle, 60)
            until(f"{box.name} is ready and waits", lambda: self.waits_for(box) == "permit", 30, 0.1)
            if self.runs(box, bundle):
                raise Failure(f"{box.name} took the bundle over outside its window")
            self.agent(box, "lease", "take", "ct-console", "--reason", "an examination is running", "--seconds", "600")
            # The site opens at any time from now on.
            lab.muster("site", "set", box.name, "--zone", "UTC")
            held = time.monotonic()
            while time.monotonic() - held < 4:
                if self.waits_for(box) not in ("permit", "lease") or self.runs(box, bundle):
                    raise Failure(f"{box.name} did not wait for the examination: {self.report(box)['slots']}")
                time.sleep(0.1)
            self.agent(box, "lease", "release", "ct-console")
            released = time.monotonic()
            until(f"{box.name} runs {bundle}", lambda: self.runs(box, bundle), 30, 0.1)
            took_s = time.monotonic() - released
            answered = clients.answered
            until("clients are answered by the new bundle", lambda: clients.answered > answered + 20, 10, 0.05)
        if clients.failures:
            raise Failure(f"{len(clients.failures)} requests failed, the first with {clients.failures[0]}")
        self.finish(rollout)
        print(f"    staged outside the window, delayed by a lease, switched {took_s:.1f} s after it ended")
        print(f"    {clients.answered} requests meanwhile, none failed")

    def waits_for(self, box: Box) -> str | None:
        """What the bundle that is ready on this box waits for."""
        phase = self.report(box)["slots"][0]["phase"]
        return phase["waits_for"] if phase["is"] == "ready" else None

    def agent(self, box: Box, *args: str) -> str:
        """A command typed at the box."""
        return self.lab.run([self.lab.target / "muster-agent", *args, "--config", box.folder / "agent.toml"])

    def evidence(self) -> None:
        """Every rollout so far is proven by one signed file without a server, and lived again from its journal."""
        lab = self.lab
        root = lab.workspace / "metadata" / "1.root.json"
        rollouts = lab.get("/api/v1/rollouts")["items"]
        for rollout in rollouts:
            pack, journal = lab.dir / "evidence.json", lab.dir / "journal.json"
            lab.muster("rollout", "evidence", rollout["id"], "--out", pack)
            said = lab.muster("rollout", "verify-evidence", pack, "--root", root)
            if "history lived again" not in said or "the evidence holds" not in said:
                raise Failure(f"the evidence of {rollout['id']} does not hold: {said}")
            lab.muster("rollout", "journal", rollout["id"], "--out", journal)
            lab.muster("rollout", "replay", journal)
        print(f"    {len(rollouts)} rollouts proven by their evidence and lived again from their journals")

    def bundle_revoked(self) -> None:
        """A bundle that must not run stops at once, says why, and stays stopped over a restart, while an examination keeps
        the boxes from going back to what they ran before. When it has ended they do, by themselves."""
        lab, why, before = self.lab, "miscalibrated on portable films", self.running()
        revoked = self.other_bundle()
        self.finish(self.roll_out(revoked, 60))
        for box in lab.boxes:
            self.agent(box, "lease", "take", "ct-console", "--reason", "an examination is running", "--seconds", "600")
        lab.muster("release", "revoke", revoked, "--action", "stop", "--reason", why)
        lab.muster("release", "publish", "--key", lab.targets_key)
        began = time.monotonic()
        for box in lab.boxes:
            until(f"{box.name} stops answering and says why", lambda box=box: why in self.refusal(box), 30)
        stopped_s = time.monotonic() - began
        box = lab.boxes[0]
        assert box.process is not None
        box.process.kill()
        lab.processes.remove(box.process)
        lab.start_box(box.name, report_s=DAY_S // 24)
        until(f"{box.name} is back and still refuses", lambda: why in self.refusal(box), 30)
        for each in lab.boxes:
            until(f"{each.name} waits to go back", lambda box=each: self.waits_for(box) == "lease", 30)
            if why not in self.refusal(each):
                raise Failure(f"{each.name} answers in the middle of an examination: {self.refusal(each)}")
            self.agent(each, "lease", "release", "ct-console")
        for each in lab.boxes:
            until(f"{each.name} answers with {before}", lambda box=each: self.runs(box, before), 60)
            if refusal := self.refusal(each):
                raise Failure(f"{each.name} runs {before} and does not answer: {refusal}")
        lab.muster("release", "reinstate", revoked)
        lab.publish_bundle(lab.dir / "bundles" / revoked.rsplit("/", 1)[1].removesuffix(".json"))
        print(f"    {len(lab.boxes)} boxes stopped {stopped_s:.1f} s after the catalogue was published, one of them across kill -9")
        print("    and went back to the bundle before when the examination had ended")

    def refusal(self, box: Box) -> str:
        """What the box says to an application that asks its model; nothing if it answers."""
        tensor = {"name": "x", "shape": [1, self.columns], "datatype": "FP32", "data": [1.0] * self.columns}
        data = json.dumps({"inputs": [tensor]}).encode()
        try:
            request = urllib.request.Request(f"{box.url}/v2/models/{MODEL}/infer", data=data)
            urllib.request.urlopen(request, timeout=10).read()
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except (OSError, ValueError) as error:
            return str(error)
        return ""

    @property
    def columns(self) -> int:
        with (self.lab.dir / "trained" / "holdout_recent.csv").open() as rows:
            return len(rows.readline().split(",")) - 1

    def keys_rotated(self) -> None:
        """A new release key: root 2 is signed by the root key, and the old release key signs nothing any more."""
        lab = self.lab
        old, lab.targets_key = lab.targets_key, "targets-2"
        lab.muster("key", "new", "targets-2", "--role", "targets", "--no-passphrase")
        lab.muster("root", "edit", "--remove-targets-key", old, "--add-targets-key", "targets-2")
        lab.muster("root", "sign", "--key", "root")
        lab.muster("release", "publish", "--key", "targets-2")
        try:
            lab.muster("release", "publish", "--key", old)
        except Failure as refused:
            print(f"    the old key is refused: {str(refused).splitlines()[-1].strip()[:110]}")
        else:
            raise Failure("the old release key still publishes")
        for box in lab.boxes:
            until(f"{box.name} trusts root 2", lambda box=box: self.root_of(box) == 2, 30)
        self.finish(self.roll_out(self.other_bundle(), 60))
        print("    every box trusts root 2 and a rollout completes under the new key")

    def root_of(self, box: Box) -> int | None:
        return self.lab.get(f"/api/v1/devices/{box.device}").get("root_version")

    def box_stolen(self) -> None:
        """A revoked box is cut off at once, cannot come back, and goes on answering whoever stands beside it."""
        lab = self.lab
        box = lab.start_box("er-stolen", report_s=DAY_S // 24)
        lab.wait_for_boxes()
        began = time.monotonic()
        lab.muster("device", "revoke", box.device, "--reason", "stolen from the ward", "--yes")

        def presence() -> str:
            return lab.get(f"/api/v1/devices/{box.device}")["presence"]

        until("the stolen box is offline", lambda: presence() == "offline", 10, 0.05)
        cut_s = time.monotonic() - began
        time.sleep(3)
        if presence() != "offline":
            raise Failure("a revoked box came back")
        lab.check_alive()
        assert box.process is not None
        box.process.stop()
        lab.processes.remove(box.process)
        lab.boxes.remove(box)
        print(f"    cut off {cut_s:.1f} s after the word, and still out 3 s and several attempts later")

    def frameworks(self) -> None:
        """Models as TensorFlow, PyTorch and scikit-learn export them: a signed bundle each, and the framework's own answers."""
        lab = self.lab
        exported = Path(os.environ.get("FRAMEWORKS", ROOT / "fleet" / "tests" / "fixtures" / "frameworks"))
        answers = json.loads((exported / "answers.json").read_text())
        rows = answers["rows"]
        told = []
        for file, output in (("tensorflow", "score"), ("torch.onnx", "score"), ("sklearn.onnx", "probabilities")):
            name = file.removesuffix(".onnx")
            model, folder = f"risk-{name}", lab.dir / "bundles" / name
            try:
                lab.muster(
                    *("bundle", "build", "--from", exported / file, "--model", model, "--version", "1", "--out", folder),
                    *("--agent", lab.target / "muster-agent", "--runtime", lab.runtime),
                    *("--python", LOCAL / "convert" / "bin" / "python"),
                )
            except Failure as refused:
                # TensorFlow's becomes OpenVINO's own format, which nothing else runs.
                if runs_openvino() or file != "tensorflow" or "Intel's processors alone" not in str(refused):
                    raise
                told.append(f"{name} is refused, for OpenVINO drives no processor here")
                continue
            plan = {"stages": [stage("everyone", {"percent": 100.0}, 600)], "install_deadline_s": 20 * DAY_S}
            self.finish(lab.roll_out(lab.publish_bundle(folder), plan, f"a model of {name}", model))
            worst = 0.0
            for box in lab.boxes:
                with urllib.request.urlopen(f"{box.url}/v2/models/{model}", timeout=10) as answer:
                    column = json.load(answer)["inputs"][0]["name"]
                said = infer(box.url, model, rows, column, output)
                wanted = [value for row in answers[name] for value in row]
                worst = max([worst, *(abs(a - b) for a, b in zip(said, wanted, strict=True))])
            if worst > 1e-5:
                raise Failure(f"{model} differs by {worst} from what {name} itself says")
            told.append(f"{name} differs by {worst:.0e}")
        print(f"    on {len(lab.boxes)} boxes, from the frameworks' own answers: {', '.join(told)}")

    def notebook(self) -> None:
        """The example notebook, executed as Jupyter executes it, against this fleet."""
        lab = self.lab
        python = LOCAL / "client" / "bin" / "python"
        if not python.exists():
            raise Failure("the client's environment is missing: make client")
        env = {
            "PYTHONPATH": str(ROOT / "clients" / "python" / "src"),
            "MUSTER_SERVER": lab.addresses["http"],
            "BOXES": ",".join(box.url for box in lab.boxes),
            "MODEL": MODEL,
            "VERSION": "notebook",
            "TRAINED": str(lab.dir / "trained"),
            "OUT": str(lab.dir / "bundles"),
            "MUSTER": str(lab.target / "muster"),
            "AGENT": str(lab.target / "muster-agent"),
            "MUSTER_RUNTIME": str(lab.runtime),
            "WORKSPACE": str(lab.workspace),
            "KEY": lab.targets_key,
            "PANE_S": str(DAY_S // 4),
            "BAKE_S": "600",
        }
        before = self.running()
        notebook = ROOT / "examples" / "notebooks" / "bundle-rollout-drift.ipynb"
        done = lab.dir / "notebook.ipynb"
        lab.run(
            [
                *(python, "-m", "nbconvert", "--to", "notebook", "--execute", "--ExecutePreprocessor.timeout=300"),
                *("--output-dir", done.parent, "--output", done.name, notebook),
            ],
            env=env,
        )
        outputs = [output for cell in json.loads(done.read_text())["cells"] for output in cell.get("outputs", [])]
        if not any("image/png" in output.get("data", {}) for output in outputs):
            raise Failure(f"the notebook drew nothing: {done}")
        self.finish(self.roll_out(before, 600))
        print(f"    executed, with its plot: {done}")

    def dashboard(self) -> None:
        if shutil.which("chromium") is None:
            raise Failure("chromium is missing: apt-get install chromium")
        # Something to see on every page: a run, and an incident from patients nobody trained for.
        self.lab.muster("run", "start", "--model", MODEL, "--reason", "something to see")
        self.strange_patients()
        screenshots = Path(os.environ.get("SCREENSHOTS", self.lab.dir / "screenshots")).absolute()
        screenshots.mkdir(parents=True, exist_ok=True)
        env = {
            **os.environ,
            "BASE_URL": self.lab.addresses["http"],
            "EXPECT_DATA": "1",
            "REAL": "1",
            "SCREENSHOTS": str(screenshots),
        }
        done = subprocess.run(
            [str(ROOT / "scripts" / "dashboard.sh"), "browser"], env=env, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Failure(f"the browser test failed:\n{done.stdout[-9000:]}\n{done.stderr[-2000:]}")
        print(f"    screenshots: {screenshots}")


def main() -> int:
    stories = Stories()
    told: dict[str, Callable[[], None]] = {
        "provider": stories.provider,
        "doctors": stories.doctors,
        "wire": stories.wire,
        "server-killed": stories.server_killed,
        "agent-killed": stories.agent_killed,
        "window": stories.window,
        "evidence": stories.evidence,
        "bundle-revoked": stories.bundle_revoked,
        "keys-rotated": stories.keys_rotated,
        "box-stolen": stories.box_stolen,
        "frameworks": stories.frameworks,
        "notebook": stories.notebook,
        "dashboard": stories.dashboard,
    }
    names = sys.argv[1:] or list(told)
    unknown = [name for name in names if name not in told]
    if unknown:
        print(f"no story is called {', '.join(unknown)}; there are {', '.join(told)}", file=sys.stderr)
        return 2
    on_stop(stories.lab)
    failed = 0
    try:
        print("setting up a fleet of three boxes …", flush=True)
        stories.set_up()
        for name in names:
            began = time.monotonic()
            try:
                told[name]()
                print(f"  ok      {name} ({time.monotonic() - began:.1f} s)", flush=True)
            except (Failure, OSError, KeyError) as failure:
                failed += 1
                print(f"  FAILED  {name}: {failure!r}", flush=True)
    except Failure as failure:
        print(f"the stories could not be set up: {failure}\nLogs: {stories.lab.dir / 'logs'}", file=sys.stderr)
        failed = len(names)
    finally:
        stories.lab.stop()
    print(f"{len(names) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
