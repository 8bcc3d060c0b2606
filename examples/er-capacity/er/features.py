"""What the models see of a patient: 27 numbers in a fixed order, and the 16 streams that drift is measured on.

Owns the one mapping from raw columns to the input tensor. Trainer and hospital both use it, so that what is served
is what was trained; the bad candidate shows what happens when an export gets this order wrong. Knows nothing of how
patients come about: the trainer imports this module, never the generator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from er.world import DAY_H

COMPLAINTS = (
    "chest_pain",
    "abdominal",
    "respiratory",
    "injury",
    "neuro",
    "infection",
    "mental_health",
    "musculoskeletal",
    "gastro",
    "other",
)

#: Filled in where lactate was not measured; a flag column says so.
LACTATE_FILL = 1.4

#: Raw columns, in the order in which they enter the tensor (see `feature_matrix`).
RAW_BEFORE_LACTATE = (
    "age",
    "sex",
    "ambulance",
    "comorbidities",
    "prior_visits",
    "heart_rate",
    "sbp",
    "resp_rate",
    "spo2",
    "temp_c",
    "pain",
)
RAW_AFTER_LACTATE = ("triage_esi", "ed_occupancy")

FEATURES = (
    "hour_sin",
    "hour_cos",
    *RAW_BEFORE_LACTATE,
    "lactate_filled",
    "lactate_missing",
    *RAW_AFTER_LACTATE,
    *(f"complaint_{name}" for name in COMPLAINTS),
)
LABEL = "deterioration_24h"


def feature_matrix(columns: Mapping[str, Any]) -> NDArray[np.float32]:
    """The model input of every row. `columns` holds `time_h`, `complaint` as an index, and the raw columns."""
    hour = np.floor(np.asarray(columns["time_h"], dtype=float) % DAY_H)
    lactate = np.asarray(columns["lactate"], dtype=float)
    complaint = np.eye(len(COMPLAINTS))[np.asarray(columns["complaint"], dtype=int)]
    numbers = [
        np.sin(2 * np.pi * hour / DAY_H),
        np.cos(2 * np.pi * hour / DAY_H),
        *(np.asarray(columns[name], dtype=float) for name in RAW_BEFORE_LACTATE),
        np.nan_to_num(lactate, nan=LACTATE_FILL),
        np.isnan(lactate).astype(float),
        *(np.asarray(columns[name], dtype=float) for name in RAW_AFTER_LACTATE),
    ]
    return np.column_stack([*numbers, complaint]).astype(np.float32)


def streams() -> list[dict[str, Any]]:
    """The monitored streams, as `trainer.json` lists them: 14 numbers, the complaint, the score."""
    numeric = [
        {"name": name, "kind": "numeric", "tensor": "x", "column": FEATURES.index(name)}
        for name in (*RAW_BEFORE_LACTATE, *RAW_AFTER_LACTATE)
    ]
    lactate = {
        "name": "lactate",
        "kind": "numeric",
        "tensor": "x",
        "column": FEATURES.index("lactate_filled"),
        # A filled-in value is not a measurement: it is counted as missing.
        "null_when_column": FEATURES.index("lactate_missing"),
    }
    # Kept at its place in the tensor, so that the list reads in column order.
    numeric.insert(len(RAW_BEFORE_LACTATE), lactate)
    complaint = {
        "name": "complaint",
        "kind": "one_hot",
        "tensor": "x",
        "first_column": FEATURES.index(f"complaint_{COMPLAINTS[0]}"),
        "categories": list(COMPLAINTS),
    }
    return [*numeric, complaint, {"name": "score", "kind": "numeric", "tensor": "score", "column": 0}]
