#!/bin/sh
# Fuzzes every target for SECONDS each, one after the other, and stops at the first finding.
#
#   scripts/fuzz.sh SECONDS [TARGET …]
#
# What it learns is kept in fuzz/grown/TARGET for the next time; a finding lies in fuzz/artifacts/TARGET and becomes a file
# of fuzz/corpus/TARGET together with its fix. The stable compiler is enough: RUSTC_BOOTSTRAP lets it instrument.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "fuzz: $*" >&2
    exit 1
}

[ $# -ge 1 ] || fail "usage: scripts/fuzz.sh SECONDS [TARGET …]"
seconds=$1
shift
case $seconds in '' | *[!0-9]*) fail "'$seconds' is not a number of seconds" ;; esac

tools=$PWD/.muster/tools
PATH=$tools/bin:$PATH
export PATH RUSTC_BOOTSTRAP=1 CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-2}"
cargo fuzz --version >/dev/null 2>&1 || nice cargo install cargo-fuzz --locked --root "$tools" ||
    fail "cargo-fuzz could not be installed (its reason is above)"
command -v c++ >/dev/null 2>&1 || fail "a C++ compiler is missing: apt-get install g++"

[ $# -gt 0 ] || set -- $(cargo fuzz list)
nice cargo fuzz build
for target in "$@"; do
    echo "fuzz: $target for $seconds s"
    mkdir -p "fuzz/grown/$target"
    # The corpus that is checked in is only read: what is found goes into the first folder.
    nice cargo fuzz run "$target" "fuzz/grown/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -dict=fuzz/words.dict -max_len=8192 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 ||
        fail "$target found something: see fuzz/artifacts/$target"
done
echo "fuzz: nothing found"
