#!/bin/sh
# Puts the inference runtime into one flat folder: ONNX Runtime, Intel's OpenVINO plugin, OpenVINO's CPU kernels.
#
#   scripts/get-runtime.sh [DIR]        default: .muster/runtime beside the sources
#
# The libraries are taken out of two hash-pinned wheels (scripts/runtime.lock, 80 MB; 125 MB unpacked), which need x86-64
# Linux with glibc 2.28 or newer. The Python that unpacks them may be any from 3.9: nothing is installed into it.
# DIR/SHA256SUMS records the lock file and every library; while all of them agree, a second call returns at once.
# PYTHON chooses the interpreter (default: python3). Package mirrors are whatever pip is configured for.
set -eu

fail() {
    echo "get-runtime: $*" >&2
    exit 1
}

[ $# -le 1 ] || fail "usage: scripts/get-runtime.sh [DIR]"
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-${here%/*}/.muster/runtime}
lock=$here/runtime.lock
python=${PYTHON:-python3}

[ -f "$lock" ] || fail "$lock: no such file"
case "$(uname -s) $(uname -m)" in
"Linux x86_64") ;;
*) fail "$(uname -s) on $(uname -m): the OpenVINO plugin exists for x86-64 Linux only" ;;
esac
command -v sha256sum >/dev/null 2>&1 || fail "sha256sum not found: install coreutils"

stamp="# lock $(sha256sum <"$lock" | cut -d' ' -f1)"
sums=$dir/SHA256SUMS
if [ -f "$sums" ] && [ "$(head -n 1 "$sums")" = "$stamp" ] && (cd "$dir" && sha256sum --check --quiet --strict SHA256SUMS >/dev/null 2>&1); then
    exit 0
fi

command -v "$python" >/dev/null 2>&1 || fail "$python not found: install Python 3.9 or newer (apt-get install python3 python3-pip)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' || fail "$python is too old: Python 3.9 or newer is needed (set PYTHON to choose another)"
"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip: apt-get install python3-pip (or set PYTHON to an interpreter that has it)"

mkdir -p "$dir" || fail "$dir cannot be made: choose another folder"
# On the same file system as DIR, so that every library arrives by rename: a process that runs keeps what it has mapped.
tmp=$(mktemp -d "$dir/.fetch.XXXXXX") || fail "$dir is not writable"
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

echo "get-runtime: fetching ONNX Runtime and OpenVINO (80 MB) into $dir"
# The wheel's own Python is named outright, so the host's version does not matter.
"$python" -m pip download --quiet --disable-pip-version-check --no-input --no-deps --only-binary=:all: --require-hashes \
    --implementation cp --python-version 3.11 --abi cp311 --abi none --platform manylinux_2_28_x86_64 \
    --requirement "$lock" --dest "$tmp" ||
    fail "pip could not fetch $lock (its reason is above). If the network needs a mirror, set it in pip's configuration; then run this again"

"$python" - "$tmp" "$dir" "$stamp" <<'PY' || fail "the wheels hold other files than expected: scripts/runtime.lock and scripts/get-runtime.sh must change together"
import hashlib, os, pathlib, re, shutil, sys, zipfile

tmp, target = map(pathlib.Path, sys.argv[1:3])
libraries = [  # what the CPU needs, and nothing else; GPU and NPU plugins stay in the wheel
    r"libonnxruntime\.so\.[\d.]+",
    r"libonnxruntime_providers_openvino_plugin\.so",
    r"libopenvino\.so\.\d+",
    r"libopenvino_intel_cpu_plugin\.so",
    r"libopenvino_onnx_frontend\.so\.\d+",
    r"libopenvino_ir_frontend\.so\.\d+",
    r"libtbb\.so\.12",
]
licence = re.compile(r".*LICENSE.*|.*third-party-programs\.txt|ThirdPartyNotices\.txt", re.I)
out = tmp / "out"
out.mkdir()
found = set()
for wheel in sorted(tmp.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            name = entry.filename.rsplit("/", 1)[-1]
            library = next((i for i, pattern in enumerate(libraries) if re.fullmatch(pattern, name)), None)
            if library is not None:
                found.add(library)
                if name.startswith("libonnxruntime.so."):
                    name = "libonnxruntime.so"
            elif licence.fullmatch(name):
                name = wheel.name.split("-")[0] + "-" + name
            else:
                continue
            with archive.open(entry) as source, open(out / name, "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
wheels = [wheel.name.split("-")[:2] for wheel in sorted(tmp.glob("*.whl"))]
(out / "VERSION").write_text(", ".join(" ".join(wheel) for wheel in wheels) + "\n")
missing = [pattern for i, pattern in enumerate(libraries) if i not in found]
if missing:
    sys.exit("no file matches " + ", ".join(missing))
lines = [sys.argv[3]]
for file in sorted(out.iterdir()):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    os.chmod(file, 0o755 if ".so" in file.name else 0o644)
    os.replace(file, target / file.name)
    lines.append(f"{digest}  {file.name}")
# Written last: an interrupted run leaves no list that agrees, so the next one starts afresh.
(tmp / "SHA256SUMS").write_text("\n".join(lines) + "\n")
os.replace(tmp / "SHA256SUMS", target / "SHA256SUMS")
PY
echo "get-runtime: ready"
