"""scripts/python-env.sh: what it says when it cannot, and that it does nothing twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import EXAMPLE

SCRIPT = EXAMPLE.parent.parent / "scripts" / "python-env.sh"


def run(*arguments: str | Path, python: str | Path = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT), *map(str, arguments)],
        env={**os.environ, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """Stands for the real lock file: that pip can install that one, these tests' own environment shows."""
    path = tmp_path / "requirements.lock"
    path.write_text("first\n")
    return path


def check_fails(finished: subprocess.CompletedProcess[str], message: str) -> None:
    assert finished.returncode == 1
    # The last line is ours; what pip said stands above it.
    last = finished.stderr.splitlines()[-1]
    assert message in last and last.startswith("python-env: ")


def test_the_second_call_does_nothing_and_a_changed_lock_installs_again(tmp_path: Path, lock: Path) -> None:
    venv, python = tmp_path / "venv", stub(tmp_path, INSTALLS)
    first = run(venv, lock, python=python)
    assert first.returncode == 0, first.stderr
    assert "installing" in first.stdout
    assert "--require-hashes" in (venv / "pip-arguments").read_text()
    again = run(venv, lock, python=python)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")

    lock.write_text("second\n")
    assert "installing" in run(venv, lock, python=python).stdout
    assert run(venv, lock, python=python).stdout == ""


def test_an_install_that_failed_is_not_taken_for_one(tmp_path: Path, lock: Path) -> None:
    venv, python = tmp_path / "venv", stub(tmp_path, INSTALLS)
    lock.write_text("no-such-package\n")
    for _ in range(2):
        check_fails(run(venv, lock, python=python), "pip could not install")
    assert not (venv / ".python-env").exists()


def test_what_is_missing_is_named(tmp_path: Path, lock: Path) -> None:
    venv = tmp_path / "venv"
    check_fails(run(venv), "usage:")
    check_fails(run(venv, tmp_path / "none.lock"), "none.lock: no such file")
    check_fails(run(venv, lock, python="python-that-is-not-there"), "python-that-is-not-there not found")
    check_fails(run(venv, lock, python=stub(tmp_path, OLD)), "Python 3.11 or newer is needed")
    check_fails(run(venv, lock, python=stub(tmp_path, WITHOUT_VENV)), "apt-get install python3-venv")
    assert not venv.exists()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path, lock: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    check_fails(run(mine, lock), "is not a virtual environment")
    assert (mine / "thesis.tex").exists()


OLD = "echo 3.8.10 /usr; exit 1"
#: Debian without python3-venv: everything works but ensurepip.
WITHOUT_VENV = f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"'
#: Makes an environment whose pip only notes what it was asked, and fails for one lock file.
INSTALLS = f"""
[ "$2" = venv ] || exec {sys.executable} "$@"
rm -rf "$4"; mkdir -p "$4/bin"; touch "$4/pyvenv.cfg"
cat >"$4/bin/python" <<EOF
#!/bin/sh
for last; do :; done
echo "\\$*" >"$4/pip-arguments"
! grep -q no-such-package "\\$last"
EOF
chmod +x "$4/bin/python"
"""


def stub(folder: Path, script: str) -> Path:
    """An interpreter that behaves as a shell script says."""
    path = folder / "stub-python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path
