//! Whose a thing is that a request names.

use muster_protocol::ids::{
    BundlePath, CaptureId, DatasetName, DeviceId, Digest, EnrolmentId, IncidentId, LeaseId, ModelName,
    RolloutId, RunId, SiteName,
};

use super::super::problem::{Answer, Problem};
use super::{Kind, Named};
use crate::identity::{Permission, ProjectName};
use crate::publisher::mirror;
use crate::store::projects::{self, Of, OfModel, Owned};
use crate::store::{Control, datasets};

pub(super) enum Place {
    /// No thing can be called that.
    Malformed,
    Unknown,
    /// One of these will do.
    In(Vec<Spot>),
}

pub(super) struct Spot {
    pub(super) project: ProjectName,
    pub(super) model: Option<ModelName>,
    /// What the thing itself asks for beyond its route.
    pub(super) permission: Option<Permission>,
}

/// To whoever may not know of a thing, it is one that there is not.
pub(super) fn unknown(named: &Named) -> Problem {
    let what = match named.kind {
        Kind::Site => "site",
        Kind::Model => "model",
        Kind::Dataset => "dataset",
        Kind::Device => "device",
        Kind::Rollout => "rollout",
        Kind::Run => "run",
        Kind::Incident => "incident",
        Kind::Capture => "capture",
        Kind::Lease => "lease",
        Kind::Enrolment => "enrolment",
        Kind::Bundle => "bundle",
        Kind::Blob | Kind::DatasetBlob => "blob",
        Kind::Target => "target",
        Kind::TrustFile => "trust file",
    };
    Problem::not_found(what, named.text.chars().take(200).collect::<String>())
}

pub(super) async fn find(db: &mut Control, owned: &Owned, named: &Named) -> Answer<Place> {
    let text = named.text.as_str();
    let site = |site: Option<SiteName>| match site {
        Some(site) => Place::In(vec![spot(owned.project(&Of::Site(site)), None)]),
        None => Place::Unknown,
    };
    let model = |model: Option<ModelName>| match model {
        Some(model) => Place::In(vec![of_model(owned, model)]),
        None => Place::Unknown,
    };
    Ok(match named.kind {
        Kind::Site => text.parse().map_or(Place::Malformed, |name| site(Some(name))),
        Kind::Model => text.parse().map_or(Place::Malformed, |name| model(Some(name))),
        Kind::Dataset => match text.split('@').next().unwrap_or_default().parse() {
            Ok(name) => of_dataset(owned, name),
            Err(_) => Place::Malformed,
        },
        Kind::Device => match text.parse::<DeviceId>() {
            Ok(id) => site(projects::site_of_device(db, &id).await?),
            Err(_) => Place::Malformed,
        },
        Kind::Lease => match text.parse::<LeaseId>() {
            Ok(id) => site(projects::site_of_lease(db, id.as_str()).await?),
            Err(_) => Place::Malformed,
        },
        Kind::Enrolment => match text.parse::<EnrolmentId>() {
            Ok(id) => site(projects::site_of_enrolment(db, id.as_str()).await?),
            Err(_) => Place::Malformed,
        },
        Kind::Rollout => match text.parse::<RolloutId>() {
            Ok(id) => model(projects::model_of(db, OfModel::Rollout, id.as_str()).await?),
            Err(_) => Place::Malformed,
        },
        Kind::Run => match text.parse::<RunId>() {
            Ok(id) => model(projects::model_of(db, OfModel::Run, id.as_str()).await?),
            Err(_) => Place::Malformed,
        },
        Kind::Incident => match text.parse::<IncidentId>() {
            Ok(id) => model(projects::model_of(db, OfModel::Incident, id.as_str()).await?),
            Err(_) => Place::Malformed,
        },
        Kind::Capture => match text.parse::<CaptureId>() {
            Ok(id) => model(projects::model_of_capture(db, &id).await?),
            Err(_) => Place::Malformed,
        },
        Kind::Bundle => bundle(db, owned, text).await?,
        Kind::Blob => blob(db, owned, text).await?,
        Kind::DatasetBlob => dataset_blob(db, owned, text).await?,
        Kind::Target => match mirror::parse_target(text) {
            Some((_, sha256)) => model(projects::model_of(db, OfModel::Bundle, &sha256.to_string()).await?),
            None => Place::Malformed,
        },
        Kind::TrustFile => trust_file(owned, text),
    })
}

/// By digest or, where they are taken too, by path or `model@alias`: both name the model.
async fn bundle(db: &mut Control, owned: &Owned, text: &str) -> Answer<Place> {
    let model = if let Ok(digest) = text.parse::<Digest>() {
        projects::model_of(db, OfModel::Bundle, &digest.to_string()).await?
    } else if let Some((model, _)) = text.split_once('@') {
        let Ok(model) = model.parse() else { return Ok(Place::Malformed) };
        Some(model)
    } else if let Ok(path) = text.parse::<BundlePath>() {
        Some(path.model().clone())
    } else {
        return Ok(Place::Malformed);
    };
    Ok(model.map_or(Place::Unknown, |model| Place::In(vec![of_model(owned, model)])))
}

/// Content is of all whose bundles hold it; what nobody's bundle holds yet is of the fleet.
async fn blob(db: &mut Control, owned: &Owned, text: &str) -> Answer<Place> {
    let Ok(digest) = text.parse::<Digest>() else { return Ok(Place::Malformed) };
    let models = projects::models_of_blob(db, &digest).await?;
    if models.is_empty() {
        return Ok(Place::In(vec![spot(ProjectName::default_project(), None)]));
    }
    Ok(Place::In(models.into_iter().map(|model| of_model(owned, model)).collect()))
}

/// As [`blob`], of the datasets whose versions hold it.
async fn dataset_blob(db: &mut Control, owned: &Owned, text: &str) -> Answer<Place> {
    let Ok(digest) = text.parse::<Digest>() else { return Ok(Place::Malformed) };
    let names = datasets::of_content(db, &digest).await?;
    if names.is_empty() {
        return Ok(Place::In(vec![spot(ProjectName::default_project(), None)]));
    }
    let project = |name| owned.project(&Of::Dataset(name));
    Ok(Place::In(names.into_iter().map(|name| spot(project(name), None)).collect()))
}

/// What a builder signs is of its model; everything else that is signed is of all.
fn trust_file(owned: &Owned, text: &str) -> Place {
    // A version may stand before the name.
    let name = match text.split_once('.') {
        Some((version, rest)) if version.bytes().all(|b| b.is_ascii_digit()) => rest,
        Some(_) | None => text,
    };
    let model = name.strip_prefix("auto-").and_then(|rest| rest.strip_suffix(".json")?.parse().ok());
    match model {
        Some(model) => Place::In(vec![of_model(owned, model)]),
        None => Place::In(vec![Spot {
            permission: Some(Permission::Operate),
            ..spot(ProjectName::default_project(), None)
        }]),
    }
}

fn of_dataset(owned: &Owned, name: DatasetName) -> Place {
    Place::In(vec![spot(owned.project(&Of::Dataset(name)), None)])
}

fn spot(project: ProjectName, model: Option<ModelName>) -> Spot {
    Spot { project, model, permission: None }
}

fn of_model(owned: &Owned, model: ModelName) -> Spot {
    spot(owned.project(&Of::Model(model.clone())), Some(model))
}
