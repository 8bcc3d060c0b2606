#!/bin/sh
# Makes two years of one emergency room and trains the first model on them.
#
#   examples/er-capacity/first-model.sh OUT
#
# OUT is a trainer's output folder, ready for `muster bundle build --from OUT`.
set -eu
[ $# -eq 1 ] || { echo "usage: first-model.sh OUT" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
../../scripts/python-env.sh ../../.muster/python requirements.lock
python=$(cd ../.. && pwd)/.muster/python/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/hospital.json" <<EOF
{
  "clock": { "wall_start_ms": 0, "world_start_ms": 0, "scale": 1 },
  "sites": [{ "name": "er-1", "url": "http://127.0.0.1:8001", "seed": 11 }],
  "slot": "deterioration",
  "warehouse": "$work/warehouse",
  "epidemic_from_day": null,
  "first_day": 730,
  "history_days": 730,
  "history_from_day": 0
}
EOF
cat >"$work/request.json" <<EOF
{
  "schema": "muster-run/1",
  "run": "run-00000000000000000000000001",
  "model": "deterioration",
  "trigger": { "id": "trg-00000000000000000000000001", "kind": "initial" },
  "world_now": "2026-01-01T00:00:00Z"
}
EOF
"$python" -m er.hospital --config "$work/hospital.json" --prepare
MUSTER_REQUEST=$work/request.json MUSTER_DATA=$work/warehouse MUSTER_OUT=$out "$python" -m er.train
echo "$out"
