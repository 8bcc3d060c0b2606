//! Tags of boxes, and the saved questions that are asked about them.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Response;
use muster_protocol::ids::{CohortName, DeviceId, TagName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::extract::{Acting, Id, IfMatch, Json, Query, with_revision};
use super::page::{List, Paging};
use super::parts::{WhyBody, append};
use super::problem::{Answer, Code, Problem, ProblemBody};
use super::sight::Sight;
use super::survey;
use crate::rollout::filter::{Filter, TAGS_MAX, Tags, Traits};
use crate::store::{Saved, Versioned, cohorts, devices, tags};

/// Names shown of a cohort, and of what a bulk act would change.
const NAMES_SHOWN: usize = 100;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(get_tags, put_tags))
        .routes(routes!(tag_many))
        .routes(routes!(list))
        .routes(routes!(get, put))
        .routes(routes!(remove))
}

/// What an operator sorts a box by.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeviceTags)]
struct TagsView {
    device: String,
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    tags: Tags,
    /// For If-Match; 0 if it was never tagged.
    revision: u64,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTags)]
struct TagsBody {
    /// All of them: what is not here is taken away.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    tags: Tags,
}

/// A box's tags
#[utoipa::path(get, path = "/devices/{id}/tags", tag = "devices", operation_id = "get_device_tags",
    params(("id" = String, Path)), responses((status = 200, body = TagsView), (status = 404, body = ProblemBody)))]
async fn get_tags(State(app): State<App>, Id(id): Id<DeviceId>) -> Answer<Response> {
    let mut db = app.fleet.store.read().await?;
    devices::get(&mut db, &id).await?.ok_or_else(|| Problem::not_found("device", &id))?;
    let found = tags::get(&mut db, &id).await?;
    Ok(tags_shown(&id, found))
}

/// Replaces a box's tags
#[utoipa::path(put, path = "/devices/{id}/tags", tag = "devices", operation_id = "put_device_tags",
    params(("id" = String, Path), ("if-match" = Option<String>, Header, description = "The revision you saw")),
    request_body = TagsBody,
    responses((status = 200, body = TagsView), (status = 404, body = ProblemBody), (status = 412, body = ProblemBody),
        (status = 422, body = ProblemBody)))]
async fn put_tags(
    State(app): State<App>,
    Id(id): Id<DeviceId>,
    seen: IfMatch,
    acting: Acting,
    Json(body): Json<TagsBody>,
) -> Answer<Response> {
    bounded(&body.tags)?;
    let mut tx = app.fleet.store.write().await?;
    let device = devices::get(&mut tx, &id).await?.ok_or_else(|| Problem::not_found("device", &id))?;
    let before = tags::get(&mut tx, &id).await?;
    seen.check(before.revision)?;
    let revision = match tags::save(&mut tx, &id, before.revision, &body.tags).await? {
        Saved::Saved { revision } => revision,
        Saved::Stale => return Err(stale()),
    };
    let sentence = format!("tagged {}: {}", device.name, said(&body.tags));
    append(&app, &mut tx, "device.tagged", id.to_string(), sentence, &acting).await?;
    tx.commit().await?;
    Ok(tags_shown(&id, Versioned { revision, document: body.tags }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TagMany)]
struct ManyBody {
    /// Which boxes, such as `site=er-2, !ward`.
    #[schema(value_type = String)]
    filter: Filter,
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    set: Tags,
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    remove: BTreeSet<TagName>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ManyQuery {
    /// Only says what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// What a bulk act changes, or would change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TaggedMany)]
struct ManyView {
    dry_run: bool,
    /// Boxes that match.
    devices: usize,
    /// Of them, those whose tags become others.
    changed: usize,
    /// Names of the first that become others.
    names: Vec<String>,
}

/// Sets and takes away tags of all boxes that match, all or none
#[utoipa::path(post, path = "/tags", tag = "devices", operation_id = "tag_devices", params(ManyQuery),
    request_body = ManyBody, responses((status = 200, body = ManyView), (status = 422, body = ProblemBody)))]
async fn tag_many(
    State(app): State<App>,
    sight: Sight,
    Query(query): Query<ManyQuery>,
    acting: Acting,
    Json(body): Json<ManyBody>,
) -> Answer<Json<ManyView>> {
    if body.set.is_empty() && body.remove.is_empty() {
        return Err(Problem::invalid("/set", "say which tags to set or to remove"));
    }
    let mut tx = app.fleet.store.write().await?;
    let meant = |traits: &Traits<'_>| sight.site(traits.site) && body.filter.matches(traits);
    let matching = survey::matching(&mut tx, meant).await?;
    let mut view =
        ManyView { dry_run: query.dry_run, devices: matching.len(), changed: 0, names: Vec::new() };
    for (id, name) in &matching {
        let before = tags::get(&mut tx, id).await?;
        let mut after = before.document.clone();
        after.retain(|tag, _| !body.remove.contains(tag));
        after.extend(body.set.clone());
        if after == before.document {
            continue;
        }
        bounded(&after)?;
        view.changed += 1;
        if view.names.len() < NAMES_SHOWN {
            view.names.push(name.clone());
        }
        if !query.dry_run
            && let Saved::Stale = tags::save(&mut tx, id, before.revision, &after).await?
        {
            return Err(stale());
        }
    }
    if query.dry_run || view.changed == 0 {
        return Ok(Json(view));
    }
    let removed: Vec<String> = body.remove.iter().map(|tag| format!("-{tag}")).collect();
    let sentence = format!(
        "tagged {} where {}: {} {}",
        crate::gate::devices(view.changed),
        body.filter,
        said(&body.set),
        removed.join(" ")
    );
    append(&app, &mut tx, "device.tagged", "fleet".to_owned(), sentence.trim_end().to_owned(), &acting)
        .await?;
    tx.commit().await?;
    Ok(Json(view))
}

/// A saved question about boxes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Cohort)]
struct CohortView {
    name: String,
    #[schema(value_type = String)]
    filter: Filter,
    /// For If-Match.
    revision: u64,
    /// Boxes that match now; absent in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<usize>,
    /// Names of the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    names: Vec<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCohort)]
struct CohortBody {
    /// Such as `ward=icu, hardware=x86_64-openvino`.
    #[schema(value_type = String)]
    filter: Filter,
}

/// Saved cohorts, by name
#[utoipa::path(get, path = "/cohorts", tag = "devices", operation_id = "list_cohorts", params(Paging),
    responses((status = 200, body = List<CohortView>), (status = 400, body = ProblemBody)))]
async fn list(State(app): State<App>, Query(paging): Query<Paging>) -> Answer<Json<List<CohortView>>> {
    let read = cohorts::list(&mut app.fleet.store.read().await?, &paging.page()?).await?;
    let (shown, next) = paging.cut(read, |(name, _)| name.clone())?;
    let items = shown.into_iter().map(|(name, saved)| CohortView {
        name: name.to_string(),
        filter: saved.document,
        revision: saved.revision,
        devices: None,
        names: Vec::new(),
    });
    Ok(Json(List { items: items.collect(), next }))
}

/// A saved cohort, and who is in it now
#[utoipa::path(get, path = "/cohorts/{name}", tag = "devices", operation_id = "get_cohort",
    params(("name" = String, Path)), responses((status = 200, body = CohortView), (status = 404, body = ProblemBody)))]
async fn get(State(app): State<App>, sight: Sight, Id(name): Id<CohortName>) -> Answer<Response> {
    let mut db = app.fleet.store.read().await?;
    let saved = cohorts::get(&mut db, &name).await?.ok_or_else(|| Problem::not_found("cohort", &name))?;
    let meant = |traits: &Traits<'_>| sight.site(traits.site) && saved.document.matches(traits);
    let matching = survey::matching(&mut db, meant).await?;
    Ok(cohort_shown(&name, saved, matching))
}

/// Saves a cohort
#[utoipa::path(put, path = "/cohorts/{name}", tag = "devices", operation_id = "put_cohort",
    params(("name" = String, Path), ("if-match" = Option<String>, Header, description = "The revision you saw")),
    request_body = CohortBody,
    responses((status = 200, body = CohortView), (status = 412, body = ProblemBody), (status = 422, body = ProblemBody)))]
async fn put(
    State(app): State<App>,
    sight: Sight,
    Id(name): Id<CohortName>,
    seen: IfMatch,
    acting: Acting,
    Json(body): Json<CohortBody>,
) -> Answer<Response> {
    let mut tx = app.fleet.store.write().await?;
    let before = cohorts::get(&mut tx, &name).await?.map_or(0, |before| before.revision);
    seen.check(before)?;
    let revision = match cohorts::save(&mut tx, &name, before, &body.filter).await? {
        Saved::Saved { revision } => revision,
        Saved::Stale => return Err(stale()),
    };
    let sentence = format!("cohort {name} is: {}", body.filter);
    append(&app, &mut tx, "cohort.set", name.to_string(), sentence, &acting).await?;
    tx.commit().await?;
    let mut db = app.fleet.store.read().await?;
    let meant = |traits: &Traits<'_>| sight.site(traits.site) && body.filter.matches(traits);
    let matching = survey::matching(&mut db, meant).await?;
    Ok(cohort_shown(&name, Versioned { revision, document: body.filter }, matching))
}

/// Removes a saved cohort; rollouts that were made of it keep its filter
#[utoipa::path(post, path = "/cohorts/{name}/remove", tag = "devices", operation_id = "remove_cohort",
    params(("name" = String, Path)), request_body = WhyBody,
    responses((status = 204), (status = 404, body = ProblemBody)))]
async fn remove(
    State(app): State<App>,
    Id(name): Id<CohortName>,
    acting: Acting,
    Json(why): Json<WhyBody>,
) -> Answer<axum::http::StatusCode> {
    let reason = super::parts::because(why.reason()?);
    let mut tx = app.fleet.store.write().await?;
    if !cohorts::remove(&mut tx, &name).await? {
        return Err(Problem::not_found("cohort", &name));
    }
    let sentence = format!("removed the cohort {name}{reason}");
    append(&app, &mut tx, "cohort.removed", name.to_string(), sentence, &acting).await?;
    tx.commit().await?;
    Ok(axum::http::StatusCode::NO_CONTENT)
}

fn cohort_shown(name: &CohortName, saved: Versioned<Filter>, matching: Vec<(DeviceId, String)>) -> Response {
    let devices = Some(matching.len());
    let mut names: Vec<String> = matching.into_iter().map(|(_, name)| name).collect();
    names.sort();
    names.truncate(NAMES_SHOWN);
    let Versioned { revision, document: filter } = saved;
    with_revision(revision, Json(CohortView { name: name.to_string(), filter, revision, devices, names }))
}

fn tags_shown(id: &DeviceId, Versioned { revision, document: tags }: Versioned<Tags>) -> Response {
    with_revision(revision, Json(TagsView { device: id.to_string(), tags, revision }))
}

fn bounded(tags: &Tags) -> Answer<()> {
    if tags.len() > TAGS_MAX {
        return Err(Problem::invalid("/tags", format!("a device has at most {TAGS_MAX} tags")));
    }
    Ok(())
}

fn said(tags: &Tags) -> String {
    let words: Vec<String> = tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    words.join(" ")
}

fn stale() -> Problem {
    Problem::new(Code::Stale, "somebody was faster").next("look again, then repeat")
}
