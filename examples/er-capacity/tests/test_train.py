from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import (
    EPIDEMIC_DAY,
    EXAMPLE,
    FUTURE_DAYS,
    HISTORY_FROM_DAY,
    NOW_DAY,
    ONSET_DAY,
    SITES,
    Run,
    day_time,
    run_module,
    trainer_env,
)
from onnx.reference import ReferenceEvaluator

from er import bad_candidate, train, warehouse
from er import model as logistic
from er.features import COMPLAINTS, FEATURES, feature_matrix
from er.generator import Site, generate
from er.world import parse_rfc3339

Trained = Callable[[str], Run]


# The contract.


def test_progress_is_printed_and_rises(trained: Trained) -> None:
    lines = trained("initial").stdout.splitlines()
    assert all(line.startswith("progress ") for line in lines)
    fractions = [float(line.split()[1]) for line in lines]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1


def test_the_folder_holds_what_the_builder_expects(trained: Trained) -> None:
    run = trained("drift")
    names = {"model.onnx", "trainer.json", "metrics.json", "reference.csv", "holdout_frozen.csv", "holdout_recent.csv"}
    assert {path.name for path in run.out.iterdir()} == names | {"slices_recent.csv"}
    slices = (run.out / "slices_recent.csv").read_text().splitlines()
    assert slices[0] == "site" and len(slices) == len((run.out / "holdout_recent.csv").read_text().splitlines())
    assert len(set(slices[1:])) > 1

    trainer = run.document("trainer.json")
    assert trainer["schema"] == "muster-trainer/1" and trainer["model"] == "deterioration"
    assert trainer["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 27], "features": list(FEATURES)}]
    assert trainer["outputs"] == [{"name": "score", "datatype": "FP32", "shape": [-1, 1]}]
    assert 0 < trainer["threshold"] < 1
    assert trainer["lineage"]["packages"].keys() == {"python", "numpy", "onnx", "pyarrow", "scikit-learn"}
    for data_set in trainer["lineage"]["datasets"]:
        assert len(data_set["sha256"]) == 64 and data_set["rows"] > 0


def test_streams_point_at_their_columns(trained: Trained) -> None:
    streams = {s["name"]: s for s in trained("initial").document("trainer.json")["streams"]}
    assert len(streams) == 16
    assert streams["age"] == {"name": "age", "kind": "numeric", "tensor": "x", "column": 2}
    assert streams["lactate"] == {
        "name": "lactate", "kind": "numeric", "tensor": "x", "column": 13, "null_when_column": 14,
    }  # fmt: skip
    assert streams["complaint"] == {
        "name": "complaint", "kind": "one_hot", "tensor": "x", "first_column": 17, "categories": list(COMPLAINTS),
    }  # fmt: skip
    assert streams["score"] == {"name": "score", "kind": "numeric", "tensor": "score", "column": 0}
    for name, stream in streams.items():
        if name not in ("lactate", "complaint", "score"):
            assert FEATURES[stream["column"]] == name


@pytest.mark.parametrize("kind", ["initial", "drift"])
def test_the_graph_computes_what_was_fitted(trained: Trained, kind: str) -> None:
    path = trained(kind).out / "model.onnx"
    proto = onnx.load(path)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 17)]
    assert proto.ir_version <= 10
    x, _ = holdout(trained(kind).out / "holdout_recent.csv")
    (score,) = ReferenceEvaluator(proto).run(None, {"x": x})
    assert score.shape == (len(x), 1) and score.dtype == np.float32
    np.testing.assert_allclose(score[:, 0], logistic.from_onnx(path).predict(x), atol=2e-6)


def test_export_equals_scikit_learn(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    patients = generate(Site("er-1", 11), 0, 60)
    x, y = feature_matrix(vars(patients)), patients.deterioration_24h
    logistic.to_onnx(logistic.fit(x, y, np.ones(len(y))), tmp_path / "model.onnx")
    (score,) = ReferenceEvaluator(onnx.load(tmp_path / "model.onnx")).run(None, {"x": x})
    scaler = StandardScaler().fit(x)
    expected = LogisticRegression(max_iter=500).fit(scaler.transform(x), y).predict_proba(scaler.transform(x))[:, 1]
    np.testing.assert_allclose(score[:, 0], expected, atol=1e-4)


def test_metrics_are_those_of_the_graph_on_the_holdouts(trained: Trained) -> None:
    run = trained("drift")
    for name in ("holdout_frozen", "holdout_recent"):
        x, y = holdout(run.out / f"{name}.csv")
        (score,) = ReferenceEvaluator(onnx.load(run.out / "model.onnx")).run(None, {"x": x})
        claimed = run.document("metrics.json")[name]
        assert claimed["rows"] == len(y)
        for metric, value in logistic.scores(y, score[:, 0].astype(float)).items():
            assert claimed[metric] == pytest.approx(value, abs=1e-4), metric


def test_the_threshold_finds_four_in_five(trained: Trained) -> None:
    run = trained("drift")
    x, y = holdout(run.out / "holdout_recent.csv")
    p = logistic.from_onnx(run.out / "model.onnx").predict(x)
    assert np.mean(p[y == 1] >= run.document("trainer.json")["threshold"]) == pytest.approx(0.80, abs=0.01)


def test_the_reference_of_a_first_model_is_a_year_in_time_order(trained: Trained) -> None:
    groups = reference(trained("initial").out / "reference.csv")
    assert set(groups) == {"er-1", "er-2"}
    for times in groups.values():
        assert times == sorted(times)
        # The warehouse is a few days younger than a year there; nothing of it is left out.
        assert times[0] < (HISTORY_FROM_DAY + 5) * 24 and times[-1] > (EPIDEMIC_DAY - 2) * 24


def test_the_reference_after_an_onset_is_the_new_regime(trained: Trained) -> None:
    for times in reference(trained("drift").out / "reference.csv").values():
        assert times == sorted(times)
        assert times[0] >= (ONSET_DAY + 6) * 24
        assert times[-1] - times[0] == pytest.approx(20.5 * 24, abs=24)


def test_holdout_rows_are_never_trained_on_and_lie_on_their_side_of_the_onset(data: Path) -> None:
    rows = warehouse.read(data)
    onset_ms = int(parse_rfc3339(day_time(ONSET_DAY)))
    for onset in (None, onset_ms):
        split = train._split(rows, train.Request(onset, 0, data, data))
        parts = [set(part.tolist()) for part in (split.fit, split.frozen, split.recent)]
        assert all(not a & b for i, a in enumerate(parts) for b in parts[:i])
        border = split.frozen[-1], split.recent[0]
        assert rows.time_ms[border[0]] < rows.time_ms[border[1]]
    assert rows.time_ms[split.frozen].max() < onset_ms <= rows.time_ms[split.recent].min()
    # Kept back from one model means kept back from all.
    earlier = train._split(rows, train.Request(None, 0, data, data))
    assert not set(split.fit.tolist()) & set(earlier.frozen.tolist() + earlier.recent.tolist())


def test_new_rows_count_six_times(data: Path) -> None:
    rows = warehouse.read(data)
    onset_ms = int(parse_rfc3339(day_time(ONSET_DAY)))
    split = train._split(rows, train.Request(onset_ms, 0, data, data))
    new = rows.time_ms[split.fit] >= onset_ms
    assert set(split.weight[new]) == {6.0} and set(split.weight[~new]) == {1.0}


def test_the_trainer_never_imports_the_generator() -> None:
    code = "import sys, er.train; sys.exit('er.generator' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=EXAMPLE, check=False, timeout=60).returncode == 0


# What it is good for.


def test_the_stale_model_fails_in_the_epidemic_and_the_retrained_one_does_not(trained: Trained) -> None:
    x, y = future()
    stale = scores_of(trained("initial").out, x, y)
    retrained = scores_of(trained("drift").out, x, y)
    print(f"\nepidemic days {FUTURE_DAYS}: stale {stale}\n{'':33}retrained {retrained}")
    assert stale["auc"] < 0.75 and retrained["auc"] > 0.84
    assert retrained["log_loss"] < 0.8 * stale["log_loss"]
    assert retrained["brier"] < 0.9 * stale["brier"]
    # The holdout that the offline gate looks at says the same.
    x, y = holdout(trained("drift").out / "holdout_recent.csv")
    champion, challenger = scores_of(trained("initial").out, x, y), scores_of(trained("drift").out, x, y)
    assert challenger["log_loss"] < 0.9 * champion["log_loss"]


def test_the_bad_candidate_claims_much_and_is_wrong(trained: Trained, tmp_path: Path) -> None:
    good = trained("drift").out
    bad = tmp_path / "bad"
    assert bad_candidate.main(["--from", str(good), "--out", str(bad)]) == 0
    assert {p.name for p in bad.iterdir()} == {p.name for p in good.iterdir()}
    for name in ("metrics.json", "trainer.json", "reference.csv"):
        assert (bad / name).read_bytes() == (good / name).read_bytes()

    x, y = future()
    onnx.checker.check_model(onnx.load(bad / "model.onnx"), full_check=True)
    (score,) = ReferenceEvaluator(onnx.load(bad / "model.onnx")).run(None, {"x": x})
    assert np.all(np.isfinite(score)) and np.all((score >= 0) & (score <= 1))
    champion, swapped = scores_of(good, x, y), scores_of(bad, x, y)
    print(f"\nchampion {champion}\nswapped  {swapped}")
    assert swapped["brier"] > 3 * champion["brier"]


def test_a_bad_candidate_needs_a_good_one_and_an_empty_folder(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bad_candidate.main(["--from", str(tmp_path / "none"), "--out", str(tmp_path / "bad")]) == 2
    assert "none" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert bad_candidate.main(["--from", str(trained("drift").out), "--out", str(tmp_path / "full")]) == 2
    assert "not empty" in capsys.readouterr().err


# Wrong requests and data.


def test_an_empty_warehouse_fails_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    finished = run_module("er.train", env=trainer_env(tmp_path, tmp_path / "data", {"kind": "initial"}))
    assert finished.returncode == 4
    assert finished.stderr.count("\n") == 1 and "the warehouse is empty" in finished.stderr


DRIFT = {"kind": "drift", "onset": day_time(ONSET_DAY)}


@pytest.mark.parametrize(
    ("trigger", "now_day", "code", "message"),
    [
        ({"kind": "drift", "onset": day_time(NOW_DAY + 5)}, NOW_DAY, 3, "no labelled patient since the onset"),
        # The rows are there, but at that time their outcomes were not known.
        (DRIFT, ONSET_DAY + 0.9, 3, "no labelled patient since the onset"),
        (DRIFT, ONSET_DAY + 1.2, 3, "deteriorated"),
        ({"kind": "initial"}, HISTORY_FROM_DAY, 3, "no row is labelled"),
        ({"kind": "drift"}, NOW_DAY, 2, "needs its onset"),
        ({"kind": "drift", "onset": "last week"}, NOW_DAY, 2, "RFC 3339"),
        ({"kind": "drift", "onset": "2026-01-01T00:00:00"}, NOW_DAY, 2, "no time zone"),
        ({"kind": "boredom"}, NOW_DAY, 2, "trigger.kind"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(
    data: Path,
    tmp_path: Path,
    trigger: dict[str, Any],
    now_day: float,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_env(monkeypatch, trainer_env(tmp_path, data, trigger, now_day))
    assert train.main() == code
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda request: request.update(schema="muster-run/2"), "schema is not"),
        (lambda request: request.update(model="beds"), "not 'beds'"),
        (lambda request: request.pop("world_now"), "world_now"),
        (lambda request: request.pop("trigger"), "trigger.kind"),
    ],
)
def test_a_request_that_is_not_ours_is_refused(
    data: Path,
    tmp_path: Path,
    spoil: Callable[[dict[str, Any]], None],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    env = trainer_env(tmp_path, data, {"kind": "initial"})
    path = Path(env["MUSTER_REQUEST"])
    request = json.loads(path.read_text())
    spoil(request)
    path.write_text(json.dumps(request))
    set_env(monkeypatch, env)
    assert train.main() == 2
    assert message in capsys.readouterr().err


def test_a_missing_variable_garbage_and_a_full_folder_are_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env = trainer_env(tmp_path, data, {"kind": "initial"})
    set_env(monkeypatch, env)
    monkeypatch.delenv("MUSTER_OUT")
    assert train.main() == 2
    assert "MUSTER_OUT is not set" in capsys.readouterr().err

    set_env(monkeypatch, env)
    (Path(env["MUSTER_OUT"]) / "left-over").touch()
    assert train.main() == 2
    assert "must be an empty folder" in capsys.readouterr().err

    Path(env["MUSTER_REQUEST"]).write_text("{ not json")
    assert train.main() == 2
    assert "not a readable request" in capsys.readouterr().err


# Tools of these tests.


def set_env(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)


def holdout(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with path.open() as file:
        header = file.readline().strip().split(",")
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    assert header == [*FEATURES, "label"]
    return table[:, :-1], table[:, -1].astype(int)


def reference(path: Path) -> dict[str, list[float]]:
    """Times by group, after a look at the header."""
    groups: dict[str, list[float]] = {}
    with path.open() as file:
        lines = csv.reader(file)
        assert next(lines) == ["group", "time_h", *FEATURES]
        for line in lines:
            assert len(line) == 29
            groups.setdefault(line[0], []).append(float(line[1]))
    assert all(a <= b for times in groups.values() for a, b in pairwise(times))
    return groups


def future() -> tuple[np.ndarray, np.ndarray]:
    patients = [generate(site, *FUTURE_DAYS, EPIDEMIC_DAY) for site in SITES]
    x = np.concatenate([feature_matrix(vars(p)) for p in patients])
    return x, np.concatenate([p.deterioration_24h for p in patients])


def scores_of(out: Path, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    return logistic.scores(y, logistic.from_onnx(out / "model.onnx").predict(x))
