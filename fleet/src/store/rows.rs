//! Values of many rows for one statement, so that taking five hundred reports costs as many statements as taking one.
//!
//! The statement names them once, between what comes before and what comes after, as in `insert into t (a, b) ROWS on conflict …`
//! or `where (a, b) in (ROWS)`. SQLite is given a list of values. PostgreSQL is given each column as an array: then the text
//! is the same however many rows there are, and what costs most there, to read and plan thousands of parameters, is gone.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, FromRow};

use super::sql::Connection;
use super::{Telemetry, TelemetryTx};

/// SQLite takes 32,766 parameters.
const PARAMETERS_MAX: usize = 12_000;
/// Rows of one statement.
const ROWS_MAX: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Rows<'a> {
    columns: Vec<Column<'a>>,
}

#[derive(Debug)]
enum Column<'a> {
    Texts(Vec<Cow<'a, str>>),
    Numbers(Vec<i64>),
    Reals(Vec<f64>),
    Bytes(Vec<&'a [u8]>),
}

impl<'a> Rows<'a> {
    /// Another column, as long as those before it.
    pub(super) fn texts<T: Into<Cow<'a, str>>>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        self.columns.push(Column::Texts(values.into_iter().map(Into::into).collect()));
        self
    }

    pub(super) fn numbers(mut self, values: impl IntoIterator<Item = i64>) -> Self {
        self.columns.push(Column::Numbers(values.into_iter().collect()));
        self
    }

    pub(super) fn reals(mut self, values: impl IntoIterator<Item = f64>) -> Self {
        self.columns.push(Column::Reals(values.into_iter().collect()));
        self
    }

    pub(super) fn bytes(mut self, values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        self.columns.push(Column::Bytes(values.into_iter().collect()));
        self
    }

    /// Which rows go into one statement.
    fn spans(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let all = self.columns.first().map_or(0, Column::len);
        let most = (PARAMETERS_MAX / self.columns.len().max(1)).clamp(1, ROWS_MAX);
        (0..all).step_by(most).map(move |from| from..all.min(from + most))
    }

    fn sqlite(&self, span: Range<usize>) -> sqlx::Result<(String, SqliteArguments)> {
        let row = format!("({})", vec!["?"; self.columns.len()].join(", "));
        let text = format!("values {}", vec![row; span.len()].join(", "));
        let mut arguments = SqliteArguments::default();
        arguments.reserve(self.columns.len() * span.len(), 0);
        for row in span {
            for column in &self.columns {
                column.add(row, &mut arguments).map_err(sqlx::Error::Encode)?;
            }
        }
        Ok((text, arguments))
    }

    fn postgres(&self, span: &Range<usize>) -> sqlx::Result<(String, PgArguments)> {
        let mut text = "select * from unnest(".to_owned();
        let mut arguments = PgArguments::default();
        for (place, column) in self.columns.iter().enumerate() {
            let (comma, n) = (if place == 0 { "" } else { ", " }, place + 1);
            // Writing to a string cannot fail.
            write!(text, "{comma}${n}::{}[]", column.kind()).ok();
            column.add_all(span.clone(), &mut arguments).map_err(sqlx::Error::Encode)?;
        }
        text.push(')');
        Ok((text, arguments))
    }
}

impl Column<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Texts(values) => values.len(),
            Self::Numbers(values) => values.len(),
            Self::Reals(values) => values.len(),
            Self::Bytes(values) => values.len(),
        }
    }

    /// PostgreSQL's type.
    fn kind(&self) -> &'static str {
        match self {
            Self::Texts(_) => "text",
            Self::Numbers(_) => "bigint",
            Self::Reals(_) => "double precision",
            Self::Bytes(_) => "bytea",
        }
    }

    fn add(&self, row: usize, to: &mut SqliteArguments) -> Result<(), sqlx::error::BoxDynError> {
        match self {
            Self::Texts(values) => sqlx::Arguments::add(to, values.get(row).map(AsRef::<str>::as_ref)),
            Self::Numbers(values) => sqlx::Arguments::add(to, values.get(row).copied()),
            Self::Reals(values) => sqlx::Arguments::add(to, values.get(row).copied()),
            Self::Bytes(values) => sqlx::Arguments::add(to, values.get(row).copied()),
        }
    }

    fn add_all(&self, span: Range<usize>, to: &mut PgArguments) -> Result<(), sqlx::error::BoxDynError> {
        match self {
            Self::Texts(values) => {
                let values: Vec<&str> = part(values, span).iter().map(AsRef::as_ref).collect();
                sqlx::Arguments::add(to, values)
            }
            Self::Numbers(values) => sqlx::Arguments::add(to, part(values, span)),
            Self::Reals(values) => sqlx::Arguments::add(to, part(values, span)),
            Self::Bytes(values) => sqlx::Arguments::add(to, part(values, span)),
        }
    }
}

fn part<T>(values: &[T], span: Range<usize>) -> &[T] {
    values.get(span).unwrap_or_default()
}

/// Runs a statement with the rows; several times if there are many.
pub(super) async fn write(
    tx: &mut TelemetryTx,
    (before, after): (&str, &str),
    rows: &Rows<'_>,
) -> sqlx::Result<()> {
    for span in rows.spans() {
        match tx.sql() {
            Connection::Sqlite(sql) => {
                let (values, arguments) = rows.sqlite(span)?;
                let text = AssertSqlSafe(format!("{before} {values} {after}"));
                sqlx::query_with(text, arguments).execute(sql).await?;
            }
            Connection::Postgres(sql) => {
                let (values, arguments) = rows.postgres(&span)?;
                let text = AssertSqlSafe(format!("{before} {values} {after}"));
                sqlx::query_with(text, arguments).execute(sql).await?;
            }
        }
    }
    Ok(())
}

/// Asks a question with the rows; several times if there are many.
pub(super) async fn read<T>(
    db: &mut Telemetry,
    (before, after): (&str, &str),
    rows: &Rows<'_>,
) -> sqlx::Result<Vec<T>>
where
    T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    let mut all = Vec::new();
    for span in rows.spans() {
        match db.sql() {
            Connection::Sqlite(sql) => {
                let (values, arguments) = rows.sqlite(span)?;
                let text = AssertSqlSafe(format!("{before} {values} {after}"));
                all.extend(sqlx::query_as_with::<_, T, _>(text, arguments).fetch_all(sql).await?);
            }
            Connection::Postgres(sql) => {
                let (values, arguments) = rows.postgres(&span)?;
                let text = AssertSqlSafe(format!("{before} {values} {after}"));
                all.extend(sqlx::query_as_with::<_, T, _>(text, arguments).fetch_all(sql).await?);
            }
        }
    }
    Ok(all)
}
