"""A small fleet on this machine, from real parts: what the demo and the stories share.

Starts the built binaries as processes, on loopback and free ports, below one folder; waits for facts, never for time
alone; and ends what it started, by process id. Standard library only.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "er-capacity"
LOCAL = ROOT / ".muster"
MODEL = "deterioration"
DAY_S = 86_400
T = TypeVar("T")


class Failure(Exception):
    """What went wrong, in a sentence for whoever runs this."""


def target_dir() -> Path:
    """Where cargo puts binaries."""
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"


def runs_openvino() -> bool:
    """Whether OpenVINO's provider drives this machine: it does with Intel's processors alone. Elsewhere models run on ONNX
    Runtime's own kernels, and every box says so."""
    return "GenuineIntel" in Path("/proc/cpuinfo").read_text()


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def rfc3339(ms: float) -> str:
    seconds, rest = divmod(int(ms), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:03d}Z"


def parse_ms(text: str) -> int:
    """RFC 3339 in UTC, to milliseconds."""
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def until(what: str, probe: Callable[[], T | None], timeout_s: float, every_s: float = 0.2) -> T:
    """Asks until the answer is neither None nor False."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise Failure(f"waited {timeout_s:.0f} s in vain until {what}")
        time.sleep(every_s)


@dataclass
class Process:
    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def alive(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        """As a power cut does it."""
        self.popen.kill()
        self.popen.wait(10)

    def stop(self) -> None:
        if self.alive():
            self.popen.terminate()
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait(10)

    def tail(self, lines: int = 12) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


@dataclass
class Box:
    """One agent: its folder, its site, its process."""

    name: str
    folder: Path
    process: Process | None = None

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def device(self) -> str:
        return json.loads((self.state_dir / "identity" / "enrolment.json").read_text())["device"]

    @property
    def url(self) -> str:
        return json.loads((self.state_dir / "addresses.json").read_text())["oip"]


@dataclass
class Lab:
    """A fleet server, its boxes, a publisher's folder and a builder."""

    dir: Path
    #: World seconds a real second; 1 is real time.
    factor: float = 1.0
    #: World day (since 2024-01-01) at which the world starts.
    world_day: float = 0.0
    wall_start: int = 0
    processes: list[Process] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    http_port: int = 0
    #: The release key that counts now.
    targets_key: str = "targets"
    #: The fleet's log, as far as it was read: it only grows.
    log: list[dict[str, Any]] = field(default_factory=list)

    # -- time -------------------------------------------------------------------------------------------------------

    EPOCH_MS = 1_704_067_200_000

    def start_world(self) -> None:
        self.wall_start = wall_ms()

    @property
    def world_start_ms(self) -> int:
        return self.EPOCH_MS + int(self.world_day * DAY_S * 1000)

    def world_ms(self) -> int:
        return self.world_start_ms + int((wall_ms() - self.wall_start) * self.factor)

    def day(self) -> float:
        """World days since 2024-01-01."""
        return (self.world_ms() - self.EPOCH_MS) / (DAY_S * 1000)

    def clock_toml(self) -> str:
        return (
            f'\n[clock]\nwall_start = "{rfc3339(self.wall_start)}"\n'
            f'world_start = "{rfc3339(self.world_start_ms)}"\nfactor = {self.factor}\n'
        )

    def wall_s(self, world_days: float) -> float:
        return world_days * DAY_S / self.factor

    # -- processes --------------------------------------------------------------------------------------------------

    def spawn(self, name: str, args: list[str | Path], cwd: Path = ROOT, env: dict[str, str] | None = None) -> Process:
        log = self.dir / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            popen = subprocess.Popen(
                [str(arg) for arg in args],
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl-C reaches us first, and we end everything in order.
                start_new_session=True,
            )
        process = Process(name, popen, log)
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """Ends what was started, the newest first."""
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()

    def check_alive(self) -> None:
        for process in self.processes:
            if not process.alive():
                code = process.popen.returncode
                raise Failure(f"{process.name} ended with {code}; its last words ({process.log}):\n{process.tail()}")

    def run(self, args: list[str | Path], cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
        """Runs a command to its end and returns its standard output."""
        done = subprocess.run(
            [str(arg) for arg in args],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        with (self.dir / "logs" / "commands.log").open("a") as log:
            log.write(f"$ {' '.join(str(arg) for arg in args)}\n{done.stderr}{done.stdout}\n")
        if done.returncode != 0:
            command = " ".join(Path(str(arg)).name if i == 0 else str(arg) for i, arg in enumerate(args))
            raise Failure(f"`{command}` ended with {done.returncode}:\n{done.stderr.strip()}")
        return done.stdout

    # -- parts ------------------------------------------------------------------------------------------------------

    @property
    def target(self) -> Path:
        return target_dir()

    @property
    def fleet_dir(self) -> Path:
        return self.dir / "fleet"

    @property
    def workspace(self) -> Path:
        return self.dir / "publisher"

    @property
    def python(self) -> Path:
        return LOCAL / "python" / "bin" / "python"

    @property
    def runtime(self) -> Path:
        return Path(os.environ.get("MUSTER_RUNTIME", LOCAL / "runtime"))

    def fresh(self) -> None:
        """An empty folder: nothing of an earlier run is left."""
        shutil.rmtree(self.dir, ignore_errors=True)
        self.log.clear()
        (self.dir / "logs").mkdir(parents=True)

    def start_fleet(self) -> Process:
        config = self.dir / "fleet.toml"
        addresses = self.fleet_dir / "addresses.json"
        known = json.loads(addresses.read_text()) if addresses.exists() else {}
        # A restarted server keeps its ports, as a real one does.
        ports = {"http": self.http_port, "mqtt": 0, "door": 0}
        for part, address in known.items():
            ports[part] = int(address.rsplit(":", 1)[1])
        listen = "".join(f'\n[{part}]\nlisten = "127.0.0.1:{port}"\n' for part, port in ports.items())
        config.write_text(f'data = "{self.fleet_dir}"\n{listen}{self.clock_toml()}')
        addresses.unlink(missing_ok=True)
        process = self.spawn("fleet", [target_dir() / "muster-fleet", "serve", "--config", config])

        def ready() -> bool:
            if not process.alive():
                raise Failure(f"the fleet server ended at once:\n{process.tail()}")
            return addresses.exists() and self.get("/healthz", missing_ok=True) is not None

        until("the fleet server answers", ready, 30)
        return process

    @property
    def addresses(self) -> dict[str, str]:
        return json.loads((self.fleet_dir / "addresses.json").read_text())

    def muster(self, *args: str | Path) -> str:
        """The operators' command line, as a person would type it."""
        base = ["--server", self.addresses["http"], "--workspace", self.workspace, "--as", "demo"]
        return self.run([target_dir() / "muster", *base, *args])

    def get(self, path: str, missing_ok: bool = False) -> Any:
        try:
            with urllib.request.urlopen(self.addresses["http"] + path, timeout=10) as answer:
                body = answer.read()
        except (urllib.error.URLError, ConnectionError, OSError):
            if missing_ok:
                return None
            raise
        return json.loads(body) if body[:1] in (b"{", b"[") else body.decode()

    def make_trust(self) -> None:
        """The publisher's keys and root; the builder may sign the model's retrained bundles and nothing else."""
        for name in ("root", self.targets_key, f"builder-{MODEL}"):
            self.muster("key", "new", name, "--no-passphrase")
        keys = self.fleet_dir / "keys"
        self.muster(
            *("root", "new", "--root-key", "root", "--targets-key", self.targets_key),
            *("--online", keys / "online.pub", "--order", keys / "order.pub"),
            *("--tls-root", self.fleet_dir / "pki" / "server-ca.pem"),
            *("--delegate", f"{MODEL}=builder-{MODEL}"),
        )
        self.muster("root", "sign", "--key", "root")
        self.muster("release", "publish", "--key", self.targets_key)

    def start_box(self, name: str, report_s: int, listen: str = "127.0.0.1:0") -> Box:
        box = next((box for box in self.boxes if box.name == name), None)
        if box is None:
            box = Box(name, self.dir / "boxes" / name)
            self.boxes.append(box)
            box.folder.mkdir(parents=True)
            config = box.folder / "agent.toml"
            config.write_text(
                f'name = "{name}"\nstate_dir = "{box.state_dir}"\n\n[serve]\nlisten = "{listen}"\n\n'
                f'[runtime]\ndir = "{self.runtime}"\n\n[report]\nevery_s = {report_s}\n' + self.clock_toml()
            )
            self.enrol(name, box.folder / f"{name}.enrol", config)
        # A box that starts again listens somewhere else.
        (box.state_dir / "addresses.json").unlink(missing_ok=True)
        args: list[str | Path] = [target_dir() / "muster-agent", "run", "--config", box.folder / "agent.toml"]
        box.process = self.spawn(f"agent-{name}", args)
        return box

    def enrol(self, site: str, file: Path, config: Path) -> None:
        """Makes the box a member: its own key, a certificate from the fleet, the root it trusts. The file is good once."""
        self.muster("enrol", "new", "--site", site, "--approve", "auto", "--out", file)
        self.run([target_dir() / "muster-agent", "enrol", file, "--config", config])
        file.unlink()

    def wait_for_boxes(self) -> None:
        """Until every box is online at the fleet."""

        def online() -> bool:
            self.check_alive()
            found = self.get("/api/v1/devices?presence=online")["items"]
            return {device["name"] for device in found} >= {box.name for box in self.boxes}

        until("every box is online", online, 60)

    # -- models -----------------------------------------------------------------------------------------------------

    def train(self, out: Path, request: dict[str, Any]) -> None:
        out.mkdir(parents=True, exist_ok=True)
        path = out.with_suffix(".request.json")
        path.write_text(json.dumps({"schema": "muster-run/1", "model": MODEL, **request}))
        env = {"MUSTER_REQUEST": str(path), "MUSTER_OUT": str(out), "MUSTER_DATA": str(self.dir / "warehouse")}
        self.run([self.python, "-m", "er.train"], cwd=EXAMPLE, env=env)

    def build_bundle(self, trained: Path, version: str, pane_s: int) -> Path:
        out = self.dir / "bundles" / version
        out.parent.mkdir(exist_ok=True)
        self.muster(
            *("bundle", "build", "--from", trained, "--model", MODEL, "--version", version, "--out", out),
            *("--agent", target_dir() / "muster-agent", "--runtime", self.runtime, "--pane-s", str(pane_s)),
        )
        return out

    def publish_bundle(self, folder: Path) -> str:
        """Uploads, adds to the catalogue and signs it as people do; returns the bundle's path in the catalogue."""
        path = self.muster("bundle", "add", folder).strip().splitlines()[-1]
        self.muster("release", "publish", "--key", self.targets_key)
        return path

    def roll_out(self, bundle: str, plan: dict[str, Any], reason: str, model: str = MODEL) -> str:
        file = self.dir / "plan.json"
        file.write_text(json.dumps(plan))
        answer = self.muster(
            *("-o", "json", "rollout", "create", "--model", model, "--bundle", bundle),
            *("--plan", file, "--reason", reason, "--yes"),
        )
        return json.loads(answer)["id"]

    def rollout(self, rollout: str) -> dict[str, Any]:
        return self.get(f"/api/v1/rollouts/{rollout}")

    def log_entries(self) -> list[dict[str, Any]]:
        """Everything that happened so far, in order."""
        while True:
            after = self.log[-1]["id"] if self.log else 0
            found = self.get(f"/api/v1/log?after={after}&limit=500")["items"]
            if not found:
                return list(self.log)
            self.log.extend(found)


def on_stop(lab: Lab) -> None:
    """Ctrl-C and SIGTERM end everything that was started."""

    def end(_signal: int, _frame: object) -> None:
        print("\nstopping …", file=sys.stderr, flush=True)
        lab.stop()
        sys.exit(130)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
