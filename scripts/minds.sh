#!/bin/sh
# Builds the simulator over a copy of the minds alone: gate and rollout of the fleet, reconcile of the agent. They touch
# nothing, so they need nothing of the server around them, and a change of them is built in seconds. `minds.sh DIR` makes
# the copy; the tests themselves are those of the tree.
set -eu
cd "$(dirname "$0")/.."
COPY=$1
rm -rf "$COPY/fleet" "$COPY/agent" "$COPY/protocol"
mkdir -p "$COPY/fleet/src" "$COPY/agent/src" "$COPY/fleet/tests"
cp -a protocol Cargo.lock "$COPY/"
cp -a fleet/src/gate fleet/src/gate.rs fleet/src/rollout fleet/src/rollout.rs "$COPY/fleet/src/"
cp -a agent/src/reconcile agent/src/reconcile.rs "$COPY/agent/src/"
cp -a fleet/tests/sim fleet/tests/scripts "$COPY/fleet/tests/"
sed -e 's/^members = .*/members = ["protocol", "agent", "fleet"]/' Cargo.toml >"$COPY/Cargo.toml"
printf 'pub mod gate;\npub mod rollout;\n' >"$COPY/fleet/src/lib.rs"
printf 'pub mod reconcile;\n' >"$COPY/agent/src/lib.rs"
crate() {
    printf '[package]\nname = "%s"\nversion.workspace = true\nedition.workspace = true\n\n[dependencies]\n' "$1"
    printf 'muster-protocol.workspace = true\njiff.workspace = true\nserde.workspace = true\n'
    printf 'serde_json.workspace = true\nthiserror.workspace = true\nsha2.workspace = true\n'
}
crate muster-agent >"$COPY/agent/Cargo.toml"
{ crate muster-fleet; printf '\n[dev-dependencies]\nmuster-agent = { path = "../agent" }\n'; } >"$COPY/fleet/Cargo.toml"
