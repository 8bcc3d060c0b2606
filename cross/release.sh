#!/bin/sh
# Builds the release binaries and says what they weigh and which C library they need.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked --workspace --bins
target=${CARGO_TARGET_DIR:-target}/release
printf '%-14s %10s  %s\n' binary bytes 'newest glibc symbol'
for binary in muster-agent muster-fleet muster; do
    glibc=$(objdump -T "$target/$binary" | sed -n 's/.*GLIBC_\([0-9.]*\).*/\1/p' | sort -Vu | tail -n 1)
    printf '%-14s %10d  %s\n' "$binary" "$(wc -c <"$target/$binary")" "$glibc"
done
