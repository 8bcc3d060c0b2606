"""Writes a repository with python-tuf's API, as another publisher's tool would: two roots, a rotation between them, a
catalogue, a delegated vendor, and the order keys under x-muster.

    publisher.py DIR

DIR gets the files by the names they travel under (1.root.json, timestamp.json, targets.json, …) and the two manifests.
"""

import datetime
import pathlib
import sys

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    MetaFile,
    Metadata,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

EXPIRES = datetime.datetime(2126, 1, 1, tzinfo=datetime.timezone.utc)


def signed(document, *signers) -> bytes:
    metadata = Metadata(document)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def target(path: str, content: bytes) -> TargetFile:
    entry = TargetFile.from_data(path, content, ["sha256"])
    entry.unrecognized_fields["custom"] = {"model": path.split("/")[1], "hardware": ["x86_64-cpu"]}
    return entry


def main(folder: pathlib.Path) -> None:
    old, new, release, online, order, vendor = (CryptoSigner.generate_ed25519() for _ in range(6))
    root = Root(expires=EXPIRES, consistent_snapshot=True)
    for role, key in (("root", old), ("targets", release), ("snapshot", online), ("timestamp", online)):
        root.add_key(key.public_key, role)
    root.keys[order.public_key.keyid] = order.public_key
    root.unrecognized_fields["x-muster"] = {
        "order": {"keyids": [order.public_key.keyid], "threshold": 1},
        "tls_roots": [],
    }
    (folder / "1.root.json").write_bytes(signed(root, old))
    root.version = 2
    root.add_key(new.public_key, "root")
    root.revoke_key(old.public_key.keyid, "root")
    (folder / "2.root.json").write_bytes(signed(root, old, new))

    own, theirs = b'{"schema":"own"}', b'{"schema":"theirs"}'
    (folder / "own").write_bytes(own)
    (folder / "theirs").write_bytes(theirs)
    targets = Targets(version=3, expires=EXPIRES)
    targets.targets["bundles/er-beds/1.json"] = target("bundles/er-beds/1.json", own)
    targets.unrecognized_fields["x-muster-revoked"] = {
        "bundles/er-beds/0.json": {"reason": "miscalibrated", "action": "stop"}
    }
    role = DelegatedRole("radiology", [], 1, True, paths=["bundles/radiology/*"])
    targets.delegations = Delegations(keys={}, roles={"radiology": role})
    targets.add_key(vendor.public_key, "radiology")
    (folder / "targets.json").write_bytes(signed(targets, release))
    delegated = Targets(version=5, expires=EXPIRES)
    delegated.targets["bundles/radiology/1.json"] = target("bundles/radiology/1.json", theirs)
    (folder / "radiology.json").write_bytes(signed(delegated, vendor))
    snapshot = Snapshot(version=7, expires=EXPIRES)
    snapshot.meta = {"targets.json": MetaFile(3), "radiology.json": MetaFile(5)}
    (folder / "snapshot.json").write_bytes(signed(snapshot, online))
    timestamp = Timestamp(version=9, expires=EXPIRES, snapshot_meta=MetaFile(7))
    (folder / "timestamp.json").write_bytes(signed(timestamp, online))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
