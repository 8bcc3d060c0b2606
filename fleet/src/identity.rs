//! Who may do what: roles, what each may, and how long a proof of somebody is good. Pure; the doors ask, the store keeps.
//!
//! ```text
//!   person ─ member of ─▶ project ◀─ belongs to ─ site, model ◀─ device, rollout, run, incident …
//!      │ as viewer < operator < approver < admin
//!      └ token: no more than its owner may, and less if it says so
//! ```
//! What belongs to no project in particular, such as the catalogue, belongs to the project `default`. Its administrators
//! are those of the whole fleet: they could give themselves every other role anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use muster_protocol::ids::ModelName;
use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A session that is not used for so long has ended.
pub const SESSION_IDLE: Duration = Duration::from_mins(30);
/// No session lasts longer, used or not.
pub const SESSION_LIFE: Duration = Duration::from_hours(12);
/// Longest life of a token.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_hours(366 * 24);
/// How long the link that makes the first administrator is good.
pub const SETUP_LIFE: Duration = Duration::from_hours(1);

const NAME_CHARS_MAX: usize = 64;

/// What a person is in a project. Each may all that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Viewer,
    Operator,
    Approver,
    Admin,
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// See how things are.
    Look,
    /// See what a builder must: bundles, runs, published trust files.
    Fetch,
    /// Take a run, bring what was built.
    Build,
    /// Change what boxes do, without saying yes for others.
    Operate,
    /// Say yes to what another proposed.
    Approve,
    /// Let people and boxes in or out.
    Administer,
}

/// What somebody may in one project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    Role(Role),
    /// A builder: of these models, or of all of the project if there are none.
    Builder(BTreeSet<ModelName>),
}

/// What somebody may, by project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(BTreeMap<ProjectName, Grant>, Option<Role>);

/// What a token may at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenScope {
    /// All of its owner's, if absent.
    pub project: Option<ProjectName>,
    pub grant: Grant,
}

impl TokenScope {
    pub fn is_builder(&self) -> bool {
        matches!(self.grant, Grant::Builder(_))
    }

    /// Whether a token of this scope may make one of that scope: never one that may more.
    pub fn covers(&self, other: &Self) -> bool {
        let Grant::Role(cap) = &self.grant else { return false };
        let within = self.project.is_none() || self.project == other.project;
        within
            && match &other.grant {
                Grant::Role(role) => role <= cap,
                Grant::Builder(_) => may(*cap, Permission::Build),
            }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("'{0}' is no project name: use 1 to 64 of a-z, 0-9 and '-', starting with a letter")]
    Project(String),
    #[error(
        "'{0}' is no name to log in with: use 1 to 64 of a-z, 0-9, '.', '_', '@' and '-', starting with a letter"
    )]
    Person(String),
    #[error("'{0}' is no role: write viewer, operator, approver or admin")]
    Role(String),
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $error:ident, $allowed:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || $allowed.contains(&b);
                let begins = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
                if begins && text.len() <= NAME_CHARS_MAX && text.bytes().all(known) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError::$error(text.chars().take(80).collect()))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// Sites and models that are run by the same people.
    ProjectName,
    Project,
    b"-"
);
name!(
    /// What a person logs in with, and what the log calls them.
    PersonName,
    Person,
    b"._@-"
);

impl ProjectName {
    /// Holds all that is not assigned.
    pub fn default_project() -> Self {
        Self("default".to_owned())
    }

    pub fn is_default(&self) -> bool {
        self.0 == "default"
    }
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Approver, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| NameError::Role(text.chars().take(80).collect()))
    }
}

/// Whether a role is enough.
pub fn may(role: Role, permission: Permission) -> bool {
    let least = match permission {
        Permission::Look | Permission::Fetch => Role::Viewer,
        Permission::Build | Permission::Operate => Role::Operator,
        Permission::Approve => Role::Approver,
        Permission::Administer => Role::Admin,
    };
    role >= least
}

impl Grant {
    /// Whether this allows it, to a thing of this model if it is of one.
    pub fn may(&self, permission: Permission, model: Option<&ModelName>) -> bool {
        match (self, permission) {
            (Self::Role(role), permission) => may(*role, permission),
            (Self::Builder(models), Permission::Fetch | Permission::Build) => {
                models.is_empty() || model.is_none_or(|model| models.contains(model))
            }
            (
                Self::Builder(_),
                Permission::Look | Permission::Operate | Permission::Approve | Permission::Administer,
            ) => false,
        }
    }
}

impl Grants {
    /// What a person may who logged in.
    pub fn of_person(memberships: &BTreeMap<ProjectName, Role>) -> Self {
        let fleet =
            (memberships.get(&ProjectName::default_project()) == Some(&Role::Admin)).then_some(Role::Admin);
        let each = memberships.iter().map(|(project, role)| (project.clone(), Grant::Role(*role)));
        Self(each.collect(), fleet)
    }

    /// What a token of such a person may: nothing that its owner may not, so that who loses a role loses it at once.
    pub fn of_token(memberships: &BTreeMap<ProjectName, Role>, scope: &TokenScope) -> Self {
        let owner = Self::of_person(memberships);
        let capped = |own: Role| match &scope.grant {
            Grant::Role(cap) => Some(Grant::Role(own.min(*cap))),
            // A builder publishes: its owner must be allowed to.
            Grant::Builder(models) => may(own, Permission::Build).then(|| Grant::Builder(models.clone())),
        };
        if let Some(project) = &scope.project {
            let grant = owner.role(project).and_then(capped);
            return Self(grant.into_iter().map(|grant| (project.clone(), grant)).collect(), None);
        }
        let fleet = match (&scope.grant, owner.1) {
            (Grant::Role(cap), Some(own)) => Some(own.min(*cap)),
            (Grant::Role(_) | Grant::Builder(_), _) => None,
        };
        let each = memberships.iter().filter_map(|(project, role)| Some((project.clone(), capped(*role)?)));
        Self(each.collect(), fleet)
    }

    pub fn may(&self, permission: Permission, project: &ProjectName, model: Option<&ModelName>) -> bool {
        self.1.is_some_and(|role| may(role, permission))
            || self.0.get(project).is_some_and(|grant| grant.may(permission, model))
    }

    /// Whether there is a project in which this is allowed.
    pub fn may_somewhere(&self, permission: Permission) -> bool {
        self.1.is_some_and(|role| may(role, permission))
            || self.0.values().any(|grant| grant.may(permission, None))
    }

    /// Whether this is allowed wherever it is asked for.
    pub fn may_everywhere(&self, permission: Permission) -> bool {
        self.1.is_some_and(|role| may(role, permission))
    }

    /// Whether anything of the project is theirs to see: if not, it does not exist for them.
    pub fn reaches(&self, project: &ProjectName, model: Option<&ModelName>) -> bool {
        self.may(Permission::Look, project, model) || self.may(Permission::Fetch, project, model)
    }

    /// The role there, if it is one.
    pub fn role(&self, project: &ProjectName) -> Option<Role> {
        let own = match self.0.get(project) {
            Some(Grant::Role(role)) => Some(*role),
            Some(Grant::Builder(_)) | None => None,
        };
        own.max(self.1)
    }

    pub fn each(&self) -> impl Iterator<Item = (&ProjectName, &Grant)> {
        self.0.iter()
    }
}

/// When a session ends if it is not used again: never later than [`SESSION_LIFE`] after it began.
pub fn session_ends(made: Timestamp, seen: Timestamp) -> Timestamp {
    seen.plus(SESSION_IDLE).min(made.plus(SESSION_LIFE))
}

/// Whether a session is still good. A clock that was set back makes none last longer than it would have from its start.
pub fn session_lives(made: Timestamp, seen: Timestamp, now: Timestamp) -> bool {
    made <= now.plus(SESSION_IDLE) && now < session_ends(made, seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: &str) -> ProjectName {
        name.parse().unwrap()
    }

    fn members(of: &[(&str, Role)]) -> BTreeMap<ProjectName, Role> {
        of.iter().map(|(name, role)| (project(name), *role)).collect()
    }

    #[test]
    fn each_role_may_what_those_before_it_may_and_more() {
        use Permission::{Administer, Approve, Build, Fetch, Look, Operate};
        let check = |role: Role, allowed: &[Permission]| {
            for permission in [Look, Fetch, Build, Operate, Approve, Administer] {
                assert_eq!(may(role, permission), allowed.contains(&permission), "{role:?} {permission:?}");
            }
        };
        check(Role::Viewer, &[Look, Fetch]);
        check(Role::Operator, &[Look, Fetch, Build, Operate]);
        check(Role::Approver, &[Look, Fetch, Build, Operate, Approve]);
        check(Role::Admin, &[Look, Fetch, Build, Operate, Approve, Administer]);
    }

    #[test]
    fn a_token_may_no_more_than_its_owner() {
        let owner = members(&[("er", Role::Operator), ("icu", Role::Viewer)]);
        let of = |project: Option<&str>, grant: Grant| {
            Grants::of_token(
                &owner,
                &TokenScope { project: project.map(|name| name.parse().unwrap()), grant },
            )
        };
        let wide = of(None, Grant::Role(Role::Admin));
        assert!(wide.may(Permission::Operate, &project("er"), None));
        assert!(!wide.may(Permission::Administer, &project("er"), None));
        assert!(!wide.may(Permission::Operate, &project("icu"), None));
        let narrow = of(Some("er"), Grant::Role(Role::Viewer));
        assert!(narrow.may(Permission::Look, &project("er"), None));
        assert!(!narrow.may(Permission::Operate, &project("er"), None));
        assert!(!narrow.reaches(&project("icu"), None));
        let foreign = of(Some("lab"), Grant::Role(Role::Admin));
        assert!(!foreign.reaches(&project("lab"), None) && !foreign.may_somewhere(Permission::Look));
    }

    #[test]
    fn tokens_make_no_token_that_may_more() {
        let scope = |project: Option<&str>, grant: Grant| TokenScope {
            project: project.map(|name| name.parse().unwrap()),
            grant,
        };
        let role = |project: Option<&str>, role: Role| scope(project, Grant::Role(role));
        let builder = |project: Option<&str>| scope(project, Grant::Builder(BTreeSet::new()));
        for (made_by, made, good) in [
            (role(None, Role::Admin), role(Some("er"), Role::Admin), true),
            (role(None, Role::Operator), role(None, Role::Approver), false),
            (role(Some("er"), Role::Admin), role(Some("er"), Role::Viewer), true),
            (role(Some("er"), Role::Admin), role(Some("icu"), Role::Viewer), false),
            (role(Some("er"), Role::Admin), role(None, Role::Viewer), false),
            (role(Some("er"), Role::Operator), builder(Some("er")), true),
            (role(Some("er"), Role::Viewer), builder(Some("er")), false),
            (builder(Some("er")), builder(Some("er")), false),
        ] {
            assert_eq!(made_by.covers(&made), good, "{made_by:?} {made:?}");
        }
    }

    #[test]
    fn a_builder_builds_its_models_and_nothing_else() {
        let (beds, other): (ModelName, ModelName) = ("er-beds".parse().unwrap(), "sepsis".parse().unwrap());
        let owner = members(&[("er", Role::Operator), ("icu", Role::Viewer)]);
        let scope = |project: &str| TokenScope {
            project: Some(project.parse().unwrap()),
            grant: Grant::Builder([beds.clone()].into()),
        };
        let builder = Grants::of_token(&owner, &scope("er"));
        assert!(builder.may(Permission::Build, &project("er"), Some(&beds)));
        assert!(!builder.may(Permission::Build, &project("er"), Some(&other)));
        assert!(!builder.may(Permission::Look, &project("er"), Some(&beds)));
        assert!(!builder.may(Permission::Operate, &project("er"), Some(&beds)));
        assert_eq!(Grants::of_token(&owner, &scope("icu")), Grants::default(), "a viewer publishes nothing");
    }

    #[test]
    fn administrators_of_default_are_those_of_the_fleet() {
        let all = Grants::of_person(&members(&[("default", Role::Admin)]));
        assert!(all.may(Permission::Administer, &project("er"), None));
        let one = Grants::of_person(&members(&[("er", Role::Admin)]));
        assert!(!one.may(Permission::Look, &ProjectName::default_project(), None));
        let member = Grants::of_person(&members(&[("default", Role::Approver)]));
        assert!(!member.reaches(&project("er"), None));
        let scope = TokenScope { project: Some(project("er")), grant: Grant::Role(Role::Admin) };
        let narrow = Grants::of_token(&members(&[("default", Role::Admin)]), &scope);
        assert!(narrow.may(Permission::Administer, &project("er"), None));
        assert!(!narrow.reaches(&ProjectName::default_project(), None));
    }

    #[test]
    fn sessions_end_when_unused_and_at_last() {
        let at = |minutes: i64| Timestamp::from_seconds(1_800_000_000 + minutes * 60);
        let check = |seen: i64, now: i64, alive: bool| {
            assert_eq!(session_lives(at(0), at(seen), at(now)), alive, "seen at {seen}, now {now}");
        };
        check(0, 0, true);
        check(0, 29, true);
        check(0, 30, false);
        check(25, 54, true);
        check(719, 719, true);
        check(719, 720, false);
        check(0, -10, true);
        check(0, -31, false);
    }

    #[test]
    fn names() {
        for (name, good) in [("er-1", true), ("", false), ("Er", false), ("1er", false), ("a/b", false)] {
            assert_eq!(name.parse::<ProjectName>().is_ok(), good, "{name}");
        }
        for (name, good) in [("ada", true), ("ada@lab.example", true), ("a b", false), ("-a", false)] {
            assert_eq!(name.parse::<PersonName>().is_ok(), good, "{name}");
        }
        assert!("x".repeat(65).parse::<PersonName>().is_err());
    }
}
