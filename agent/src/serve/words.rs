//! What the server says of itself and of its models, once for both doors: gRPC sends these as messages, REST as JSON.
//!
//! The names are the protocol's, and Triton's where the protocol has none. The messages with tensors are in `grpc`.

use std::collections::BTreeMap;

use prost::{Enumeration, Message};
use serde::{Serialize, Serializer};

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct ServerMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(string, repeated, tag = "3")]
    pub(super) extensions: Vec<String>,
}

/// Names a model, and a version where not whatever runs is meant.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ModelName {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct ModelMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) versions: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) platform: String,
    #[prost(message, repeated, tag = "4")]
    pub(super) inputs: Vec<TensorMetadata>,
    #[prost(message, repeated, tag = "5")]
    pub(super) outputs: Vec<TensorMetadata>,
    #[prost(btree_map = "string, string", tag = "6")]
    pub(super) properties: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct TensorMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) datatype: String,
    /// -1 is any length.
    #[prost(int64, repeated, tag = "3")]
    pub(super) shape: Vec<i64>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct IndexRequest {
    #[prost(string, tag = "1")]
    pub(super) repository_name: String,
    /// Only what is ready.
    #[prost(bool, tag = "2")]
    pub(super) ready: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Index {
    #[prost(message, repeated, tag = "1")]
    pub(super) models: Vec<IndexEntry>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct IndexEntry {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(string, tag = "3")]
    pub(super) state: String,
    #[prost(string, tag = "4")]
    pub(super) reason: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct Statistics {
    #[prost(message, repeated, tag = "1")]
    pub(super) model_stats: Vec<ModelStatistics>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct ModelStatistics {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    /// Milliseconds since 1970; 0 before the first.
    #[prost(uint64, tag = "3")]
    pub(super) last_inference: u64,
    /// Rows.
    #[prost(uint64, tag = "4")]
    pub(super) inference_count: u64,
    /// Runs of the model.
    #[prost(uint64, tag = "5")]
    pub(super) execution_count: u64,
    #[prost(message, optional, tag = "6")]
    pub(super) inference_stats: Option<InferStatistics>,
    #[prost(message, repeated, tag = "7")]
    pub(super) batch_stats: Vec<BatchStatistics>,
}

#[derive(Clone, Copy, PartialEq, Message, Serialize)]
pub(super) struct InferStatistics {
    #[prost(message, optional, tag = "1")]
    pub(super) success: Option<StatisticDuration>,
    #[prost(message, optional, tag = "2")]
    pub(super) fail: Option<StatisticDuration>,
    #[prost(message, optional, tag = "3")]
    pub(super) queue: Option<StatisticDuration>,
    #[prost(message, optional, tag = "4")]
    pub(super) compute_input: Option<StatisticDuration>,
    #[prost(message, optional, tag = "5")]
    pub(super) compute_infer: Option<StatisticDuration>,
    #[prost(message, optional, tag = "6")]
    pub(super) compute_output: Option<StatisticDuration>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
pub(super) struct StatisticDuration {
    #[prost(uint64, tag = "1")]
    pub(super) count: u64,
    #[prost(uint64, tag = "2")]
    pub(super) ns: u64,
}

/// Never sent: requests are run as they come, not in batches of the server's own.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
pub(super) struct BatchStatistics {
    #[prost(uint64, tag = "1")]
    pub(super) batch_size: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ConfigResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) config: Option<ModelConfig>,
}

/// What Triton's clients look at of its configuration.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct ModelConfig {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) platform: String,
    #[prost(string, tag = "17")]
    pub(super) backend: String,
    /// 0: the first dimension is the model's own, not the server's.
    #[prost(int32, tag = "4")]
    pub(super) max_batch_size: i32,
    #[prost(message, repeated, tag = "5")]
    pub(super) input: Vec<ConfigInput>,
    #[prost(message, repeated, tag = "6")]
    pub(super) output: Vec<ConfigOutput>,
    #[prost(message, repeated, tag = "7")]
    pub(super) instance_group: Vec<InstanceGroup>,
    #[prost(string, tag = "8")]
    pub(super) default_model_filename: String,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct ConfigInput {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(enumeration = "DataType", tag = "2")]
    #[serde(serialize_with = "data_type")]
    pub(super) data_type: i32,
    #[prost(int64, repeated, tag = "4")]
    pub(super) dims: Vec<i64>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct ConfigOutput {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(enumeration = "DataType", tag = "2")]
    #[serde(serialize_with = "data_type")]
    pub(super) data_type: i32,
    #[prost(int64, repeated, tag = "3")]
    pub(super) dims: Vec<i64>,
}

#[derive(Clone, PartialEq, Message, Serialize)]
pub(super) struct InstanceGroup {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(int32, tag = "2")]
    pub(super) count: i32,
    #[prost(enumeration = "Kind", tag = "4")]
    #[serde(serialize_with = "kind")]
    pub(super) kind: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
pub(super) enum Kind {
    Auto = 0,
    Gpu = 1,
    Cpu = 2,
    Model = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
pub(super) enum DataType {
    Invalid = 0,
    Bool = 1,
    Uint8 = 2,
    Uint16 = 3,
    Uint32 = 4,
    Uint64 = 5,
    Int8 = 6,
    Int16 = 7,
    Int32 = 8,
    Int64 = 9,
    Fp16 = 10,
    Fp32 = 11,
    Fp64 = 12,
    String = 13,
    Bf16 = 14,
}

/// JSON has the names of enumerations, not their numbers.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn data_type<S: Serializer>(number: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match DataType::try_from(*number).unwrap_or(DataType::Invalid) {
        DataType::Invalid => "TYPE_INVALID",
        DataType::Bool => "TYPE_BOOL",
        DataType::Uint8 => "TYPE_UINT8",
        DataType::Uint16 => "TYPE_UINT16",
        DataType::Uint32 => "TYPE_UINT32",
        DataType::Uint64 => "TYPE_UINT64",
        DataType::Int8 => "TYPE_INT8",
        DataType::Int16 => "TYPE_INT16",
        DataType::Int32 => "TYPE_INT32",
        DataType::Int64 => "TYPE_INT64",
        DataType::Fp16 => "TYPE_FP16",
        DataType::Fp32 => "TYPE_FP32",
        DataType::Fp64 => "TYPE_FP64",
        DataType::String => "TYPE_STRING",
        DataType::Bf16 => "TYPE_BF16",
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn kind<S: Serializer>(number: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match Kind::try_from(*number).unwrap_or(Kind::Auto) {
        Kind::Auto => "KIND_AUTO",
        Kind::Gpu => "KIND_GPU",
        Kind::Cpu => "KIND_CPU",
        Kind::Model => "KIND_MODEL",
    })
}
