//! Whose things somebody may have to do with: what lists show, what a deed over many boxes reaches, what is mailed to whom.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_protocol::ids::{DatasetName, ModelName, SiteName};

use crate::identity::{Grants, Permission, ProjectName, Role};
use crate::needs::Owner;
use crate::store::projects::{Of, Owned};

/// As far as the request's rule goes: what it may look at for a look, what it may change for a change.
#[derive(Clone, Debug)]
pub(crate) enum Sight {
    All,
    Some(Arc<Part>),
}

#[derive(Debug)]
pub(crate) struct Part {
    grants: Grants,
    owned: Owned,
    need: Permission,
}

impl Sight {
    pub(crate) fn of(grants: &Grants, owned: Owned, need: Permission) -> Self {
        if grants.may_everywhere(need) {
            return Self::All;
        }
        Self::Some(Arc::new(Part { grants: grants.clone(), owned, need }))
    }

    /// What the viewers of a project see.
    pub(crate) fn of_viewers(project: &ProjectName, owned: Owned) -> Self {
        let grants = Grants::of_person(&BTreeMap::from([(project.clone(), Role::Viewer)]));
        Self::of(&grants, owned, Permission::Look)
    }

    pub(crate) fn owner(&self, owner: &Owner) -> bool {
        match owner {
            Owner::Site(site) => self.site(site),
            Owner::Model(model) => self.model(model),
            Owner::Fleet => self.fleet(),
        }
    }

    pub(crate) fn site(&self, site: &SiteName) -> bool {
        match self {
            Self::All => true,
            Self::Some(part) => part.may(&part.owned.project(&Of::Site(site.clone())), None),
        }
    }

    pub(crate) fn model(&self, model: &ModelName) -> bool {
        match self {
            Self::All => true,
            Self::Some(part) => part.may(&part.owned.project(&Of::Model(model.clone())), Some(model)),
        }
    }

    pub(crate) fn dataset(&self, name: &DatasetName) -> bool {
        match self {
            Self::All => true,
            Self::Some(part) => part.may(&part.owned.project(&Of::Dataset(name.clone())), None),
        }
    }

    /// What concerns no project in particular.
    pub(crate) fn fleet(&self) -> bool {
        self.project(&ProjectName::default_project())
    }

    pub(crate) fn project(&self, project: &ProjectName) -> bool {
        match self {
            Self::All => true,
            Self::Some(part) => part.may(project, None),
        }
    }
}

impl Part {
    fn may(&self, project: &ProjectName, model: Option<&ModelName>) -> bool {
        self.grants.may(self.need, project, model)
    }
}
