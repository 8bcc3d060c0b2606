//! Which devices: a saved question about a box, asked again whenever the box changes.
//!
//! The text is that of Kubernetes' label selectors, because people know it: `ward=icu`, `ward in (icu, er)`,
//! `ward notin (lab)`, `gpu` (has the tag), `!legacy` (has it not), joined by commas: all must hold. Beside tags it knows
//! `site`, `device`, `name`, `hardware` (a box has several classes) and `agent`, which also compares: `agent>=0.3.0`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use muster_protocol::ids::{DeviceId, HardwareClass, SiteName, TagName, TagValue};
use muster_protocol::trust::AgentVersion;
use serde::{Deserialize, Serialize};

pub type Tags = BTreeMap<TagName, TagValue>;

/// Tags on one device.
pub const TAGS_MAX: usize = 64;
const TERMS_MAX: usize = 32;
const VALUES_MAX: usize = 256;

/// All terms must hold; none holds for everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Filter(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    key: Key,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Site,
    Device,
    Name,
    Hardware,
    Agent,
    Tag(TagName),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Compare(Comparison, AgentVersion),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    AtLeast,
    More,
}

/// What a filter may ask of a box.
#[derive(Clone, Copy, Debug)]
pub struct Traits<'a> {
    pub id: &'a DeviceId,
    pub name: &'a str,
    pub site: &'a SiteName,
    pub hardware: &'a BTreeSet<HardwareClass>,
    pub agent: Option<AgentVersion>,
    pub tags: &'a Tags,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error(
        "'{0}' is no term of a filter; write such as 'ward=icu', 'site in (er-1, er-2)', 'gpu' or '!legacy'"
    )]
    Term(String),
    #[error(
        "'{0}' cannot be asked for; it is no tag name (a-z, 0-9, '_', '-') and none of site, device, name, hardware, agent"
    )]
    Key(String),
    #[error("'{0}' is compared with a version; only 'agent' can be, such as agent>=0.3.0")]
    Compare(String),
    #[error("a filter has at most {TERMS_MAX} terms of {VALUES_MAX} values")]
    Long,
}

impl Filter {
    pub fn matches(&self, device: &Traits<'_>) -> bool {
        self.0.iter().all(|term| term.holds(device))
    }

    /// What matches both.
    pub fn and(&self, other: &Self) -> Result<Self, FilterError> {
        let terms: Vec<Term> = self.0.iter().chain(&other.0).cloned().collect();
        if terms.len() > TERMS_MAX { Err(FilterError::Long) } else { Ok(Self(terms)) }
    }

    /// Whoever is at none of these sites.
    pub fn elsewhere(sites: &BTreeSet<SiteName>) -> Self {
        let names: Vec<String> = sites.iter().map(ToString::to_string).collect();
        let term =
            |names: &[String]| Term { key: Key::Site, test: Test::NotIn(names.iter().cloned().collect()) };
        Self(names.chunks(VALUES_MAX).map(term).collect())
    }

    pub fn is_everybody(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it holds wherever `other` does, as far as their terms tell.
    pub fn follows_from(&self, other: &Self) -> bool {
        self.0.iter().all(|term| other.0.contains(term))
    }

    /// Whether no device can match both, as far as their terms tell.
    pub fn is_apart_from(&self, other: &Self) -> bool {
        self.0.iter().any(|term| other.0.iter().any(|theirs| term.is_apart_from(theirs)))
    }

    /// Whether no device of these sites can match it, as far as its terms tell.
    pub fn leaves_out(&self, sites: &BTreeSet<SiteName>) -> bool {
        let mut of_sites = self.0.iter().filter(|term| term.key == Key::Site);
        of_sites.any(|term| sites.iter().all(|site| !term.test.of(Some(site.as_str()))))
    }
}

impl Term {
    fn is_apart_from(&self, other: &Self) -> bool {
        // A box has several hardware classes: it can be of one and of the other.
        self.key == other.key && self.key != Key::Hardware && self.test.is_apart_from(&other.test)
    }

    fn holds(&self, device: &Traits<'_>) -> bool {
        if let Test::Compare(comparison, than) = &self.test {
            return device.agent.is_some_and(|agent| match comparison {
                Comparison::Less => agent < *than,
                Comparison::AtMost => agent <= *than,
                Comparison::AtLeast => agent >= *than,
                Comparison::More => agent > *than,
            });
        }
        match &self.key {
            Key::Site => self.test.of(Some(device.site.as_str())),
            Key::Device => self.test.of(Some(device.id.as_str())),
            Key::Name => self.test.of(Some(device.name)),
            Key::Tag(name) => self.test.of(device.tags.get(name).map(TagValue::as_str)),
            Key::Agent => self.test.of(device.agent.map(|agent| agent.to_string()).as_deref()),
            Key::Hardware => match &self.test {
                Test::Exists => !device.hardware.is_empty(),
                Test::Absent => device.hardware.is_empty(),
                Test::In(values) => device.hardware.iter().any(|class| values.contains(class.as_str())),
                Test::NotIn(values) => !device.hardware.iter().any(|class| values.contains(class.as_str())),
                Test::Compare(..) => false,
            },
        }
    }
}

impl Test {
    /// Whether no one value passes both.
    fn is_apart_from(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::In(ours), Self::In(theirs)) => ours.is_disjoint(theirs),
            (Self::In(among), Self::NotIn(none)) | (Self::NotIn(none), Self::In(among)) => {
                among.is_subset(none)
            }
            (Self::Absent, Self::Exists | Self::In(_)) | (Self::Exists | Self::In(_), Self::Absent) => true,
            (Self::Exists | Self::Absent | Self::In(_) | Self::NotIn(_) | Self::Compare(..), _) => false,
        }
    }

    fn of(&self, value: Option<&str>) -> bool {
        match self {
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::In(values) => value.is_some_and(|value| values.contains(value)),
            // As in Kubernetes: what has no such tag is not in the set either.
            Self::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Self::Compare(..) => false,
        }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let terms: Vec<Term> = split(text).into_iter().map(parse).collect::<Result<_, _>>()?;
        let long = |term: &Term| matches!(&term.test, Test::In(v) | Test::NotIn(v) if v.len() > VALUES_MAX);
        if terms.len() > TERMS_MAX || terms.iter().any(long) {
            return Err(FilterError::Long);
        }
        Ok(Self(terms))
    }
}

/// At the commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let parts = text.split(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn parse(text: &str) -> Result<Term, FilterError> {
    let wrong = || FilterError::Term(text.chars().take(80).collect());
    if let Some(name) = text.strip_prefix('!') {
        return Ok(Term { key: key(name.trim())?, test: Test::Absent });
    }
    if let Some((head, list)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let mut words = head.split_whitespace();
        let (Some(name), Some(operator), None) = (words.next(), words.next(), words.next()) else {
            return Err(wrong());
        };
        let values: BTreeSet<String> =
            list.split(',').map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()).collect();
        let test = match operator {
            "in" if !values.is_empty() => Test::In(values),
            "notin" if !values.is_empty() => Test::NotIn(values),
            _ => return Err(wrong()),
        };
        return Ok(Term { key: key(name)?, test });
    }
    for (operator, comparison) in [
        (">=", Comparison::AtLeast),
        ("<=", Comparison::AtMost),
        (">", Comparison::More),
        ("<", Comparison::Less),
    ] {
        if let Some((name, version)) = text.split_once(operator) {
            let key = key(name.trim())?;
            if key != Key::Agent {
                return Err(FilterError::Compare(name.trim().to_owned()));
            }
            let version = version.trim().parse().map_err(|_| wrong())?;
            return Ok(Term { key, test: Test::Compare(comparison, version) });
        }
    }
    for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((name, value)) = text.split_once(operator) {
            let value = value.trim();
            if value.is_empty() || value.contains(['=', '!', '(', ')', ' ']) {
                return Err(wrong());
            }
            let values = BTreeSet::from([value.to_owned()]);
            let test = if negated { Test::NotIn(values) } else { Test::In(values) };
            return Ok(Term { key: key(name.trim())?, test });
        }
    }
    Ok(Term { key: key(text)?, test: Test::Exists })
}

fn key(name: &str) -> Result<Key, FilterError> {
    Ok(match name {
        "site" => Key::Site,
        "device" => Key::Device,
        "name" => Key::Name,
        "hardware" => Key::Hardware,
        "agent" => Key::Agent,
        other => Key::Tag(other.parse().map_err(|_| FilterError::Key(other.chars().take(80).collect()))?),
    })
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Site => "site",
            Self::Device => "device",
            Self::Name => "name",
            Self::Hardware => "hardware",
            Self::Agent => "agent",
            Self::Tag(name) => name.as_str(),
        })
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list =
            |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        match &self.test {
            Test::Exists => write!(f, "{key}"),
            Test::Absent => write!(f, "!{key}"),
            Test::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Test::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", list(values)),
            Test::In(values) => write!(f, "{key} in ({})", list(values)),
            Test::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Test::Compare(comparison, version) => {
                let operator = match comparison {
                    Comparison::Less => "<",
                    Comparison::AtMost => "<=",
                    Comparison::AtLeast => ">=",
                    Comparison::More => ">",
                };
                write!(f, "{key}{operator}{version}")
            }
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&terms.join(", "))
    }
}

impl TryFrom<String> for Filter {
    type Error = FilterError;

    fn try_from(text: String) -> Result<Self, FilterError> {
        text.parse()
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> String {
        filter.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &str, expect: bool) {
        let tags: Tags = [
            ("ward".parse().unwrap(), "icu".parse().unwrap()),
            ("gpu".parse().unwrap(), "1".parse().unwrap()),
        ]
        .into();
        let hardware = ["x86_64", "x86_64-openvino"].map(|class| class.parse().unwrap()).into();
        let device = Traits {
            id: &DeviceId::mint([1; 16]),
            name: "north 1",
            site: &"er-1".parse().unwrap(),
            hardware: &hardware,
            agent: Some("0.3.1".parse().unwrap()),
            tags: &tags,
        };
        let filter: Filter = filter.parse().unwrap();
        assert_eq!(filter.matches(&device), expect, "{filter}");
        assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter);
    }

    #[test]
    fn questions() {
        check("", true);
        check("ward=icu", true);
        check("ward == lab", false);
        check("ward!=lab, gpu, !legacy", true);
        check("ward in (icu, lab), site=er-2", false);
        check("ward notin (icu)", false);
        check("legacy notin (yes)", true);
        check("hardware=x86_64-openvino", true);
        check("hardware notin (x86_64)", false);
        check("agent>=0.3.0, agent<0.4.0", true);
        check("agent>0.3.1", false);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "Ward=icu",
            "ward in ()",
            "ward=",
            "ward between (a)",
            "ward>=1.0.0",
            "agent>=soon",
            "a=b=c",
            "ward in icu",
        ] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
    #[test]
    fn two_filters_beside_each_other() {
        let filter = |text: &str| text.parse::<Filter>().unwrap();
        let apart = |one, other, expect| {
            let (one, other) = (filter(one), filter(other));
            assert_eq!(one.is_apart_from(&other), expect, "{one} and {other}");
            assert_eq!(other.is_apart_from(&one), expect, "{other} and {one}");
        };
        apart("ward=icu", "ward in (er, lab)", true);
        apart("ward=icu", "ward in (icu, lab)", false);
        apart("ward=icu, gpu", "site=er-1, ward=er", true);
        apart("ward=icu", "ward!=icu", true);
        apart("ward in (icu, er)", "ward!=icu", false);
        apart("legacy", "!legacy", true);
        apart("ward=icu", "site=icu", false);
        apart("hardware=x86_64", "hardware=arc-gpu", false);
        apart("", "ward=icu", false);
        let follows = |one, from, expect| {
            assert_eq!(filter(one).follows_from(&filter(from)), expect, "{one} from {from}");
        };
        follows("", "ward=icu", true);
        follows("ward=icu", "gpu, ward=icu", true);
        follows("ward=icu", "", false);
        let sites: BTreeSet<SiteName> = ["er-1", "er-2"].iter().map(|site| site.parse().unwrap()).collect();
        assert!(
            filter("site=er-3").leaves_out(&sites) && filter("site notin (er-1, er-2)").leaves_out(&sites)
        );
        assert!(!filter("site=er-1").leaves_out(&sites) && !filter("ward=icu").leaves_out(&sites));
    }
}
