//! A plan as a YAML file: what a person reviews, keeps beside the model and applies. Spans are written as people say
//! them, and each fault is told with the file, the line and the field.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use muster_protocol::ids::{BundlePath, DeviceId, Digest, ModelName, SiteName, SlotName};
use muster_protocol::message::up::BundleRef;
use muster_protocol::time::Timestamp;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use serde_saphyr::Spanned;

use crate::cli::{CliError, duration};
use crate::gate::GateLimits;
use crate::rollout::filter::Filter;
use crate::rollout::{LateJoiners, OnFailure, Plan, Selector, Size, StagePlan, SteppingStone, Timing};

const BYTES_MAX: u64 = 256 * 1024;
const NEXT: &str = "correct the file and repeat";

/// What a file asks for, with the lines of its stages for later faults.
#[derive(Debug)]
pub(super) struct PlanFile {
    shown: String,
    text: String,
    wish: Wish,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    model: ModelName,
    bundle: String,
    slot: Option<SlotName>,
    reason: String,
    #[serde(default)]
    selector: Chosen,
    stages: Vec<Spanned<Stage>>,
    in_flight_max: Option<u32>,
    in_flight_per_site_max: Option<u32>,
    rate_per_hour_max: Option<u32>,
    priority: Option<u16>,
    #[serde(default)]
    on_failure: OnFailure,
    #[serde(default)]
    late_joiners: LateJoiners,
    #[serde(default)]
    windows: Windows,
    start_at: Option<Timestamp>,
    install_deadline: Option<Span>,
    patience: Option<Span>,
    attempts_max: Option<u8>,
    #[serde(default)]
    stepping_stones: Vec<Stone>,
    #[serde(default)]
    approvals: u8,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Chosen {
    sites: Option<BTreeSet<SiteName>>,
    devices: Option<BTreeSet<DeviceId>>,
    filter: Filter,
    /// A saved cohort: its filter of this moment is added.
    cohort: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stage {
    name: String,
    size: Extent,
    #[serde(default)]
    quorum: Quorum,
    bake: Span,
    deadline: Span,
    exposure_device_hours_max: Option<f64>,
    #[serde(default)]
    gate: GateLimits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Windows {
    #[default]
    Keep,
    Ignore,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stone {
    from: BundlePath,
    via: BundlePath,
    sha256: Digest,
}

/// `6h`, `3d`: seconds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Span(u64);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        duration::parse(&text).map(|span| Self(span.as_secs()))
    }
}

/// A number of devices, a share, a list or a filter.
#[derive(Debug)]
struct Extent(Size);

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Extent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of devices, a share such as 10%, {devices: […]} or {matching: FILTER}")
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Extent, E> {
                u32::try_from(count)
                    .map(|count| Extent(Size::Count(count)))
                    .map_err(|_| E::custom("that many devices there are not"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Extent, E> {
                if let Some(share) = text.strip_suffix('%') {
                    return share
                        .trim()
                        .parse()
                        .map(|percent| Extent(Size::Percent(percent)))
                        .map_err(|_| E::custom(format!("'{text}' is not a share; write 10%")));
                }
                text.parse().map(|count| Extent(Size::Count(count))).map_err(|_| {
                    E::custom(format!(
                        "'{text}' is not a size; write a number of devices or a share such as 10%"
                    ))
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Extent, A::Error> {
                #[derive(Deserialize)]
                #[serde(rename_all = "snake_case")]
                enum Named {
                    Devices(BTreeSet<DeviceId>),
                    Matching(Filter),
                }
                let named = Named::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Extent(match named {
                    Named::Devices(devices) => Size::Devices(devices),
                    Named::Matching(filter) => Size::Matching(filter),
                }))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A share of the asked devices, percent.
#[derive(Debug)]
struct Quorum(f64);

impl Default for Quorum {
    fn default() -> Self {
        Self(100.0)
    }
}

impl<'de> Deserialize<'de> for Quorum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Extent::deserialize(deserializer)?.0 {
            Size::Percent(percent) => Ok(Self(percent)),
            Size::Count(percent) => Ok(Self(f64::from(percent))),
            Size::Devices(_) | Size::Matching(_) => Err(de::Error::custom("a quorum is a share such as 90%")),
        }
    }
}

impl PlanFile {
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        let shown = path.display().to_string();
        let wrong = |what: String| CliError::failed(format!("{shown}: {what}"), NEXT);
        let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
        if length > BYTES_MAX {
            return Err(wrong(format!("is {length} bytes long; the limit is {BYTES_MAX}")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&shown, text)
    }

    fn parse(shown: &str, text: String) -> Result<Self, CliError> {
        // The first line of the message has line, column and field; the drawing under it would be cut by some terminals.
        let wish = serde_saphyr::from_str(&text).map_err(|error| {
            let said = error.to_string();
            CliError::failed(format!("{shown}: {}", said.trim_end()), NEXT)
        })?;
        let file = Self { shown: shown.to_owned(), text, wish };
        let plan = file.plan();
        plan.check().map_err(|error| file.fault(&error.place(&plan), &error.to_string()))?;
        Ok(file)
    }

    fn plan(&self) -> Plan {
        let wish = &self.wish;
        let stages = wish.stages.iter().map(|stage| StagePlan::from(&stage.value)).collect();
        let Chosen { sites, devices, filter, cohort: _ } = &wish.selector;
        let selector = Selector { sites: sites.clone(), devices: devices.clone(), filter: filter.clone() };
        let plain = Plan::of(stages, selector);
        let stones = wish.stepping_stones.iter().map(|stone| SteppingStone {
            from: stone.from.clone(),
            via: BundleRef { path: stone.via.clone(), sha256: stone.sha256 },
        });
        Plan {
            in_flight_max: wish.in_flight_max.unwrap_or(plain.in_flight_max),
            in_flight_per_site_max: wish.in_flight_per_site_max,
            rate_per_hour_max: wish.rate_per_hour_max,
            priority: wish.priority.unwrap_or(plain.priority),
            on_failure: wish.on_failure,
            late_joiners: wish.late_joiners,
            timing: match wish.windows {
                Windows::Keep => Timing::AsSitesAllow,
                Windows::Ignore => Timing::IgnoreWindows,
            },
            start_at: wish.start_at,
            install_deadline_s: wish.install_deadline.map_or(plain.install_deadline_s, |span| span.0),
            patience_s: wish.patience.map_or(plain.patience_s, |span| span.0),
            attempts_max: wish.attempts_max.unwrap_or(plain.attempts_max),
            stepping_stones: stones.collect(),
            approvals_min: wish.approvals,
            ..plain
        }
    }

    /// The saved cohort that it names, if any.
    pub(super) fn cohort(&self) -> Option<&str> {
        self.wish.selector.cohort.as_deref()
    }

    /// As the API takes it. `cohort` is the filter of the cohort that the file names.
    pub(super) fn body(&self, actor: &str, cohort: Option<&str>) -> Result<Value, CliError> {
        let mut plan = self.plan();
        if let Some(cohort) = cohort {
            let own = String::from(plan.selector.filter.clone());
            let both = if own.is_empty() { cohort.to_owned() } else { format!("{own},{cohort}") };
            plan.selector.filter =
                both.parse().map_err(|error| self.fault("/selector", &format!("cohort: {error}")))?;
        }
        let mut body = serde_json::to_value(&plan).map_err(CliError::other)?;
        body["model"] = json!(self.wish.model);
        body["bundle"] = json!(self.wish.bundle);
        body["reason"] = json!(crate::cli::act::reason(&self.wish.reason)?);
        body["started_by"] = json!({ "kind": "person", "name": actor });
        if let Some(slot) = &self.wish.slot {
            body["slot"] = json!(slot);
        }
        Ok(body)
    }

    /// A fault at this JSON pointer, with file and line.
    pub(super) fn fault(&self, pointer: &str, what: &str) -> CliError {
        let field = pointer.trim_start_matches('/').replace('/', ".");
        let place = self.line(pointer).map_or_else(String::new, |line| format!("line {line}: "));
        CliError::failed(format!("{}: {place}{field}: {what}", self.shown), NEXT)
    }

    fn line(&self, pointer: &str) -> Option<u64> {
        let mut parts = pointer.trim_start_matches('/').split('/');
        let first = parts.next()?;
        if first == "stages"
            && let Some(at) = parts.next().and_then(|at| at.parse::<usize>().ok())
        {
            return self.wish.stages.get(at).map(|stage| stage.referenced.line());
        }
        let written = match first {
            "install_deadline_s" => "install_deadline",
            "patience_s" => "patience",
            "timing" => "windows",
            "approvals_min" => "approvals",
            same => same,
        };
        let at = self.text.lines().position(|line| line.starts_with(&format!("{written}:")))?;
        u64::try_from(at + 1).ok()
    }
}

impl From<&Stage> for StagePlan {
    fn from(stage: &Stage) -> Self {
        Self {
            name: stage.name.clone(),
            size: stage.size.0.clone(),
            quorum_percent: stage.quorum.0,
            bake_s: stage.bake.0,
            deadline_s: stage.deadline.0,
            exposure_device_hours_max: stage.exposure_device_hours_max,
            gate: stage.gate.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGES: &str = "stages:\n  - {name: a, size: 1, bake: 1h, deadline: 2h}\n  - {name: b, size: 100%, bake: 6h, deadline: 3d, quorum: 90%}\n";

    fn parse(text: &str) -> Result<PlanFile, String> {
        PlanFile::parse("p.yaml", text.to_owned()).map_err(|error| error.message())
    }

    fn with(more: &str) -> String {
        format!("model: er\nbundle: bundles/er/2.json\nreason: x\n{more}{STAGES}")
    }

    #[test]
    fn the_example_is_a_plan() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/plans/winter-model.yaml");
        let file = PlanFile::read(&path).unwrap();
        let plan = file.plan();
        plan.check().unwrap();
        assert_eq!((plan.approvals_min, plan.stages[1].quorum_percent), (1, 90.0));
        assert_eq!((plan.stages[0].bake_s, plan.stages[2].deadline_s), (86_400, 14 * 86_400));
        let body = file.body("ada", None).unwrap();
        assert_eq!(body["selector"]["filter"], String::from(plan.selector.filter.clone()));
        assert_eq!(body["stages"][0]["size"], json!({"count": 2}));
    }

    #[test]
    fn a_cohort_narrows_the_files_own_filter() {
        let file = parse(&with("selector: {filter: ward=er, cohort: nights}\n")).unwrap();
        assert_eq!(file.cohort(), Some("nights"));
        let body = file.body("ada", Some("gpu")).unwrap();
        let filter: Filter = body["selector"]["filter"].as_str().unwrap().parse().unwrap();
        assert_eq!(filter, "ward=er,gpu".parse().unwrap());
    }

    #[test]
    fn faults_name_file_line_and_field() {
        let check = |text: &str, expect: &[&str]| {
            let error = parse(text).unwrap_err();
            for part in expect {
                assert!(error.contains(part), "{error} lacks {part}");
            }
        };
        check(&with("colour: red\n"), &["p.yaml", "line 4", "colour"]);
        check(&with("patience: soon\n"), &["p.yaml", "line 4", "'soon' is not a span"]);
        check(&with("in_flight_max: 0\n"), &["p.yaml: line 4: in_flight_max"]);
        check(&with("").replace("size: 1,", "size: many,"), &["line 5", "'many' is not a size"]);
        check(&with("").replace("deadline: 2h", "deadline: 30m"), &["p.yaml: line 5: stages.0", "stage 'a'"]);
        check(&with("").replace("name: b", "name: a"), &["line 6", "two stages"]);
        check(&with("").replace("deadline: 2h}", "deadline: 2h, gate: {alphas: 1}}"), &["line 5", "alphas"]);
        check("model: er\n", &["p.yaml", "missing"]);
        check("model: &a er\nmodel: *a\n", &["p.yaml"]);
    }
}
