#!/bin/sh
# Lives through RUNS seeds of the simulator from SEED on, optimised, on all cores.
set -eu
cd "$(dirname "$0")/.."
export RUNS="${RUNS:-10000}" SEED="${SEED:-1}"
exec cargo test --quiet --profile fast --locked -p muster-fleet --test sim -- --ignored --exact a_campaign --nocapture
