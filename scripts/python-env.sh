#!/bin/sh
# Makes a Python virtual environment from a hash-locked requirements file.
#
#   scripts/python-env.sh DIR REQUIREMENTS
#
# DIR           where the environment lives (created; replaced when the lock file or the interpreter changed)
# REQUIREMENTS  a lock file in which every package is pinned and carries its hashes (pip's --require-hashes)
#
# A stamp inside DIR names the lock file's digest and the interpreter, so that a second call returns at once.
# PYTHON chooses the interpreter (default: python3). Package mirrors are whatever pip is configured for.
set -eu

fail() {
    echo "python-env: $*" >&2
    exit 1
}

[ $# -eq 2 ] || fail "usage: scripts/python-env.sh DIR REQUIREMENTS"
dir=$1
requirements=$2
python=${PYTHON:-python3}

[ -f "$requirements" ] || fail "$requirements: no such file"
command -v "$python" >/dev/null 2>&1 || fail "$python not found: install Python 3.11 or newer (apt-get install python3 python3-venv)"

# One call answers both questions: is it new enough, and which interpreter is it exactly.
interpreter=$("$python" -c 'import sys; print(sys.version.split()[0], sys.base_prefix); sys.exit(sys.version_info < (3, 11))') ||
    fail "$python is ${interpreter:-unusable}: Python 3.11 or newer is needed (set PYTHON to choose another)"

if command -v sha256sum >/dev/null 2>&1; then
    digest=$(sha256sum <"$requirements")
else
    digest=$(shasum -a 256 <"$requirements")
fi
wanted="${digest%% *} $interpreter"
stamp=$dir/.python-env
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && [ -x "$dir/bin/python" ]; then
    exit 0
fi

# Debian splits venv from python3: `import venv` works there, only ensurepip is missing.
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$python cannot make virtual environments: apt-get install python3-venv"

# Never delete a folder that is not an environment of ours or empty: DIR comes from the command line.
if [ -d "$dir" ] && [ ! -f "$dir/pyvenv.cfg" ] && [ -n "$(ls -A "$dir")" ]; then
    fail "$dir exists and is not a virtual environment: choose another folder"
fi

echo "python-env: installing $requirements into $dir"
"$python" -m venv --clear "$dir"
# --no-deps: the lock names everything, and older pips ask for another pin where a dependency has extras.
# --no-compile: half of an installation's time; Python compiles what is imported, when it is imported first.
"$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: --no-compile \
    --require-hashes --no-deps --requirement "$requirements" ||
    fail "pip could not install $requirements (its reason is above). If the network needs a mirror, set it in pip's configuration; then run this again"

# Written last and renamed: an interrupted install leaves no stamp, so the next call starts afresh.
printf '%s\n' "$wanted" >"$stamp.tmp"
mv "$stamp.tmp" "$stamp"
