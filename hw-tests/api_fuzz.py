#!/usr/bin/env python3
"""Asks every operation of the API what nobody would, at a fleet with real boxes: `make api-fuzz`.

Schemathesis reads the API's own description and makes requests that fit it and that do not. Every answer has to be one
that the description names: its status, its content type, its shape; none may be a failure of the server. Half of the
ids in paths are of things that exist. The event stream, which never ends, is left out.

    EXAMPLES=20   requests of each operation in the last phase
    SEED=…        the same requests again
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

#: Where the ids that exist are written, for the hook below.
IDS = "MUSTER_FUZZ_IDS"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
#: Lists, and what paths below them begin with.
LISTS = {
    "devices": "id",
    "sites": "site",
    "bundles": "sha256",
    "rollouts": "id",
    "runs": "id",
    "incidents": "id",
    "models": "model",
    "enrolments": "id",
    "identities": "device",
}


def real_ids(known: dict[str, list[str]]) -> Callable[[Any, dict[str, Any] | None], dict[str, Any] | None]:
    """Puts an id that exists into every other path."""

    def hook(context: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        if parameters is None:
            return parameters
        parts = context.operation.path.removeprefix("/api/v1/").split("/")
        found = known.get(parts[0], [])
        # The same request must come out the same way again.
        choice = zlib.crc32(repr(sorted(parameters.items())).encode())
        if parts[1:] and parts[1].startswith("{") and found and choice % 2:
            parameters[parts[1].strip("{}")] = found[choice // 2 % len(found)]
        return parameters

    return hook


if IDS in os.environ:
    import schemathesis

    schemathesis.hook("map_path_parameters")(real_ids(json.loads(Path(os.environ[IDS]).read_text())))


def main() -> int:
    from stories import LOCAL, Stories, on_stop

    stories = Stories()
    lab = stories.lab
    on_stop(lab)
    fuzzer = LOCAL / "fuzz" / "bin" / "st"
    try:
        print("three boxes, two bundles, a rollout and an incident are made first", flush=True)
        stories.set_up()
        stories.strange_patients()
        body = json.dumps({"model": "deterioration", "reason": "something to look at"}).encode()
        asked = urllib.request.Request(lab.addresses["http"] + "/api/v1/runs", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(asked, timeout=10).close()
        known = {name: [item[key] for item in lab.get(f"/api/v1/{name}")["items"]] for name, key in LISTS.items()}
        ids = lab.dir / "fuzz-ids.json"
        ids.write_text(json.dumps(known))
        args = [fuzzer, "run", lab.addresses["http"] + "/api/v1/openapi.json", "--checks", CHECKS]
        args += ["--phases", "examples,coverage,fuzzing", "--exclude-path", "/api/v1/events", "--continue-on-failure"]
        args += ["--max-examples", os.environ.get("EXAMPLES", "20"), "--request-timeout", "20", "--warnings", "off"]
        args += ["--seed", os.environ["SEED"]] if "SEED" in os.environ else []
        env = {**os.environ, "SCHEMATHESIS_HOOKS": "api_fuzz", "PYTHONPATH": str(Path(__file__).parent), IDS: str(ids)}
        code = subprocess.run([str(arg) for arg in args], env=env, cwd=lab.dir, check=False).returncode
        lab.check_alive()
        return code
    finally:
        lab.stop()


if __name__ == "__main__":
    sys.exit(main())
