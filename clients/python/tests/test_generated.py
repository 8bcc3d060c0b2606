"""What is generated follows the API's document."""

import subprocess
import sys
from pathlib import Path

from muster import Muster

ROOT = Path(__file__).resolve().parent.parent


def test_types_and_methods_are_current() -> None:
    done = subprocess.run([sys.executable, ROOT / "tools" / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_operation_is_a_method() -> None:
    import generate

    document = generate.json.loads(generate.DOCUMENT.read_text())
    wanted = {operation["operationId"] for verbs in document["paths"].values() for operation in verbs.values()}
    assert wanted - generate.ENDLESS <= set(dir(Muster))


def test_the_code_is_well_typed() -> None:
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
