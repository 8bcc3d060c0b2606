//! Tells people by mail what needs them: what the overview lists, grouped, not at night, once.
//!
//! ```text
//!   lookout ─▶ what stands ─▶ each list's book decides ─▶ a letter, saved ─▶ the relay ─▶ what it said, saved
//! ```
//! Everything that was told stands in the database before anybody may have it, so that a server that was killed neither
//! forgets nor tells anew: at most it sends its last letter once more, word for word, under the same `Message-ID`.

use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;
use muster_protocol::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::config::{MailConfig, MailList};
use crate::fleet::Fleet;
use crate::lookout;
use crate::mint::{self, MintError};
use crate::needs::book::{Attempt, Book, Draft, Ended, Rules};
use crate::needs::letter::Place;
use crate::needs::{Kind, Needs};
use crate::sight::Sight;
use crate::smtp::{Letter, Relay};
use crate::store::log::{self, Actor, NewEntry};
use crate::store::{StoreError, mail, meta, projects};

/// How often somebody looks: seldom, for on a large fleet it costs, and a letter waits for its group anyway.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Things of a kind that are looked at, and that one list is told of.
const LOOKED_AT: usize = 2000;
const TOLD: usize = 500;
/// How long a relay may take up to a letter's text, and then for the text.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a letter that is being sent may go on once we stop.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("what needs people cannot be read, or what was told them not be written")]
    Store(#[from] StoreError),
    #[error("letters cannot be told apart")]
    Mint(#[from] MintError),
}

/// Owned by the one task that mails.
#[derive(Debug)]
pub struct Mailer {
    config: MailConfig,
    rules: Rules,
    relay: Arc<Relay>,
    fleet: Arc<Fleet>,
}

impl Mailer {
    pub fn new(config: MailConfig, relay: Arc<Relay>, fleet: Arc<Fleet>) -> Self {
        let rules = config.rules();
        Self { config, rules, relay, fleet }
    }

    pub async fn run(self, stop: CancellationToken) {
        let every = (self.rules.group / 10).clamp(LOOK.0, LOOK.1);
        let stopped = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        let mut stopped = std::pin::pin!(stopped);
        let mut failing = false;
        loop {
            let looked = tokio::select! {
                biased;
                looked = self.look(self.fleet.clocks.trust.now()) => looked,
                () = &mut stopped => return,
            };
            if let Err(error) = &looked
                && !failing
            {
                tracing::error!(error = error as &dyn std::error::Error, "nobody can be told by mail");
            }
            failing = looked.is_err();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    /// Looks once, and sends what is due.
    pub async fn look(&self, now: Timestamp) -> Result<(), MailError> {
        let mut db = self.fleet.store.read().await?;
        let owned = projects::owned(&mut db).await?;
        let all = lookout::needs(&mut db, self.fleet.clocks.world, &Sight::All, LOOKED_AT, now).await?;
        drop(db);
        for list in self.config.lists() {
            let sight = match list.project {
                None => Sight::All,
                Some(project) => Sight::of_viewers(project, owned.clone()),
            };
            // That they get no mail is not mailed to them.
            let own = |kind: Kind, id: &str| kind == Kind::MailUndelivered && id == list.name();
            let theirs = all.of(|need| sight.owner(&need.owner) && !own(need.kind, &need.id), TOLD);
            self.tell(list, &theirs, now).await?;
        }
        Ok(())
    }

    async fn tell(&self, list: MailList<'_>, needs: &Needs, now: Timestamp) -> Result<(), MailError> {
        let mut db = self.fleet.store.read().await?;
        let before = mail::get::<Book>(&mut db, list.name()).await?.unwrap_or_default();
        drop(db);
        let mut book = before.clone();
        book.look(needs, &self.rules, now);
        let to: Vec<String> = list.to.iter().map(|mailbox| mailbox.email.to_string()).collect();
        book.write(needs, &to, &self.rules, &self.place(list), now);
        let draft = book.begin(&to, &self.rules, now);
        if before.trouble().is_some() && book.trouble().is_none() {
            tracing::info!(mail.list = list.name(), "nothing waits to be mailed any more");
        }
        if book != before {
            let mut tx = self.fleet.store.write().await?;
            mail::save(&mut tx, list.name(), &book).await?;
            tx.commit().await?;
        }
        let Some(draft) = draft else { return Ok(()) };
        // Not even a power cut may take back that it was begun: another letter would go out under its id.
        self.fleet.store.persist().await?;
        let attempt = self.send(list, &draft).await?;
        let was_away = book.trouble().cloned();
        let ended = book.ended(attempt, now);
        told(list, was_away.is_some(), &book, &ended);
        let mut tx = self.fleet.store.write().await?;
        mail::save(&mut tx, list.name(), &book).await?;
        if let Ended::Delivered { subject, taken, .. } = ended {
            let when = self.fleet.clocks.moment();
            let sentence = format!("mailed to {taken} of {}: {subject}", list.to.len());
            let subject = list.name().to_owned();
            let entry =
                NewEntry { when, kind: "mail.sent", subject, sentence: sentence.into(), actor: Actor::Fleet };
            log::append(&mut tx, &entry).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn send(&self, list: MailList<'_>, draft: &Draft) -> Result<Attempt, MailError> {
        let letter = Letter {
            id: format!("muster.{}.{}", self.mark(list).await?, draft.number),
            at: draft.at,
            subject: &draft.subject,
            body: &draft.body,
            to: list.to,
        };
        let left: Vec<Mailbox> =
            list.to.iter().filter(|to| draft.left.contains(&to.email.to_string())).cloned().collect();
        Ok(match self.relay.send(&letter, &left, PATIENCE).await {
            Ok(answers) => Attempt::Answered(answers),
            Err(error) if error.is_unknown() => Attempt::Unknown { why: error.to_string() },
            Err(error) => Attempt::Failed { why: error.to_string() },
        })
    }

    fn place(&self, list: MailList<'_>) -> Place {
        Place {
            dashboard: self.fleet.dashboard().to_owned(),
            zone: self.config.zone.clone(),
            project: list.project.map(ToString::to_string),
        }
    }

    /// Tells the letters of this fleet and list from those of others.
    async fn mark(&self, list: MailList<'_>) -> Result<String, MailError> {
        let of = list.project.map_or_else(String::new, |project| format!(".p-{project}"));
        let mut db = self.fleet.store.read().await?;
        if let Some(mark) = meta::get(&mut db, meta::MAIL_MARK).await? {
            return Ok(mark + &of);
        }
        drop(db);
        let mark = hex::encode(&mint::random()?[..8]);
        let mut tx = self.fleet.store.write().await?;
        meta::set(&mut tx, meta::MAIL_MARK, &mark).await?;
        tx.commit().await?;
        Ok(mark + &of)
    }
}

/// Says in our own log when it begins and when it ends that mail is not delivered, not each time in between.
fn told(list: MailList<'_>, was_away: bool, book: &Book, ended: &Ended) {
    let list = list.name();
    match (ended, book.trouble()) {
        (Ended::Delivered { refused, .. }, _) => {
            if was_away {
                tracing::info!(mail.list = list, "mail is delivered again");
            }
            for refused in refused {
                tracing::error!(
                    mail.list = list,
                    to = refused.to,
                    why = refused.why,
                    "somebody gets no mail"
                );
            }
        }
        (Ended::Waits, Some(trouble)) if !was_away => {
            tracing::warn!(mail.list = list, why = trouble.why, "mail waits");
        }
        (Ended::Waits, _) => {}
    }
}

/// Forgets what lists were told that nobody is on any more: what was not delivered to them is nobody's concern.
pub async fn forget_others(fleet: &Fleet) -> Result<(), MailError> {
    let lists = fleet.config.mail.iter().flat_map(MailConfig::lists);
    let names: Vec<&str> = lists.map(|list| list.name()).collect();
    let mut tx = fleet.store.write().await?;
    for (list, _) in mail::all::<serde::de::IgnoredAny>(&mut tx).await? {
        if !names.contains(&list.as_str()) {
            mail::remove(&mut tx, &list).await?;
        }
    }
    Ok(tx.commit().await?)
}
