"""Reads a repository with python-tuf's client, as any mirror would, and says what it found as JSON.

    client.py --root ROOT --target PATH --work DIR (--url BASE | --serve FOLDER)

BASE holds metadata/ and targets/; FOLDER is the same as static files, served here on loopback while the client reads.
DIR keeps the client's state between calls. Exit code 1: the client refused, its reason is on stderr.
"""

import argparse
import functools
import hashlib
import http.server
import json
import pathlib
import sys
import threading

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def serve(folder: str) -> str:
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def read(base: str, root: pathlib.Path, target: str, work: pathlib.Path) -> dict:
    metadata, targets = work / "metadata", work / "targets"
    for folder in (metadata, targets):
        folder.mkdir(parents=True, exist_ok=True)
    updater = Updater(
        metadata_dir=str(metadata),
        metadata_base_url=f"{base}/metadata/",
        target_dir=str(targets),
        target_base_url=f"{base}/targets/",
        bootstrap=root.read_bytes(),
    )
    updater.refresh()
    found = updater.get_targetinfo(target)
    if found is None:
        return {"found": False}
    path = pathlib.Path(updater.download_target(found))
    versions = {
        role: json.loads((metadata / f"{role}.json").read_bytes())["signed"]["version"]
        for role in ("root", "timestamp", "snapshot", "targets")
    }
    return {
        "found": True,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "custom": found.unrecognized_fields.get("custom"),
        "versions": versions,
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url")
    where.add_argument("--serve")
    args = parser.parse_args()
    base = args.url or serve(args.serve)
    try:
        json.dump(read(base, args.root, args.target, args.work), sys.stdout)
    except (RepositoryError, DownloadError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
