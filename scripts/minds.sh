#!/bin/sh
# Builds the simulator over a copy of the minds alone: gate and rollout of the fleet, reconcile of the agent. They touch
# nothing, so they need nothing of the server around them, and a change of them is built in seconds. `minds.sh DIR` makes
# the copy; the tests themselves are those of the tree.
set -eu
cd "$(dirname "$0")/.."
COPY=$1
mkdir -p "$COPY/fleet/src" "$COPY/agent/src" "$COPY/fleet/tests"
# What is the same keeps its time, and is not built again; what is not gets a new one, and is.
for PART in Cargo.lock protocol agent/src/reconcile agent/src/reconcile.rs fleet/src/gate fleet/src/gate.rs \
    fleet/src/rollout fleet/src/rollout.rs fleet/tests/sim fleet/tests/scripts; do
    diff -rq "$PART" "$COPY/$PART" >/dev/null 2>&1 && continue
    rm -rf "${COPY:?}/$PART"
    cp -R "$PART" "$COPY/$PART"
done
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
