"""Answers one JSON line with one JSON line: what the specification (drift_ref.py) says of some rows, and of an alarm.

    {"reference": [...], "kind": "numeric", "windows": [[...], ...], "K": 10}   ->  reference, states, od, tests
    {"b": [...], "effect_ok": [...], "b_merged": [[...], ...]}                  ->  states
"""
import json
import math
import sys

import drift_ref as spec
import numpy as np


def column(kind, values):
    return [math.nan if value is None else value for value in values] if kind == "numeric" else values


def judge(case):
    kind = case["kind"]
    build = spec.build_numeric if kind == "numeric" else spec.build_categorical
    reference = build(column(kind, case["reference"]))
    windows = [spec.count(reference, column(kind, window)) for window in case["windows"]]
    merged = windows[0]
    for window in windows[1:]:
        merged = spec.merge(merged, window)
    od = spec.replay(reference, windows)
    tested = [spec.test(reference, window, learnt, case["K"]) for window in windows for learnt in (spec.NO_OD, od)]
    return {
        "reference": reference,
        "states": windows,
        "merged": merged,
        "od": {**od, "R": None if math.isinf(od["R"]) else od["R"]},
        "tests": tested,
        "merged_test": spec.test(reference, merged, od, case["K"]),
    }


def live(case):
    alarm = spec.Alarm()
    return [alarm.step(*step) for step in zip(case["b"], case["effect_ok"], case["b_merged"], strict=True)]


def plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value.item()


for line in sys.stdin:
    case = json.loads(line)
    answer = live(case) if "b" in case else judge(case)
    print(json.dumps(answer, default=plain), flush=True)
