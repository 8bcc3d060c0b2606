from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from er import warehouse
from er.features import feature_matrix
from er.generator import Site, generate
from er.warehouse import WarehouseError, mature_days
from er.world import DAY_H, HOUR_MS, ms_of_hour

SITE = Site("er-1", 11)


@pytest.mark.parametrize(
    ("now_h", "days"),
    [
        (0.0, 0),
        (2 * DAY_H - 0.001, 0),  # the last patient of day 0 may still deteriorate
        (2 * DAY_H, 1),
        (3 * DAY_H - 0.001, 1),
        (10.5 * DAY_H, 9),
    ],
)
def test_a_day_is_mature_when_its_last_patient_is(now_h: float, days: int) -> None:
    assert mature_days(ms_of_hour(now_h)) == days


def test_what_is_written_is_read_back_in_order_of_arrival(tmp_path: Path) -> None:
    other = Site("er-2", 12)
    warehouse.write_history(tmp_path, ((s.name, generate(s, 10, 13)) for s in (SITE, other)))
    warehouse.write_day(tmp_path, "er-1", 13, generate(SITE, 13, 14))
    rows = warehouse.read(tmp_path)
    assert np.all(np.diff(rows.time_ms) >= 0)

    expected = generate(SITE, 10, 14)
    mine = np.flatnonzero(rows.site == "er-1")
    assert [rows.patient_id[i] for i in mine] == expected.patient_id
    columns = {name: values[mine] for name, values in rows.columns.items()}
    np.testing.assert_array_equal(feature_matrix(columns), feature_matrix(vars(expected)))
    np.testing.assert_array_equal(columns["deterioration_24h"], expected.deterioration_24h)
    np.testing.assert_allclose(columns["time_h"], expected.time_h, atol=1e-9)
    assert len(rows) == len(expected) + len(generate(other, 10, 13))


def test_a_row_is_not_read_before_its_outcome_is_known(tmp_path: Path) -> None:
    warehouse.write_history(tmp_path, [("er-1", generate(SITE, 10, 13))])
    now_ms = ms_of_hour(12.5 * DAY_H)
    rows = warehouse.read(tmp_path, known_at_ms=now_ms)
    assert 0 < len(rows) < len(warehouse.read(tmp_path))
    assert rows.time_ms.max() + 24 * HOUR_MS <= now_ms


def test_writing_leaves_nothing_half_done_behind(tmp_path: Path) -> None:
    path = warehouse.write_day(tmp_path, "er-1", 770, generate(SITE, 770, 771))
    assert path == tmp_path / "day=2026-02-09" / "site=er-1.parquet"
    assert [p.name for p in path.parent.iterdir()] == ["site=er-1.parquet"]
    # What a killed process leaves is not read.
    (path.parent / ".site=er-2.parquet.1.tmp").write_bytes(b"PAR1")
    assert len(warehouse.read(tmp_path)) == len(generate(SITE, 770, 771))


def test_lineage_can_be_checked_with_sha256sum(tmp_path: Path) -> None:
    warehouse.write_history(tmp_path, [("er-1", generate(SITE, 10, 12))])
    for day in (12, 13):
        warehouse.write_day(tmp_path, "er-1", day, generate(SITE, day, day + 1))
    history, live = warehouse.read(tmp_path).datasets
    assert (history.path, live.path) == ("history.parquet", "day=*/site=*.parquet")

    def shell(command: str) -> str:
        script = f"export LC_ALL=C; {command}"
        return subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert shell("sha256sum history.parquet").split()[0] == history.sha256
    assert shell("sha256sum day=*/site=*.parquet | sha256sum").split()[0] == live.sha256
    assert live.rows == len(generate(SITE, 12, 14))
    assert ms_of_hour(12 * DAY_H) <= live.from_ms < live.to_ms < ms_of_hour(14 * DAY_H)


def test_an_empty_warehouse_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="empty; write its history"):
        warehouse.read(tmp_path)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "history.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(WarehouseError, match=r"history\.parquet: not a readable Parquet file"):
        warehouse.read(tmp_path)


def test_a_file_of_another_schema_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"age": [1.0]}), tmp_path / "history.parquet")
    with pytest.raises(WarehouseError, match=r"history\.parquet: its columns are not"):
        warehouse.read(tmp_path)
