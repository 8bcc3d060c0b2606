//! Keeps the names that the fleet itself gives: champion and challenger follow what rollouts and the catalogue say.
//!
//! It looks when the log says something that may move a name, and once when the server starts; so a server that was killed
//! between a rollout's end and the name's move makes the move when it comes back.

use muster_protocol::ids::{AliasName, ModelName};

use super::{TaskError, Tasks};
use crate::registry::{CHALLENGER, CHAMPION, Named, challenger, champion};
use crate::rollout::Rollout;
use crate::store::aliases::{self, Alias};
use crate::store::log::{self, Actor, NewEntry};
use crate::store::{Control, ControlTx, LIMIT_MAX, Page, Saved, bundles, rollouts};

/// Versions and rollouts of a model that a name may point to: the newest.
const HISTORY: u32 = 200;
/// Log entries read at once. If there are more, everything is looked at.
const NEWS: u32 = 500;

/// What was looked at already.
#[derive(Debug, Default)]
pub struct Keeper {
    seen: Option<i64>,
}

impl Keeper {
    /// Looks at every model, if anything happened that may move a name.
    pub async fn look(&mut self, tasks: &Tasks) -> Result<(), TaskError> {
        let mut db = tasks.store.read().await?;
        let last = log::last(&mut db).await?;
        if let Some(seen) = self.seen
            && !may_move(&mut db, seen).await?
        {
            self.seen = Some(last);
            return Ok(());
        }
        let models = bundles::models(&mut db, &Page::first(LIMIT_MAX)).await?;
        drop(db);
        for model in models {
            keep(tasks, &model.name).await?;
        }
        self.seen = Some(last);
        Ok(())
    }
}

async fn may_move(db: &mut Control, seen: i64) -> Result<bool, TaskError> {
    let news = log::after(db, None, &Page::after(seen, NEWS)).await?;
    let moves = |kind: &str| {
        kind.starts_with("bundle.") || (kind.starts_with("rollout.") && kind != "rollout.handed_out")
    };
    Ok(news.len() == NEWS as usize || news.iter().any(|entry| moves(&entry.kind)))
}

/// What both names of a model should be, and what they are.
struct Wish {
    name: AliasName,
    is: Option<Alias>,
    wanted: Option<Named>,
}

impl Wish {
    fn is_met(&self) -> bool {
        self.is.as_ref().map(|alias| &alias.bundle) == self.wanted.as_ref().map(|named| &named.bundle)
    }
}

async fn keep(tasks: &Tasks, model: &ModelName) -> Result<(), TaskError> {
    // Most looks find nothing to do, and need no turn among the writers.
    if wishes(&mut tasks.store.read().await?, model).await?.iter().all(Wish::is_met) {
        return Ok(());
    }
    let mut tx = tasks.store.write().await?;
    for wish in wishes(&mut tx, model).await? {
        if !wish.is_met() {
            meet(tasks, &mut tx, model, wish).await?;
        }
    }
    Ok(tx.commit().await?)
}

async fn wishes(db: &mut Control, model: &ModelName) -> Result<Vec<Wish>, TaskError> {
    let versions = bundles::standing(db, model, HISTORY).await?;
    let versions: Vec<_> = versions.into_iter().map(|known| known.candidate).collect();
    let rollouts = rollouts::list::<Rollout>(db, Some(model), None, &Page::first(HISTORY)).await?;
    let rollouts: Vec<Rollout> = rollouts.into_iter().map(|loaded| loaded.document).collect();
    let mut wishes = Vec::new();
    let Ok(name) = CHAMPION.parse::<AliasName>() else { return Ok(wishes) };
    let is = aliases::get(db, model, &name).await?;
    let won = champion(&versions, &rollouts, is.as_ref().map(|alias| &alias.bundle));
    let beaten = won.as_ref().map(|named| named.bundle);
    wishes.push(Wish { name, is, wanted: won });
    let Ok(name) = CHALLENGER.parse::<AliasName>() else { return Ok(wishes) };
    let is = aliases::get(db, model, &name).await?;
    let wanted = challenger(&versions, &rollouts, beaten.as_ref());
    wishes.push(Wish { name, is, wanted });
    Ok(wishes)
}

async fn meet(tasks: &Tasks, tx: &mut ControlTx, model: &ModelName, wish: Wish) -> Result<(), TaskError> {
    let moment = tasks.clocks.moment();
    let Wish { name, is, wanted } = wish;
    let sentence = match wanted {
        None => {
            aliases::remove(tx, model, &name).await?;
            format!("{model} has no {name} any more")
        }
        Some(Named { bundle, why }) => {
            let version = bundles::get(tx, &bundle).await?;
            let version =
                version.map_or_else(|| bundle.short().clone(), |bundle| bundle.path.version().to_string());
            let sentence = format!("{name} of {model} is {version} now: {why}");
            let revision = is.map_or(0, |alias| alias.revision);
            let alias = Alias { name, revision, bundle, at: moment.at, actor: Actor::Fleet, reason: why };
            match aliases::save(tx, model, &alias).await? {
                Saved::Saved { .. } => sentence,
                // We are the only writer now, and read it in this transaction.
                Saved::Stale => return Ok(()),
            }
        }
    };
    let entry = NewEntry {
        when: moment,
        kind: "alias.moved",
        subject: model.to_string(),
        sentence: sentence.into(),
        actor: Actor::Fleet,
    };
    log::append(tx, &entry).await?;
    Ok(())
}
