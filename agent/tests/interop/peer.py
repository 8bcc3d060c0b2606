"""Plays the suites against MLServer and says in what it differs; MLServer comes from .muster/mlserver.

    .muster/oip/bin/python agent/tests/interop/peer.py .muster/mlserver
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
HTTP, GRPC = "127.0.0.1:18080", "127.0.0.1:18081"


def ready():
    try:
        with urllib.request.urlopen(f"http://{HTTP}/v2/health/ready", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def main():
    peer = pathlib.Path(sys.argv[1]).resolve() / "bin"
    if not (peer / "mlserver").is_file():
        sys.exit(f"{peer} is missing: scripts/python-env.sh {sys.argv[1]} agent/tests/interop/mlserver-requirements.lock")
    folder = HERE / "mlserver"
    environment = {"PATH": f"{peer}:/usr/bin:/bin", "PYTHONPATH": str(folder), "HOME": tempfile.gettempdir()}
    with tempfile.TemporaryDirectory() as work:
        log = open(f"{work}/log", "w")
        server = subprocess.Popen([peer / "mlserver", "start", folder], cwd=work, env=environment, stdout=log, stderr=log)
        try:
            give_up = time.monotonic() + 60
            while not ready():
                if server.poll() is not None or time.monotonic() > give_up:
                    sys.exit(f"MLServer did not start:\n{pathlib.Path(log.name).read_text()[-3000:]}")
                time.sleep(0.2)
            results = {}
            for suite in ["triton.py", "kserve_sdk.py"]:
                report = f"{work}/{suite}.json"
                command = [sys.executable, HERE / suite, "--http", HTTP, "--grpc", GRPC, "--report", report]
                # Triton's client never comes back from a stream that MLServer breaks off.
                command += ["--skip", "grpc_stream"]
                subprocess.run(command, stdout=subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin"}, timeout=120)
                results |= json.loads(pathlib.Path(report).read_text())
        finally:
            server.terminate()
            server.wait(20)
    results = {name: told for name, told in results.items() if told != "skipped"}
    held = [name for name, told in results.items() if told == "ok"]
    print(f"MLServer: {len(held)} of {len(results)} checks hold. It differs in:")
    for name, told in results.items():
        if told != "ok":
            print(f"  {name}: {told[:160]}")
    if not held:
        sys.exit("nothing holds, so nothing was compared")


main()
