"""What the suites have in common: where the server is, and how a check is told."""
import argparse
import math
import sys

import numpy as np

CHECKS = []
ROWS = np.float32([[0, 0, 0, 0], [1, 2, 3, 0.5]])
SCORES = [1 / (1 + math.exp(-0.1)), 1 / (1 + math.exp(-0.35))]
NUMBERS = {
    "bool": np.bool_, "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64, "int8": np.int8,
    "int16": np.int16, "int32": np.int32, "int64": np.int64, "fp16": np.float16, "fp32": np.float32, "fp64": np.float64,
}


class NotHere(Exception):
    """The server was not said to have this."""


def check(function):
    CHECKS.append(function)
    return function


def expect(condition, found):
    if not condition:
        raise AssertionError(f"found {found!r}")


def scored(array):
    expect(array.shape == (2, 1) and np.allclose(array.ravel(), SCORES, atol=1e-5), array)


def main(description, arguments=None):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--http", required=True, help="HOST:PORT")
    parser.add_argument("--grpc", required=True, help="HOST:PORT")
    parser.add_argument("--unix", help="socket file")
    parser.add_argument("--proto", help="description that a client shall be compiled from")
    parser.add_argument("--skip", help="the check of this name")
    parser.add_argument("--only", default="", help="checks whose name holds this")
    place, results = parser.parse_args(arguments), {}
    for function in [one for one in CHECKS if place.only in one.__name__ and one.__name__ != place.skip]:
        try:
            function(place)
            told = "ok"
        except NotHere:
            told = "skipped"
        except Exception as error:  # whatever a client throws is the finding
            told = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
        results[function.__name__] = told
        print(told if told in ("ok", "skipped") else "DIFFERS", function.__name__, "" if told == "ok" else told, flush=True)
    sys.exit(0 if results and all(told in ("ok", "skipped") for told in results.values()) else 1)
