//! A table in memory, as a Parquet file: numbers as doubles, times in milliseconds, text; zstd.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::TableError;
use crate::dataset::join::{Cell, Table};
use crate::dataset::{Column, Kind};

/// Rows that are written together.
const GROUP_ROWS: usize = 100_000;

pub fn write(path: &Path, table: &Table) -> Result<(), TableError> {
    let file = File::create_new(path).map_err(|source| TableError::Open { path: path.to_owned(), source })?;
    put(&file, table)
        .map_err(|source| TableError::Parquet { path: path.to_owned(), source: Box::new(source) })?;
    file.sync_all().map_err(|source| TableError::Open { path: path.to_owned(), source })
}

fn put(file: &File, table: &Table) -> Result<(), ParquetError> {
    let fields = table.columns.iter().map(|(column, _)| field(column)).collect::<Result<Vec<_>, _>>()?;
    let schema = Type::group_type_builder("schema").with_fields(fields).build()?;
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = SerializedFileWriter::new(file.try_clone()?, Arc::new(schema), Arc::new(properties))?;
    let rows = table.columns.first().map_or(0, |(_, cells)| cells.len());
    for start in (0..rows).step_by(GROUP_ROWS) {
        let end = rows.min(start + GROUP_ROWS);
        let mut group = writer.next_row_group()?;
        for (column, cells) in &table.columns {
            let Some(mut to) = group.next_column()? else { break };
            let cells = cells.get(start..end).unwrap_or_default();
            let levels: Vec<i16> = cells.iter().map(|cell| i16::from(*cell != Cell::Null)).collect();
            match column.kind {
                Kind::Text | Kind::Boolean | Kind::Opaque => {
                    let values: Vec<ByteArray> = cells.iter().filter_map(text).collect();
                    to.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None)?;
                }
                Kind::Time => {
                    let values: Vec<i64> = cells.iter().filter_map(millis).collect();
                    to.typed::<Int64Type>().write_batch(&values, Some(&levels), None)?;
                }
                Kind::Integer | Kind::Real => {
                    let values: Vec<f64> = cells.iter().filter_map(number).collect();
                    to.typed::<DoubleType>().write_batch(&values, Some(&levels), None)?;
                }
            }
            to.close()?;
        }
        group.close()?;
    }
    writer.close().map(drop)
}

fn field(column: &Column) -> Result<Arc<Type>, ParquetError> {
    let (physical, logical) = match column.kind {
        Kind::Text | Kind::Boolean | Kind::Opaque => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
        Kind::Integer | Kind::Real => (Physical::DOUBLE, None),
    };
    let builder = Type::primitive_type_builder(&column.name, physical).with_repetition(Repetition::OPTIONAL);
    builder.with_logical_type(logical).build().map(Arc::new)
}

// A column's cells are of one kind or null: whoever made the table saw to that, and its levels count on it.

fn text(cell: &Cell) -> Option<ByteArray> {
    match cell {
        Cell::Null => None,
        Cell::Text(text) => Some(text.as_str().into()),
        Cell::Number(number) => Some(number.to_string().as_str().into()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "whole milliseconds")]
fn millis(cell: &Cell) -> Option<i64> {
    number(cell).map(|millis| millis as i64)
}

fn number(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Null => None,
        Cell::Number(number) => Some(*number),
        Cell::Text(text) => Some(text.parse().unwrap_or(f64::NAN)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{contents, profile};
    use super::*;
    use crate::dataset::Profiler;
    use crate::dataset::profile::Values;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let column = |name: &str, kind| Column { name: name.to_owned(), kind, stored: String::new() };
        let times = [0.0, 86_400_000.0, 172_800_000.0].map(Cell::Number).to_vec();
        let table = Table {
            columns: vec![
                (column("x", Kind::Real), vec![Cell::Number(1.5), Cell::Null, Cell::Number(-2.0)]),
                (column("at", Kind::Time), times),
                (
                    column("ward", Kind::Text),
                    vec![Cell::Text("er".into()), Cell::Null, Cell::Text("ä".into())],
                ),
            ],
        };
        write(&path, &table).unwrap();
        let found = contents(&path).unwrap();
        assert_eq!(found.rows, 3);
        let kinds: Vec<(&str, Kind, &str)> =
            found.columns.iter().map(|c| (c.name.as_str(), c.kind, c.stored.as_str())).collect();
        assert_eq!(
            kinds,
            [
                ("x", Kind::Real, "DOUBLE"),
                ("at", Kind::Time, "INT64 timestamp(ms,utc)"),
                ("ward", Kind::Text, "BYTE_ARRAY text")
            ]
        );
        let mut profiler = Profiler::new(&found.columns, &[]);
        profile(&path, &mut profiler, &mut |_| ()).unwrap();
        let (seen, _) = profiler.finish();
        assert_eq!(seen.columns.iter().map(|column| column.nulls).collect::<Vec<_>>(), [1, 0, 1]);
        let Values::Numeric(x) = &seen.columns[0].values else { panic!("{seen:?}") };
        assert_eq!((x.min, x.max), (Some(-2.0), Some(1.5)));
        let span = seen.columns[1].span().unwrap();
        assert_eq!(span.1.since(span.0).as_secs(), 172_800);
        assert!(matches!(write(&path, &table), Err(TableError::Open { .. })), "nothing is written over");
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        std::fs::write(&path, b"PAR1 this is no table PAR1").unwrap();
        assert!(matches!(contents(&path), Err(TableError::Parquet { .. })));
        assert!(matches!(contents(&folder.path().join("absent")), Err(TableError::Open { .. })));
    }
}
