//! People, and what they are in which project. For administrators of the fleet.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Id, Json, Query};
use super::login::hashed;
use super::page::{List, Paging};
use super::parts::append;
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::time::Time;
use crate::identity::{PersonName, ProjectName, Role};
use crate::password;
use crate::store::people::{self, Person};
use crate::store::{Control, projects, sessions};

const DISPLAY_CHARS_MAX: usize = 120;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, put))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Person)]
struct PersonView {
    name: String,
    display: String,
    disabled: bool,
    /// Comes by the identity provider, which says what they are here.
    provided: bool,
    /// `viewer`, `operator`, `approver` or `admin`, by project.
    roles: BTreeMap<String, &'static str>,
    made: Time,
    made_by: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPerson)]
struct NewBody {
    /// What they log in with, and what the log calls them.
    #[schema(value_type = String, max_length = 64)]
    name: PersonName,
    #[schema(max_length = 120)]
    display: String,
    #[schema(min_length = 12, max_length = 256, format = Password)]
    password: Option<String>,
    /// `viewer`, `operator`, `approver` or `admin`, by project.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    roles: BTreeMap<ProjectName, Role>,
}

/// What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PersonChange)]
struct ChangeBody {
    disabled: Option<bool>,
    #[schema(min_length = 12, max_length = 256, format = Password)]
    password: Option<String>,
    /// All of them: what is not here is taken away.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    roles: Option<BTreeMap<ProjectName, Role>>,
}

impl PersonView {
    async fn load(db: &mut Control, person: Person) -> Answer<Self> {
        let roles = people::memberships(db, &person.name).await?;
        let Person { name, display, disabled, provided, made, made_by } = person;
        let roles = roles.into_iter().map(|(project, role)| (project.to_string(), role.as_str())).collect();
        Ok(Self { name: name.to_string(), display, disabled, provided, roles, made: made.into(), made_by })
    }
}

/// People, by name
#[utoipa::path(get, path = "/people", tag = "identity", operation_id = "list_people", params(Paging),
    responses((status = 200, body = List<PersonView>), (status = 400, body = ProblemBody)))]
async fn list(State(app): State<App>, Query(paging): Query<Paging>) -> Answer<Json<List<PersonView>>> {
    let mut db = app.fleet.store.read().await?;
    let read = people::list(&mut db, &paging.page()?).await?;
    let (shown, next) = paging.cut(read, |person| person.name.clone())?;
    let mut items = Vec::with_capacity(shown.len());
    for person in shown {
        items.push(PersonView::load(&mut db, person).await?);
    }
    Ok(Json(List { items, next }))
}

/// One person
#[utoipa::path(get, path = "/people/{name}", tag = "identity", operation_id = "get_person", params(("name" = String, Path)),
    responses((status = 200, body = PersonView), (status = 404, body = ProblemBody)))]
async fn get(State(app): State<App>, Id(name): Id<PersonName>) -> Answer<Json<PersonView>> {
    let mut db = app.fleet.store.read().await?;
    let person = people::get(&mut db, &name).await?.ok_or_else(|| Problem::not_found("person", &name))?;
    Ok(Json(PersonView::load(&mut db, person).await?))
}

/// Adds a person
#[utoipa::path(post, path = "/people", tag = "identity", operation_id = "create_person", request_body = NewBody,
    responses((status = 201, body = PersonView), (status = 409, description = "The name is taken", body = ProblemBody),
        (status = 422, body = ProblemBody)))]
async fn create(
    State(app): State<App>,
    acting: Acting,
    Json(body): Json<NewBody>,
) -> Answer<(StatusCode, Json<PersonView>)> {
    let NewBody { name, display, password, roles } = body;
    let display = said(&display)?;
    let hash = match password {
        Some(password) => Some(new_password(&app, "/password", password).await?),
        None => None,
    };
    let mut tx = app.fleet.store.write().await?;
    known(&mut tx, roles.keys()).await?;
    let made = app.fleet.clocks.trust.now();
    let person = Person {
        name: name.clone(),
        display,
        disabled: false,
        provided: false,
        made,
        made_by: acting.0.clone(),
    };
    if !people::add(&mut tx, &person, hash.as_deref(), None).await? {
        return Err(Problem::new(
            Code::State,
            format!("there is a person {name} already, or there are too many"),
        ));
    }
    people::set_memberships(&mut tx, &name, &roles).await?;
    let sentence = format!("added {name}{}", listed(&roles));
    append(&app, &mut tx, "person.added", name.to_string(), sentence, &acting).await?;
    let view = PersonView::load(&mut tx, person).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Changes what a person is, or lets them in no more
#[utoipa::path(put, path = "/people/{name}", tag = "identity", operation_id = "put_person", params(("name" = String, Path)),
    request_body = ChangeBody,
    responses((status = 200, body = PersonView), (status = 404, body = ProblemBody),
        (status = 409, description = "Nobody could administer the fleet any more", body = ProblemBody),
        (status = 422, body = ProblemBody)))]
async fn put(
    State(app): State<App>,
    Id(name): Id<PersonName>,
    acting: Acting,
    Json(body): Json<ChangeBody>,
) -> Answer<Json<PersonView>> {
    let ChangeBody { disabled, password, roles } = body;
    let hash = match password {
        Some(password) => Some(new_password(&app, "/password", password).await?),
        None => None,
    };
    let mut tx = app.fleet.store.write().await?;
    people::get(&mut tx, &name).await?.ok_or_else(|| Problem::not_found("person", &name))?;
    let mut changes = Vec::new();
    if let Some(roles) = &roles {
        known(&mut tx, roles.keys()).await?;
        people::set_memberships(&mut tx, &name, roles).await?;
        changes.push(format!("{name} is now{}", listed(roles)));
    }
    if let Some(disabled) = disabled {
        people::set_disabled(&mut tx, &name, disabled).await?;
        changes.push(if disabled {
            format!("let {name} in no more")
        } else {
            format!("let {name} in again")
        });
    }
    if let Some(hash) = &hash {
        if !people::set_password(&mut tx, &name, hash).await? {
            return Err(Problem::invalid("/password", "they log in with the identity provider"));
        }
        changes.push(format!("gave {name} a new password"));
    }
    if disabled == Some(true) || hash.is_some() {
        sessions::end_all(&mut tx, &name).await?;
    }
    let person = people::get(&mut tx, &name).await?.ok_or_else(|| Problem::not_found("person", &name))?;
    let view = PersonView::load(&mut tx, person).await?;
    let administers = !view.disabled && view.roles.get("default") == Some(&Role::Admin.as_str());
    if !administers && !people::other_admins(&mut tx, &name).await? {
        let problem = Problem::new(Code::State, "nobody could administer the fleet any more");
        return Err(problem.next("make somebody else an admin of the project 'default' first"));
    }
    if !changes.is_empty() {
        append(&app, &mut tx, "person.changed", name.to_string(), changes.join("; "), &acting).await?;
    }
    tx.commit().await?;
    Ok(Json(view))
}

/// A name for people, without what would mislead them.
pub(super) fn said(display: &str) -> Answer<String> {
    let display = display.trim();
    let fits = (1..=DISPLAY_CHARS_MAX).contains(&display.chars().count());
    if fits && !display.chars().any(char::is_control) {
        Ok(display.to_owned())
    } else {
        Err(Problem::invalid("/display", format!("write 1 to {DISPLAY_CHARS_MAX} characters on one line")))
    }
}

pub(super) async fn new_password(app: &App, place: &str, password: String) -> Answer<String> {
    password::check(&password).map_err(|error| Problem::invalid(place, error.to_string()))?;
    hashed(app, move || password::hash(&password)).await?.map_err(|error| Problem::internal(&error))
}

async fn known(db: &mut Control, names: impl Iterator<Item = &ProjectName> + Send) -> Answer<()> {
    for name in names {
        if !projects::exists(db, name).await? {
            return Err(Problem::invalid("/roles", format!("there is no project {name}")));
        }
    }
    Ok(())
}

fn listed(roles: &BTreeMap<ProjectName, Role>) -> String {
    let each: Vec<String> =
        roles.iter().map(|(project, role)| format!(" {} of {project}", role.as_str())).collect();
    if each.is_empty() { " of no project".to_owned() } else { each.join(",") }
}
