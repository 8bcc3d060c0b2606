//! What a Parquet file holds, and its values, handed to a profiler batch by batch.

use std::fs::File;
use std::path::Path;

use muster_protocol::time::Timestamp;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::TableError;
use crate::dataset::manifest::COLUMNS_MAX;
use crate::dataset::profile::{ColumnProfile, Counting};
use crate::dataset::{Column, Kind, Profiler};

/// Values of one column that are in memory at once.
const BATCH: usize = 4096;
const DAY_MS: f64 = 86_400_000.0;

/// A file by its own account of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub columns: Vec<Column>,
    pub rows: u64,
}

/// Reads a file's footer.
pub fn contents(path: &Path) -> Result<Contents, TableError> {
    let reader = open(path)?;
    let meta = reader.metadata().file_metadata();
    let columns: Vec<Column> = fields(meta.schema_descr()).into_iter().map(|field| field.column).collect();
    if columns.is_empty() || columns.len() > COLUMNS_MAX {
        return Err(TableError::Columns { path: path.to_owned(), found: columns.len(), max: COLUMNS_MAX });
    }
    Ok(Contents { columns, rows: u64::try_from(meta.num_rows()).unwrap_or(0) })
}

/// Gives every value of a file to the profiler, which was made for these columns.
pub fn profile(path: &Path, profiler: &mut Profiler, beat: &mut dyn FnMut(u64)) -> Result<(), TableError> {
    let reader = open(path)?;
    let failed = |source| TableError::Parquet { path: path.to_owned(), source: Box::new(source) };
    let fields = fields(reader.metadata().file_metadata().schema_descr());
    for at in 0..reader.num_row_groups() {
        let group = reader.get_row_group(at).map_err(failed)?;
        let rows = u64::try_from(group.metadata().num_rows()).unwrap_or(0);
        for (at, field) in fields.iter().enumerate() {
            let Some(counting) = profiler.column(at) else { continue };
            match field.leaf {
                Some(leaf) => {
                    let mut column = group.get_column_reader(leaf).map_err(failed)?;
                    field.read(&mut column, counting).map_err(failed)?;
                }
                None => (0..rows).for_each(|_| counting.opaque()),
            }
        }
        beat(rows);
    }
    Ok(())
}

/// First and last value of a column of times.
pub(super) fn span(path: &Path, name: &str) -> Result<Option<(Timestamp, Timestamp)>, TableError> {
    let reader = open(path)?;
    let failed = |source| TableError::Parquet { path: path.to_owned(), source: Box::new(source) };
    let fields = fields(reader.metadata().file_metadata().schema_descr());
    let Some(field) = fields.iter().find(|field| field.column.name == name) else {
        return Err(TableError::NoColumn { path: path.to_owned(), column: name.to_owned() });
    };
    let mut profiler = Profiler::new(std::slice::from_ref(&field.column), &[]);
    for at in 0..reader.num_row_groups() {
        let group = reader.get_row_group(at).map_err(failed)?;
        if let (Some(leaf), Some(counting)) = (field.leaf, profiler.column(0)) {
            field.read(&mut group.get_column_reader(leaf).map_err(failed)?, counting).map_err(failed)?;
        }
    }
    Ok(profiler.finish().0.columns.first().and_then(ColumnProfile::span))
}

fn open(path: &Path) -> Result<SerializedFileReader<File>, TableError> {
    let file = File::open(path).map_err(|source| TableError::Open { path: path.to_owned(), source })?;
    SerializedFileReader::new(file)
        .map_err(|source| TableError::Parquet { path: path.to_owned(), source: Box::new(source) })
}

/// A column of the table. Lists and structures are one, and nobody looks into them.
struct Field {
    column: Column,
    leaf: Option<usize>,
    levels: i16,
    meaning: Meaning,
}

/// How stored values become what they mean.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meaning {
    Number,
    Unsigned,
    /// Times this many make a millisecond, or fewer than one do.
    Millis(f64),
    Scaled(f64),
    Text,
    Opaque,
}

fn fields(schema: &SchemaDescriptor) -> Vec<Field> {
    let roots = schema.root_schema().get_fields();
    let mut fields: Vec<Field> = roots
        .iter()
        .map(|root| {
            let stored = "nested".to_owned();
            let column = Column { name: root.name().to_owned(), kind: Kind::Opaque, stored };
            Field { column, leaf: None, levels: 0, meaning: Meaning::Opaque }
        })
        .collect();
    for (leaf, descriptor) in schema.columns().iter().enumerate() {
        let Some(field) = fields.get_mut(schema.get_column_root_idx(leaf)) else { continue };
        if descriptor.path().parts().len() == 1 && descriptor.max_rep_level() == 0 {
            let (kind, meaning, stored) = meaning(descriptor);
            field.column.kind = kind;
            field.column.stored = stored;
            field.leaf = Some(leaf);
            field.levels = descriptor.max_def_level();
            field.meaning = meaning;
        }
    }
    fields
}

fn meaning(descriptor: &ColumnDescriptor) -> (Kind, Meaning, String) {
    let physical = descriptor.physical_type();
    let scale = |scale: i32| 10_f64.powi(-scale);
    let unit = |unit: TimeUnit| match unit {
        TimeUnit::MILLIS => (1.0, "ms"),
        TimeUnit::MICROS => (1e-3, "us"),
        TimeUnit::NANOS => (1e-6, "ns"),
    };
    let plain = match physical {
        Type::BOOLEAN => (Kind::Boolean, Meaning::Text),
        Type::INT32 | Type::INT64 => (Kind::Integer, Meaning::Number),
        Type::INT96 => (Kind::Time, Meaning::Millis(1.0)),
        Type::FLOAT | Type::DOUBLE => (Kind::Real, Meaning::Number),
        Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY => (Kind::Opaque, Meaning::Opaque),
    };
    let integers = matches!(physical, Type::INT32 | Type::INT64);
    let (kind, meaning, said) = match (descriptor.logical_type_ref(), descriptor.converted_type()) {
        (Some(LogicalType::String | LogicalType::Enum | LogicalType::Json), _)
        | (None, ConvertedType::UTF8 | ConvertedType::ENUM | ConvertedType::JSON)
            if physical == Type::BYTE_ARRAY =>
        {
            (Kind::Text, Meaning::Text, "text".to_owned())
        }
        (Some(LogicalType::Decimal(decimal)), _) => {
            let said = format!("decimal({},{})", decimal.precision, decimal.scale);
            (Kind::Real, Meaning::Scaled(scale(decimal.scale)), said)
        }
        (None, ConvertedType::DECIMAL) => {
            let (precision, digits) = (descriptor.type_precision(), descriptor.type_scale());
            (Kind::Real, Meaning::Scaled(scale(digits)), format!("decimal({precision},{digits})"))
        }
        (Some(LogicalType::Date), _) | (None, ConvertedType::DATE) if integers => {
            (Kind::Time, Meaning::Millis(DAY_MS), "date".to_owned())
        }
        (Some(LogicalType::Timestamp(stamp)), _) if integers => {
            let (factor, name) = unit(stamp.unit);
            let zone = if stamp.is_adjusted_to_u_t_c { ",utc" } else { "" };
            (Kind::Time, Meaning::Millis(factor), format!("timestamp({name}{zone})"))
        }
        (None, ConvertedType::TIMESTAMP_MILLIS) if integers => {
            (Kind::Time, Meaning::Millis(1.0), "timestamp(ms,utc)".to_owned())
        }
        (None, ConvertedType::TIMESTAMP_MICROS) if integers => {
            (Kind::Time, Meaning::Millis(1e-3), "timestamp(us,utc)".to_owned())
        }
        (Some(LogicalType::Integer(integer)), _) if integers => {
            let (meaning, sign) =
                if integer.is_signed { (Meaning::Number, "") } else { (Meaning::Unsigned, "u") };
            (Kind::Integer, meaning, format!("{sign}int{}", integer.bit_width))
        }
        _other => (plain.0, plain.1, String::new()),
    };
    let stored = if said.is_empty() { physical.to_string() } else { format!("{physical} {said}") };
    (kind, meaning, stored)
}

impl Field {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a profile's numbers are floats; beyond 2^53 they are near"
    )]
    fn read(&self, column: &mut ColumnReader, counting: &mut Counting) -> Result<(), ParquetError> {
        let levels = self.levels;
        match column {
            ColumnReader::BoolColumnReader(reader) => pump(reader, levels, counting, |counting, &value| {
                counting.text(if value { "true" } else { "false" });
            }),
            ColumnReader::Int32ColumnReader(reader) => pump(reader, levels, counting, |counting, &value| {
                counting.number(self.meant(f64::from(value), f64::from(value.cast_unsigned())));
            }),
            ColumnReader::Int64ColumnReader(reader) => pump(reader, levels, counting, |counting, &value| {
                counting.number(self.meant(value as f64, value.cast_unsigned() as f64));
            }),
            ColumnReader::Int96ColumnReader(reader) => pump(reader, levels, counting, |counting, value| {
                counting.number(value.to_millis() as f64);
            }),
            ColumnReader::FloatColumnReader(reader) => {
                pump(reader, levels, counting, |counting, &value| counting.number(f64::from(value)))
            }
            ColumnReader::DoubleColumnReader(reader) => {
                pump(reader, levels, counting, |counting, &value| counting.number(value))
            }
            ColumnReader::ByteArrayColumnReader(reader) => {
                pump(reader, levels, counting, |counting, value| self.bytes(counting, value.as_ref()))
            }
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                pump(reader, levels, counting, |counting, value| self.bytes(counting, value.as_ref()))
            }
        }
    }

    fn meant(&self, signed: f64, unsigned: f64) -> f64 {
        match self.meaning {
            Meaning::Unsigned => unsigned,
            Meaning::Millis(factor) | Meaning::Scaled(factor) => signed * factor,
            Meaning::Number | Meaning::Text | Meaning::Opaque => signed,
        }
    }

    fn bytes(&self, counting: &mut Counting, bytes: &[u8]) {
        match self.meaning {
            Meaning::Text => counting.text(&String::from_utf8_lossy(bytes)),
            Meaning::Scaled(factor) => counting.number(big_endian(bytes) * factor),
            Meaning::Number | Meaning::Unsigned | Meaning::Millis(_) | Meaning::Opaque => counting.opaque(),
        }
    }
}

/// A signed number, its most significant byte first, as decimals are stored.
fn big_endian(bytes: &[u8]) -> f64 {
    let start = if bytes.first().is_some_and(|byte| byte >> 7 == 1) { -1.0 } else { 0.0 };
    bytes.iter().fold(start, |sum: f64, &byte| sum * 256.0 + f64::from(byte))
}

fn pump<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    levels_max: i16,
    counting: &mut Counting,
    take: impl Fn(&mut Counting, &T::T),
) -> Result<(), ParquetError> {
    let (mut values, mut levels) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    loop {
        values.clear();
        levels.clear();
        let (records, ..) = reader.read_records(BATCH, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            return Ok(());
        }
        if levels_max == 0 {
            for value in &values {
                take(counting, value);
            }
            continue;
        }
        let mut next = values.iter();
        for level in &levels {
            match next.as_slice().first() {
                Some(value) if *level == levels_max => {
                    take(counting, value);
                    next.next();
                }
                Some(_) | None => counting.null(),
            }
        }
    }
}
