"""Makes a model that looks right and is wrong: its input columns were swapped at export.

    python -m er.bad_candidate --from GOOD_TRAINER_OUTPUT --out FOLDER

Everything but `model.onnx` is copied, so the metrics still claim what the good model earned. The graph loads, its
outputs are probabilities, and golden outputs made from it match it. Only what it does to patients gives it away: it
takes the pulse for the oxygen saturation and the age for the blood pressure. Exists to show that a canary notices.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from er import model as logistic
from er.features import FEATURES

SWAPPED = (("heart_rate", "spo2"), ("age", "sbp"))


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="er.bad_candidate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--from", dest="good", type=Path, required=True, help="output folder of a good training run")
    parser.add_argument("--out", type=Path, required=True, help="folder to make; must be empty or absent")
    options = parser.parse_args(arguments)
    try:
        make(options.good, options.out)
    except (OSError, ValueError) as error:
        print(f"er.bad_candidate: {error}", file=sys.stderr)
        return 2
    return 0


def make(good: Path, out: Path) -> None:
    """Copies a trainer's output folder and swaps the columns of its model."""
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out}: not empty; choose another folder")
    fitted = logistic.from_onnx(good / "model.onnx")
    order = list(range(len(FEATURES)))
    for one, other in SWAPPED:
        i, j = FEATURES.index(one), FEATURES.index(other)
        order[i], order[j] = order[j], order[i]
    shutil.copytree(good, out, dirs_exist_ok=True)
    logistic.to_onnx(fitted.reordered(order), out / "model.onnx")


if __name__ == "__main__":
    sys.exit(main())
