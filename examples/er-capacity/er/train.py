"""The trainer of the deterioration model: reads the warehouse, writes one folder that a bundle is built from.

    MUSTER_REQUEST=run.json MUSTER_DATA=warehouse MUSTER_OUT=out python -m er.train

Owns which rows a model is trained on, which are kept back, and the files in the output folder. Reads the warehouse
and nothing else: it knows of an epidemic only what the trigger says (when the data began to look different). What it
claims in `metrics.json` is recorded by the builder, which scores the model again by itself.

Rows that are kept back are chosen by a hash of the patient's id, so a patient is kept back from every model or from
none, and champion and challenger can be compared on rows that neither has seen.

Exit codes: 0 the folder is complete · 2 the request is wrong · 3 the data does not suffice · 4 the data is unreadable.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from er import model as logistic
from er import warehouse
from er.features import FEATURES, LABEL, feature_matrix, streams
from er.world import DAY_MS, LABEL_DELAY_H, format_rfc3339, parse_rfc3339

REQUEST_SCHEMA = "muster-run/1"
OUTPUT_SCHEMA = "muster-trainer/1"
MODEL = "deterioration"

#: One patient in five is never trained on.
HOLDOUT_ONE_IN = 5
HOLDOUT_ROWS_MAX = 20_000
#: Without an onset, "recent" means the last two months.
RECENT_DAYS = 60
#: A reference for drift needs every season: one year.
REFERENCE_DAYS = 365
#: After an onset it is made from the new regime alone, once that has settled (see `_reference_rows`).
REFERENCE_NEW_DAYS = 21
#: New rows count this much more than old ones: few as they are, they decide, and the old ones keep it steady.
NEW_WEIGHT = 6.0
#: A bound on memory and time, three years of three sites; beyond it old rows are thinned by their hash.
OLD_ROWS_MAX = 400_000
#: Fewer positives than these do not carry 27 coefficients, or a threshold.
POSITIVES_MIN = 30
HOLDOUT_POSITIVES_MIN = 5


class Exit(Enum):
    """What went wrong, as the exit code says it."""

    REQUEST = 2
    TOO_LITTLE_DATA = 3
    UNREADABLE_DATA = 4


class TrainerError(Exception):
    """Ends the run with one line on stderr."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Request:
    """What the builder asks for."""

    #: When the data began to look different; `None` where everything counts alike.
    onset_ms: int | None
    now_ms: int
    data: Path
    out: Path


@dataclass(frozen=True)
class Split:
    """Row numbers of each part; the three parts share no patient."""

    fit: NDArray[np.int64]
    weight: NDArray[np.float64]
    frozen: NDArray[np.int64]
    recent: NDArray[np.int64]
    reference: NDArray[np.int64]


def main() -> int:
    """Runs the trainer as the builder calls it."""
    try:
        train(_request(os.environ))
    except TrainerError as error:
        print(f"er.train: {error}", file=sys.stderr)
        return error.code.value
    except warehouse.WarehouseError as error:
        print(f"er.train: {error}", file=sys.stderr)
        return Exit.UNREADABLE_DATA.value
    except OSError as error:
        print(f"er.train: {error.filename or 'output'}: {error.strerror or error}", file=sys.stderr)
        return Exit.UNREADABLE_DATA.value
    return 0


def train(request: Request) -> None:
    """Trains one model and fills the output folder."""
    _progress(0.0, f"reading {request.data}")
    rows = warehouse.read(request.data, known_at_ms=request.now_ms)
    if not len(rows):
        raise TrainerError(
            Exit.TOO_LITTLE_DATA, f"{request.data}: no row is labelled by {format_rfc3339(request.now_ms)}"
        )
    _progress(0.30, f"{len(rows)} patients in the warehouse")
    x = feature_matrix(rows.columns)
    y = rows.columns[LABEL]
    split = _split(rows, request)
    _check_positives(y, split, since_onset=request.onset_ms is not None)

    _progress(0.40, f"fitting on {len(split.fit)} patients")
    fitted = logistic.fit(x[split.fit], y[split.fit], split.weight)

    _progress(0.70, "scoring what was kept back")
    # The threshold belongs to the patients that the model will meet.
    decided_on = split.frozen if request.onset_ms is None else split.recent
    threshold = logistic.threshold_for_recall(y[decided_on], fitted.predict(x[decided_on]))
    metrics = {
        name: {"rows": len(part), **logistic.scores(y[part], fitted.predict(x[part]))}
        for name, part in (("holdout_frozen", split.frozen), ("holdout_recent", split.recent))
    }

    _progress(0.80, "writing")
    logistic.to_onnx(fitted, request.out / "model.onnx")
    _write_rows(request.out / "holdout_frozen.csv", x[split.frozen], tail={"label": y[split.frozen]})
    _write_rows(request.out / "holdout_recent.csv", x[split.recent], tail={"label": y[split.recent]})
    _write_table(request.out / "slices_recent.csv", {"site": rows.site[split.recent]})
    reference = split.reference
    head = {"group": rows.site[reference], "time_h": rows.columns["time_h"][reference].round(4)}
    _write_rows(request.out / "reference.csv", x[reference], head=head)
    _write_json(request.out / "metrics.json", {"threshold": threshold, "trained_rows": len(split.fit), **metrics})
    _write_json(request.out / "trainer.json", _description(rows, threshold))
    recent = metrics["holdout_recent"]
    _progress(1.0, f"recent patients: auc {recent.get('auc', float('nan')):.3f} log_loss {recent['log_loss']:.4f}")


def _request(env: Mapping[str, str]) -> Request:
    """Reads the contract's environment; every way to get it wrong has its own words."""

    def needed(name: str) -> Path:
        if not env.get(name):
            raise TrainerError(Exit.REQUEST, f"{name} is not set; the builder sets it")
        return Path(env[name])

    path, out, data = needed("MUSTER_REQUEST"), needed("MUSTER_OUT"), needed("MUSTER_DATA")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainerError(Exit.REQUEST, f"{path}: not a readable request ({' '.join(str(error).split())})") from error
    if not isinstance(document, dict) or document.get("schema") != REQUEST_SCHEMA:
        raise TrainerError(Exit.REQUEST, f"{path}: schema is not {REQUEST_SCHEMA!r}")
    if document.get("model") != MODEL:
        raise TrainerError(Exit.REQUEST, f"{path}: this trainer makes {MODEL!r}, not {document.get('model')!r}")
    trigger = document.get("trigger")
    if not isinstance(trigger, dict) or trigger.get("kind") not in ("initial", "drift", "labels", "manual", "schedule"):
        raise TrainerError(Exit.REQUEST, f"{path}: trigger.kind is not initial, drift, labels, manual or schedule")
    kind, onset = trigger["kind"], trigger.get("onset")
    if kind == "drift" and onset is None:
        raise TrainerError(Exit.REQUEST, f"{path}: a drift trigger needs its onset")
    if not out.is_dir() or any(out.iterdir()):
        raise TrainerError(Exit.REQUEST, f"{out}: MUSTER_OUT must be an empty folder")
    try:
        # The first training looks at everything alike, whatever else the request says.
        onset_ms = None if onset is None or kind == "initial" else parse_rfc3339(onset)
        now_ms = parse_rfc3339(document["world_now"])
    except (KeyError, TypeError, ValueError) as error:
        raise TrainerError(Exit.REQUEST, f"{path}: onset and world_now must be RFC 3339 times ({error})") from error
    return Request(onset_ms, now_ms, data, out)


def _split(rows: warehouse.Rows, request: Request) -> Split:
    """Decides what every row is for."""
    rank = _hash_rank(rows.patient_id)
    kept_back = rank % HOLDOUT_ONE_IN == 0
    now_ms = int(rows.time_ms[-1])
    onset_ms = request.onset_ms
    new_from_ms = now_ms - RECENT_DAYS * DAY_MS if onset_ms is None else onset_ms
    new = rows.time_ms >= new_from_ms
    if onset_ms is not None and not new.any():
        raise TrainerError(
            Exit.TOO_LITTLE_DATA,
            f"no labelled patient since the onset {format_rfc3339(onset_ms)}; "
            f"the warehouse ends at {format_rfc3339(now_ms)} and labels take {LABEL_DELAY_H} hours",
        )
    old_fit = _lowest(np.flatnonzero(~kept_back & ~new), rank, OLD_ROWS_MAX)
    new_fit = np.flatnonzero(~kept_back & new)
    new_weight = 1.0 if onset_ms is None else NEW_WEIGHT
    return Split(
        fit=np.concatenate([old_fit, new_fit]),
        weight=np.concatenate([np.ones(len(old_fit)), np.full(len(new_fit), new_weight)]),
        frozen=_lowest(np.flatnonzero(kept_back & ~new), rank, HOLDOUT_ROWS_MAX),
        recent=_lowest(np.flatnonzero(kept_back & new), rank, HOLDOUT_ROWS_MAX),
        reference=_reference_rows(rows.time_ms, onset_ms),
    )


def _reference_rows(time_ms: NDArray[np.int64], onset_ms: int | None) -> NDArray[np.int64]:
    """The rows that the drift reference is made from, in time order; holdout patients are traffic like any other.

    After an onset: the last 21 days, but never the first quarter of the time since the onset. A new regime comes
    gradually, and a reference that contains its beginning would be too wide to notice the next one.
    """
    now_ms = int(time_ms[-1])
    if onset_ms is None:
        from_ms = now_ms - REFERENCE_DAYS * DAY_MS
    else:
        from_ms = max(onset_ms + (now_ms - onset_ms) // 4, now_ms - REFERENCE_NEW_DAYS * DAY_MS)
    return np.flatnonzero(time_ms > from_ms)


def _hash_rank(patient_ids: list[str]) -> NDArray[np.uint64]:
    """A number per patient that never changes and says nothing about them."""
    digests = b"".join(hashlib.sha256(patient.encode()).digest()[:8] for patient in patient_ids)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _lowest(candidates: NDArray[np.int64], rank: NDArray[np.uint64], limit: int) -> NDArray[np.int64]:
    """At most `limit` of the candidates, those of lowest rank, in time order."""
    if len(candidates) <= limit:
        return candidates
    return np.sort(candidates[np.argsort(rank[candidates], kind="stable")[:limit]])


def _check_positives(y: NDArray[np.integer], split: Split, since_onset: bool) -> None:
    """Refuses data that cannot carry a model."""
    needs = [("patients to train on", split.fit, POSITIVES_MIN)]
    needs += [(f"{name} kept back", part, HOLDOUT_POSITIVES_MIN)
              for name, part in (("older patients", split.frozen), ("recent patients", split.recent))]  # fmt: skip
    if since_onset:
        needs.append(("patients since the onset", split.fit[split.weight == NEW_WEIGHT], POSITIVES_MIN))
    for what, part, least in needs:
        found = int(y[part].sum())
        if found < least:
            raise TrainerError(
                Exit.TOO_LITTLE_DATA,
                f"{found} of {len(part)} {what} deteriorated, {least} are needed: wait for more data",
            )


def _description(rows: warehouse.Rows, threshold: float) -> dict[str, Any]:
    """`trainer.json`: what the bundle's manifest is made from."""
    return {
        "schema": OUTPUT_SCHEMA,
        "model": MODEL,
        "task": "binary",
        "description": "Probability that an emergency patient deteriorates within 24 hours of arrival",
        "licences": ["Apache-2.0"],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, len(FEATURES)], "features": list(FEATURES)}],
        "outputs": [{"name": "score", "datatype": "FP32", "shape": [-1, 1]}],
        "label": LABEL,
        "primary_metric": "log_loss",
        "threshold": threshold,
        "window_h": 24,
        "streams": streams(),
        "lineage": {
            "datasets": [
                {
                    "path": d.path,
                    "sha256": d.sha256,
                    "rows": d.rows,
                    "from": format_rfc3339(d.from_ms),
                    "to": format_rfc3339(d.to_ms),
                }
                for d in rows.datasets
            ],
            "trainer": "er-capacity/train.py",
            "packages": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("numpy", "onnx", "pyarrow", "scikit-learn")},
            },
        },
    }


def _write_rows(
    path: Path,
    x: NDArray[np.float32],
    head: Mapping[str, NDArray[Any]] | None = None,
    tail: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """CSV with a plain header; numbers are the shortest text that reads back as the same value."""
    _write_table(path, {**(head or {}), **{name: x[:, i] for i, name in enumerate(FEATURES)}, **(tail or {})})


def _write_table(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    options = pa_csv.WriteOptions(include_header=False, quoting_style="none")
    with path.open("wb") as file:
        file.write((",".join(columns) + "\n").encode())
        pa_csv.write_csv(pa.table(columns), file, options)


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _progress(fraction: float, what: str) -> None:
    # Flushed: the builder shows it while it waits.
    print(f"progress {fraction:.2f} {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
