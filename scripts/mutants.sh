#!/bin/sh
# Puts deliberate bugs into a copy of the minds, one at a time, and shows which invariant of the simulator catches each.
# A mutant that lives through RUNS (4000) runs is a hole in the invariants: exit 1.
set -eu
cd "$(dirname "$0")/.."
ROOT=$(pwd)
COPY=$ROOT/target/minds
LIVING=0
printf '%-28s %-36s %-8s %s\n' BUG 'CAUGHT BY' SEED RUNS
for PATCH in fleet/tests/sim/mutants/*.patch; do
    NAME=$(basename "$PATCH" .patch)
    mkdir -p "$COPY"
    scripts/minds.sh "$COPY"
    patch --quiet --directory="$COPY" --strip=1 <"$PATCH" || { echo "$NAME: the patch no longer fits" >&2; exit 1; }
    SAID=$(cd "$COPY" && RUNS=${RUNS:-4000} SEED=1 FAILURES=1 CARGO_TARGET_DIR="$COPY/target" \
        cargo test --quiet --profile fast -p muster-fleet --test sim -- --ignored --exact a_campaign --nocapture 2>&1 || true)
    CAUGHT=$(printf '%s\n' "$SAID" | sed -n 's/^seed \([0-9]*\) breaks \([a-z_]*\):.*/\1 \2/p' | head -1)
    DONE=$(printf '%s\n' "$SAID" | sed -n 's/^\([0-9]*\) runs in .*/\1/p' | head -1)
    if [ -n "$CAUGHT" ]; then
        printf '%-28s %-36s %-8s %s\n' "$NAME" "${CAUGHT#* }" "${CAUGHT%% *}" "$DONE"
    else
        printf '%-28s %-36s %-8s %s\n' "$NAME" 'nothing: it lives' - "${DONE:-it did not build}"
        LIVING=1
    fi
done
exit $LIVING
