//! The documents of a layout, as the OCI image specification and `ModelPack` spell them. Maps are sorted, so that the same
//! content is the same bytes.

use std::collections::BTreeMap;

use muster_protocol::ids::Digest;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

pub(super) const LAYOUT_VERSION: &str = "1.0.0";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const ARTIFACT: &str = "application/vnd.cncf.model.manifest.v1+json";
pub(super) const CONFIG: &str = "application/vnd.cncf.model.config.v1+json";
/// The files that a runtime opens.
pub(super) const WEIGHT: &str = "application/vnd.cncf.model.weight.v1.raw";
/// What tells how to use and to check them: manifest, golden outputs, drift reference.
pub(super) const WEIGHT_CONFIG: &str = "application/vnd.cncf.model.weight.config.v1.raw";
/// The signature.
pub(super) const DOC: &str = "application/vnd.cncf.model.doc.v1.raw";

pub(super) const FILE_PATH: &str = "org.cncf.model.filepath";
pub(super) const FILE_METADATA: &str = "org.cncf.model.file.metadata+json";
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub(super) const CREATED: &str = "org.opencontainers.image.created";
pub(super) const TITLE: &str = "org.opencontainers.image.title";
pub(super) const VERSION: &str = "org.opencontainers.image.version";
pub(super) const LICENCES: &str = "org.opencontainers.image.licenses";
/// Ours: SHA-256 of the bundle's manifest, by which the signed catalogue names it.
pub(super) const BUNDLE: &str = "io.github.muster-edge.bundle.sha256";

pub(super) type Annotations = BTreeMap<String, String>;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Layout {
    pub(super) image_layout_version: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub(super) schema_version: u32,
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) manifests: Vec<Descriptor>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    /// `sha256:` and the digest.
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: Annotations,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Image {
    pub(super) schema_version: u32,
    #[serde(default)]
    pub(super) media_type: String,
    #[serde(default)]
    pub(super) artifact_type: String,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: Annotations,
}

/// `ModelPack`'s configuration.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the specification's own word")]
pub(super) struct Config {
    pub(super) descriptor: About,
    pub(super) modelfs: ModelFs,
    pub(super) config: Model,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About {
    pub(super) created_at: Timestamp,
    pub(super) name: String,
    pub(super) version: String,
    /// The bundle's digest.
    pub(super) revision: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) licenses: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) description: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ModelFs {
    pub(super) r#type: &'static str,
    pub(super) diff_ids: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Model {
    pub(super) format: &'static str,
    pub(super) precision: &'static str,
    pub(super) capabilities: Capabilities,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Capabilities {
    pub(super) input_types: [&'static str; 1],
    pub(super) output_types: [&'static str; 1],
}

/// Value of [`FILE_METADATA`].
#[derive(Debug, Serialize)]
pub(super) struct FileMetadata<'a> {
    pub(super) name: &'a str,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: Timestamp,
    /// `0`: a regular file.
    pub(super) typeflag: u8,
}

impl Descriptor {
    pub(super) fn of(media_type: &str, digest: &Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            artifact_type: None,
            digest: format!("sha256:{digest}"),
            size,
            annotations: Annotations::new(),
        }
    }

    /// The SHA-256 it names; other algorithms are not ours.
    pub(super) fn sha256(&self) -> Option<Digest> {
        self.digest.strip_prefix("sha256:")?.parse().ok()
    }
}
