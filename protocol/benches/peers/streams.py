"""Reads the campaign's runs (see protocol/benches/campaign/store.rs) as data frames, one calendar day a window."""
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

START = pd.Timestamp("2020-01-01")


def frame(path):
    """The run's description, its reference and its watched rows; `day` numbers the window, `at` is its time."""
    run = json.loads(path.read_text())
    rows = run["rows"]
    values = np.fromfile(path.with_suffix(".f32"), dtype="<f4").reshape(len(run["categorical"]), sum(rows))
    columns = {}
    for i, categorical in enumerate(run["categorical"]):
        column = values[i].astype(float)
        if categorical:
            column = pd.Series([None if np.isnan(v) else f"c{v:g}" for v in column], dtype=object)
        columns[f"x{i}"] = column
    table = pd.DataFrame(columns)
    day = np.repeat(np.arange(len(rows)), rows)
    within = np.concatenate([np.arange(n) / n for n in rows])
    table["day"] = day
    table["at"] = START + pd.to_timedelta(day + within * 0.999, unit="D")
    return run, table[day < run["reference"]], table[day >= run["reference"]].reset_index(drop=True)


def two_of_three(flags):
    """Per column: flagged in two of the last three windows. `flags` is windows x columns."""
    kept = np.vstack([np.zeros((2, flags.shape[1]), bool), flags]).astype(int)
    return (kept[:-2] + kept[1:-1] + kept[2:]) >= 2


def say(run, rule, alarmed):
    print(json.dumps({"run": run["name"], "rule": rule, "alarmed": [bool(a) for a in alarmed]}), flush=True)


def paths():
    """Descriptions named on the command line."""
    return [Path(name) for name in sys.argv[1:]]
