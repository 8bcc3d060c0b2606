//! A model and its versions as the API shows them.

use muster_protocol::ids::Digest;
use muster_protocol::manifest::{Format, InferencePrecision, Manifest, Variant};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::bundles::BundleView;
use super::super::parts::{TimelineEntry, Who};
use super::super::problem::Answer;
use super::super::survey::Survey;
use super::super::time::Time;
use crate::registry::is_kept;
use crate::rollout::filter::Tags;
use crate::store::aliases::Alias;
use crate::store::bundles::{self, Bundle};
use crate::store::notes::{self, Notes};
use crate::store::{Control, Versioned};

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelSummary)]
pub(super) struct SummaryView {
    pub(super) model: String,
    pub(super) versions: u64,
    /// The version that was accepted last.
    pub(super) newest: Option<String>,
    pub(super) aliases: Vec<AliasView>,
    pub(super) devices_running: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Model)]
pub(super) struct ModelView {
    pub(super) model: String,
    pub(super) devices_running: u64,
    pub(super) aliases: Vec<AliasView>,
    /// The newest first.
    pub(super) versions: Vec<VersionView>,
    /// Cursor of the rest of its versions; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
    /// What happened to its names and its policy, the oldest first.
    pub(super) timeline: Vec<TimelineEntry>,
}

/// What a version is called.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Alias)]
pub(super) struct AliasView {
    pub(super) name: String,
    version: String,
    /// SHA-256 of the bundle's manifest.
    bundle: String,
    since: Time,
    by: Who,
    reason: String,
    /// The fleet moves it by itself; people cannot.
    kept: bool,
    /// For If-Match.
    pub(super) revision: u64,
}

impl AliasView {
    pub(super) async fn of(db: &mut Control, alias: &Alias) -> Answer<Self> {
        let bundle = bundles::get(db, &alias.bundle).await?;
        Ok(Self {
            name: alias.name.to_string(),
            version: bundle.map(|bundle| bundle.path.version().to_string()).unwrap_or_default(),
            bundle: alias.bundle.to_string(),
            since: alias.at.into(),
            by: Who::from(&alias.actor),
            reason: alias.reason.clone(),
            kept: is_kept(&alias.name),
            revision: alias.revision,
        })
    }

    pub(super) async fn all(db: &mut Control, aliases: &[Alias]) -> Answer<Vec<Self>> {
        let mut views = Vec::with_capacity(aliases.len());
        for alias in aliases {
            views.push(Self::of(db, alias).await?);
        }
        Ok(views)
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelVersion)]
pub(super) struct VersionView {
    #[serde(flatten)]
    bundle: BundleView,
    aliases: Vec<String>,
    variants: Vec<VariantView>,
    runs_on: RunsOn,
    notes: NotesView,
}

/// One form of the model, for one kind of hardware.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelVariant)]
struct VariantView {
    id: String,
    /// `onnx` or `openvino_ir`.
    format: &'static str,
    /// What the weights are: `fp32`, `fp16` or `int8`.
    precision: &'static str,
    /// What is computed in: `f32`, `f16`, `bf16` or `default`.
    inference_precision: &'static str,
    /// `CPU`, `GPU` or `NPU`.
    device: String,
    /// What the runtime opens, together.
    size_bytes: u64,
    /// The highest that fits is taken.
    rank: i32,
}

/// Where it answers now.
#[derive(Debug, Serialize, ToSchema)]
struct RunsOn {
    devices: u64,
    sites: Vec<SiteCount>,
    /// The list of these devices.
    link: String,
}

impl RunsOn {
    fn of(bundle: &Digest, survey: &Survey) -> Self {
        let sites = survey.sites.get(bundle).into_iter().flatten();
        Self {
            devices: survey.spread.get(bundle).copied().unwrap_or(0),
            sites: sites
                .map(|(site, devices)| SiteCount { site: site.to_string(), devices: *devices })
                .collect(),
            link: format!("/api/v1/devices?bundle={bundle}"),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct SiteCount {
    site: String,
    devices: u64,
}

/// What people wrote on a version.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VersionNotes)]
pub(super) struct NotesView {
    description: String,
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    tags: Tags,
    /// For If-Match; 0 if nobody wrote on it yet.
    pub(super) revision: u64,
}

impl From<Versioned<Notes>> for NotesView {
    fn from(Versioned { revision, document: Notes { description, tags } }: Versioned<Notes>) -> Self {
        Self { description, tags, revision }
    }
}

impl VersionView {
    pub(super) async fn load(
        db: &mut Control,
        bundle: Bundle,
        aliases: &[Alias],
        survey: &Survey,
    ) -> Answer<Self> {
        let notes = notes::get(db, &bundle.sha256).await?.into();
        let called = aliases.iter().filter(|alias| alias.bundle == bundle.sha256);
        Ok(Self {
            aliases: called.map(|alias| alias.name.to_string()).collect(),
            variants: bundle
                .manifest
                .variants
                .iter()
                .map(|it| VariantView::of(&bundle.manifest, it))
                .collect(),
            runs_on: RunsOn::of(&bundle.sha256, survey),
            notes,
            bundle: BundleView::of(bundle, &survey.spread),
        })
    }
}

impl VariantView {
    fn of(manifest: &Manifest, variant: &Variant) -> Self {
        let opened = std::iter::once(&variant.file).chain(&variant.beside);
        Self {
            id: variant.id.clone(),
            format: match variant.format {
                Format::Onnx => "onnx",
                Format::OpenvinoIr => "openvino_ir",
            },
            precision: variant.precision.as_str(),
            inference_precision: match variant.inference_precision {
                InferencePrecision::F32 => "f32",
                InferencePrecision::F16 => "f16",
                InferencePrecision::Bf16 => "bf16",
                InferencePrecision::Default => "default",
            },
            device: variant.select.device.clone(),
            size_bytes: opened.filter_map(|path| manifest.file(path)).map(|file| file.length).sum(),
            rank: variant.rank,
        }
    }
}
