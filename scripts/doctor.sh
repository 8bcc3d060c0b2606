#!/bin/sh
# Says what this machine lacks to build and run Muster, with the command that installs it. Exit code 1 if anything is
# missing.
set -eu
cd "$(dirname "$0")/.."

lacks=0
lack() {
    echo "doctor: $1" >&2
    lacks=1
}
has() {
    command -v "$1" >/dev/null 2>&1
}

rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if has cargo && has rustc; then
    found=$(rustc --version | cut -d ' ' -f 2)
    oldest=$(printf '%s\n%s\n' "$rust" "$found" | sort -V | head -n 1)
    [ "$oldest" = "$rust" ] || lack "Rust $found is too old: rustup update stable (needs $rust)"
else
    lack "Rust is missing: install it from https://rustup.rs (needs $rust)"
fi
has cc || lack "a C compiler is missing: apt-get install build-essential"
has make || lack "make is missing: apt-get install make"
if has python3; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || lack "Python 3.11 or newer is needed, this is $(python3 --version)"
    python3 -c 'import venv, ensurepip' 2>/dev/null || lack "Python cannot make virtual environments: apt-get install python3-venv"
else
    lack "Python 3 is missing: apt-get install python3 python3-venv"
fi
[ "$(uname -m)" = x86_64 ] || lack "the inference runtime is fetched for x86_64 only, this is $(uname -m)"
[ "$lacks" = 0 ] || exit 1
