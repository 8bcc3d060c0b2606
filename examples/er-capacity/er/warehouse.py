"""The hospital's own warehouse: one folder of Parquet files that the trainer reads and the hospital writes.

    history.parquet                        everything before the demo begins, all sites
    day=2026-02-10/site=er-1.parquet       one live day of one site

A row is a patient with the outcomes of the 24 hours after arrival. A row is only ever written when its outcomes are
known, so a file never changes once it has its name: files are written aside, synced and renamed. Owns this layout and
the schema; never makes a patient and never trains.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from er.features import COMPLAINTS
from er.world import DAY_H, EPOCH_MS, HOUR_MS, LABEL_DELAY_H, day_name, hour_of_ms

if TYPE_CHECKING:
    from er.generator import Patients

HISTORY = "history.parquet"
LIVE_DAYS = "day=*/site=*.parquet"

_RAW = {
    "age": pa.float64(),
    "sex": pa.int8(),
    "ambulance": pa.int8(),
    "comorbidities": pa.int16(),
    "prior_visits": pa.int16(),
    "heart_rate": pa.float64(),
    "sbp": pa.float64(),
    "resp_rate": pa.float64(),
    "spo2": pa.float64(),
    "temp_c": pa.float64(),
    "pain": pa.int8(),
    "lactate": pa.float64(),
    "triage_esi": pa.int8(),
    "ed_occupancy": pa.int16(),
}
_LABELS = {"deterioration_24h": pa.int8(), "improved_6h": pa.int8(), "admitted": pa.int8()}

SCHEMA = pa.schema(
    [
        ("patient_id", pa.string()),
        ("site", pa.string()),
        ("time", pa.timestamp("ms", tz="UTC")),
        ("complaint", pa.string()),
        *_RAW.items(),
        *_LABELS.items(),
    ]
)


class WarehouseError(Exception):
    """The warehouse cannot be read; the message names the file and says what to do."""


@dataclass(frozen=True)
class DataSet:
    """Where rows came from, for a model's lineage."""

    path: str
    sha256: str
    rows: int
    from_ms: int
    to_ms: int


@dataclass(frozen=True)
class Rows:
    """Patients read back, in order of arrival."""

    patient_id: list[str]
    site: NDArray[Any]
    time_ms: NDArray[np.int64]
    #: `time_h`, `complaint` as an index, the raw columns and the labels.
    columns: dict[str, NDArray[Any]]
    datasets: list[DataSet]

    def __len__(self) -> int:
        return len(self.patient_id)


def mature_days(world_now_ms: float) -> int:
    """How many days since day 0 have outcomes for every patient: those that ended LABEL_DELAY_H ago or earlier."""
    return max(0, int((hour_of_ms(world_now_ms) - LABEL_DELAY_H) // DAY_H))


def day_path(warehouse: Path, site: str, day: int) -> Path:
    """The file of one live day of one site."""
    return warehouse / f"day={day_name(day)}" / f"site={site}.parquet"


def write_history(warehouse: Path, sites: Iterable[tuple[str, Patients]]) -> None:
    """Writes the past of all sites into one file."""
    tables = [_table(site, patients) for site, patients in sites]
    _write(pa.concat_tables(tables) if tables else SCHEMA.empty_table(), warehouse / HISTORY)


def write_day(warehouse: Path, site: str, day: int, patients: Patients) -> Path:
    """Writes one live day of one site; the caller waits until the day is mature."""
    path = day_path(warehouse, site, day)
    _write(_table(site, patients), path)
    return path


def read(warehouse: Path, known_at_ms: float | None = None) -> Rows:
    """All rows whose outcomes are known at a world time (`None`: all), in order of arrival."""
    history = [path for path in (warehouse / HISTORY,) if path.is_file()]
    live = sorted(warehouse.glob(LIVE_DAYS))
    if not history and not live:
        raise WarehouseError(f"{warehouse}: the warehouse is empty; write its history with `er.hospital --prepare`")
    parts = [(HISTORY, history), (LIVE_DAYS, live)]
    read_parts = [(name, files, _read_files(files)) for name, files in parts if files]
    datasets = [_data_set(warehouse, name, files, table) for name, files, table in read_parts if table.num_rows]

    table = pa.concat_tables([table for _, _, table in read_parts]).sort_by("time")
    if known_at_ms is not None:
        table = table.filter(
            pc.less_equal(
                pc.cast(table["time"], pa.int64()), pa.scalar(int(known_at_ms) - LABEL_DELAY_H * HOUR_MS, pa.int64())
            )
        )
    return _rows(table, datasets)


def _table(site: str, patients: Patients) -> pa.Table:
    time_ms = np.round(patients.time_h * HOUR_MS).astype(np.int64) + EPOCH_MS
    columns: dict[str, Any] = {
        "patient_id": patients.patient_id,
        "site": [site] * len(patients),
        "time": time_ms,
        "complaint": np.asarray(COMPLAINTS)[patients.complaint],
    }
    columns |= {name: getattr(patients, name) for name in (*_RAW, *_LABELS)}
    # from_pandas: the generator's NaN is "not measured", which a Parquet file calls null.
    arrays = [pa.array(columns[f.name], type=f.type, from_pandas=True) for f in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that neither reader pattern matches, so that half a file is never read.
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with staged.open("wb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_files(files: Sequence[Path]) -> pa.Table:
    tables = []
    for path in files:
        try:
            # A file object, not a path: pyarrow would take "day=…" in a path for two more columns.
            with path.open("rb") as file:
                table = pq.read_table(file)
        except (OSError, pa.ArrowException) as error:
            raise WarehouseError(f"{path}: not a readable Parquet file ({_one_line(error)}); delete it") from error
        if not table.schema.equals(SCHEMA):
            raise WarehouseError(f"{path}: its columns are not the warehouse's; delete it and write it again")
        tables.append(table)
    return pa.concat_tables(tables)


def _data_set(warehouse: Path, name: str, files: Sequence[Path], table: pa.Table) -> DataSet:
    """One entry for the history and one for all live days: a bundle need not carry a line for every day.

    The digest of several files is that of their `sha256sum` listing:
    `cd warehouse && LC_ALL=C sha256sum day=*/site=*.parquet | sha256sum`.
    """
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    if name == HISTORY:
        digest = digests[0]
    else:
        listing = "".join(
            f"{d}  {path.relative_to(warehouse).as_posix()}\n" for d, path in zip(digests, files, strict=True)
        )
        digest = hashlib.sha256(listing.encode()).hexdigest()
    span = pc.min_max(pc.cast(table["time"], pa.int64())).as_py()
    return DataSet(name, digest, table.num_rows, span["min"], span["max"])


def _rows(table: pa.Table, datasets: list[DataSet]) -> Rows:
    time_ms = pc.cast(table["time"], pa.int64()).to_numpy()
    complaint = pc.index_in(table["complaint"], value_set=pa.array(COMPLAINTS))
    if complaint.null_count:
        raise WarehouseError("the warehouse holds a complaint that the model does not know; see er/features.py")
    columns: dict[str, NDArray[Any]] = {"time_h": (time_ms - EPOCH_MS) / HOUR_MS, "complaint": complaint.to_numpy()}
    columns |= {name: table[name].to_numpy() for name in (*_RAW, *_LABELS)}
    return Rows(table["patient_id"].to_pylist(), table["site"].to_numpy(), time_ms, columns, datasets)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
