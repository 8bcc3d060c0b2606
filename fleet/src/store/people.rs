//! People, by the name they log in with, and what they are in which project.

use std::collections::BTreeMap;

use muster_protocol::time::Timestamp;

use super::convert::{parse, time};
use super::{Control, ControlTx, Page, Result, StoreError};
use crate::identity::{PersonName, ProjectName, Role};

/// People that a server knows.
pub const PEOPLE_MAX: i64 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub name: PersonName,
    /// As other people know them.
    pub display: String,
    pub disabled: bool,
    /// They come by the identity provider; else by a password of ours.
    pub provided: bool,
    pub made: Timestamp,
    pub made_by: String,
}

/// Who somebody is at an identity provider: no name there is for ever, this is.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub issuer: &'a str,
    pub subject: &'a str,
}

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    display: String,
    disabled: bool,
    issuer: Option<String>,
    made: i64,
    made_by: String,
}

impl TryFrom<Row> for Person {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            name: parse("person's name", &row.name)?,
            display: row.display,
            disabled: row.disabled,
            provided: row.issuer.is_some(),
            made: time(row.made),
            made_by: row.made_by,
        })
    }
}

const ADD: &str = "insert into people (name, display, password, issuer, subject, disabled, made, made_by) \
     select $1, $2, $3, $4, $5, $6, $7, $8 where (select count(*) from people) < $9 on conflict (name) do nothing";

/// With the hash of a password, or as somebody at an identity provider. Returns whether the name was free and room was left.
pub async fn add(
    tx: &mut ControlTx,
    person: &Person,
    password: Option<&str>,
    subject: Option<Subject<'_>>,
) -> Result<bool> {
    let done = sqlx::query(ADD)
        .bind(person.name.as_str())
        .bind(&person.display)
        .bind(password)
        .bind(subject.map(|subject| subject.issuer))
        .bind(subject.map(|subject| subject.subject))
        .bind(person.disabled)
        .bind(person.made.as_millis())
        .bind(&person.made_by)
        .bind(PEOPLE_MAX)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("adding a person"))?;
    Ok(done.rows_affected() == 1)
}

const GET: &str = "select name, display, disabled, issuer, made, made_by from people where name = $1";

pub async fn get(db: &mut Control, name: &PersonName) -> Result<Option<Person>> {
    sqlx::query_as::<_, Row>(GET)
        .bind(name.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a person"))?
        .map(Person::try_from)
        .transpose()
}

const BY_SUBJECT: &str =
    "select name, display, disabled, issuer, made, made_by from people where issuer = $1 and subject = $2";

pub async fn by_subject(db: &mut Control, subject: Subject<'_>) -> Result<Option<Person>> {
    sqlx::query_as::<_, Row>(BY_SUBJECT)
        .bind(subject.issuer)
        .bind(subject.subject)
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("looking up a person"))?
        .map(Person::try_from)
        .transpose()
}

const LIST: &str = "select name, display, disabled, issuer, made, made_by from people where name > $1 order by name limit $2";

/// By name.
pub async fn list(db: &mut Control, page: &Page<PersonName>) -> Result<Vec<Person>> {
    sqlx::query_as::<_, Row>(LIST)
        .bind(page.after.as_ref().map_or("", PersonName::as_str))
        .bind(page.limit())
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("listing people"))?
        .into_iter()
        .map(Person::try_from)
        .collect()
}

const ANY: &str = "select 1 from people limit 1";

/// Whether there is anybody at all.
pub async fn any(db: &mut Control) -> Result<bool> {
    let found: Option<(i64,)> = sqlx::query_as(ANY)
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("looking for people"))?;
    Ok(found.is_some())
}

const PASSWORD: &str = "select password from people where name = $1 and not disabled";

/// The hash of their password. Who is disabled, unknown or has none is the same.
pub async fn password(db: &mut Control, name: &PersonName) -> Result<Option<String>> {
    let found: Option<(Option<String>,)> = sqlx::query_as(PASSWORD)
        .bind(name.as_str())
        .fetch_optional(db.sql())
        .await
        .map_err(StoreError::query("reading a password's hash"))?;
    Ok(found.and_then(|(password,)| password))
}

const SET_PASSWORD: &str = "update people set password = $2 where name = $1 and issuer is null";

/// Returns whether there is such a person, who logs in with a password.
pub async fn set_password(tx: &mut ControlTx, name: &PersonName, password: &str) -> Result<bool> {
    let done = sqlx::query(SET_PASSWORD)
        .bind(name.as_str())
        .bind(password)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("setting a password"))?;
    Ok(done.rows_affected() == 1)
}

const SET_DISABLED: &str = "update people set disabled = $2 where name = $1";

/// Returns whether there is such a person.
pub async fn set_disabled(tx: &mut ControlTx, name: &PersonName, disabled: bool) -> Result<bool> {
    let done = sqlx::query(SET_DISABLED)
        .bind(name.as_str())
        .bind(disabled)
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("disabling a person"))?;
    Ok(done.rows_affected() == 1)
}

const MEMBERSHIPS: &str = "select project, role from memberships where person = $1 order by project limit $2";

pub async fn memberships(db: &mut Control, name: &PersonName) -> Result<BTreeMap<ProjectName, Role>> {
    let rows: Vec<(String, String)> = sqlx::query_as(MEMBERSHIPS)
        .bind(name.as_str())
        .bind(super::projects::PROJECTS_MAX)
        .fetch_all(db.sql())
        .await
        .map_err(StoreError::query("reading memberships"))?;
    rows.iter()
        .map(|(project, role)| {
            Ok((parse("membership's project", project)?, parse("membership's role", role)?))
        })
        .collect()
}

const FORGET: &str = "delete from memberships where person = $1";
const JOIN: &str = "insert into memberships (person, project, role) values ($1, $2, $3)";

/// Replaces all of them. The projects must be there.
pub async fn set_memberships(
    tx: &mut ControlTx,
    name: &PersonName,
    memberships: &BTreeMap<ProjectName, Role>,
) -> Result<()> {
    sqlx::query(FORGET)
        .bind(name.as_str())
        .execute(tx.sql())
        .await
        .map_err(StoreError::query("ending memberships"))?;
    for (project, role) in memberships {
        sqlx::query(JOIN)
            .bind(name.as_str())
            .bind(project.as_str())
            .bind(role.as_str())
            .execute(tx.sql())
            .await
            .map_err(StoreError::query("writing a membership"))?;
    }
    Ok(())
}

const ADMINS: &str = "select count(*) from memberships join people on people.name = memberships.person \
     where project = 'default' and role = 'admin' and not disabled and people.name <> $1";

/// Whether somebody else could let people in again.
pub async fn other_admins(db: &mut Control, than: &PersonName) -> Result<bool> {
    let (count,): (i64,) = sqlx::query_as(ADMINS)
        .bind(than.as_str())
        .fetch_one(db.sql())
        .await
        .map_err(StoreError::query("counting administrators"))?;
    Ok(count > 0)
}
