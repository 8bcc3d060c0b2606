//! What one list of people was told, and what it is to be told when.
//!
//! ```text
//!             seen ──group──▶ told ──remind──▶ told again ─ … ─▶ gone ──settle──▶ over: a line in the next letter
//!              │                                  ▲                │
//!              └ gone before: said to nobody      └── back soon ───┘
//! ```
//! In quiet hours only what is urgent is told; what was held back and still stands is one letter after them. A letter is a
//! draft until its end is known: what surely nobody got is taken back and written anew from what stands then, and what
//! somebody may have got stays as it is, word for word, until it is delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::letter::{self, Place, Rest, Said};
use super::{Kind, Need, Needs, Urgency};
use crate::rollout::calendar::{Hours, Zone};

/// What goes and comes back within so long was never away: a box that starts again, a server that did.
const SETTLE_MIN: Duration = Duration::from_mins(2);
/// That something is over is no news after so long.
const OVER_KEPT: Duration = Duration::from_hours(7 * 24);
/// Things that are kept in mind; beyond that, only what stands.
const ITEMS_MAX: usize = 10_000;
/// After a failure, at first and at most; doubled in between.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(15));
/// Those who have not taken a letter by then that others have are left out: they must not hold up the next.
const GIVE_UP: Duration = Duration::from_hours(1);
/// People that a relay refused are shown by the newest.
const REFUSED_KEPT: usize = 16;
const WHY_CHARS_MAX: usize = 300;

#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// What comes within so long is one letter.
    pub group: Duration,
    /// What still stands is said again after so long.
    pub remind: Duration,
    pub quiet: Hours,
    pub zone: Zone,
}

/// Of one list of people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Book {
    /// By the need's key.
    items: BTreeMap<String, Item>,
    /// How many came and went in quiet hours, since the last letter.
    passed: u64,
    /// Of the newest letter.
    number: u64,
    draft: Option<Draft>,
    /// When one was last taken.
    sent: Option<Timestamp>,
    trouble: Option<Trouble>,
    /// The newest last.
    refused: Vec<Refused>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    kind: Kind,
    title: String,
    urgency: Urgency,
    seen: Timestamp,
    told: Option<Timestamp>,
    gone: Option<Timestamp>,
}

/// A letter that is on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// No two letters of one list have the same.
    pub number: u64,
    pub at: Timestamp,
    urgency: Urgency,
    pub subject: String,
    pub body: String,
    /// Who has not answered for it yet.
    pub left: Vec<String>,
    /// How many have taken it.
    taken: u64,
    /// Who would not.
    refused: Vec<Refused>,
    /// What it tells, and when that was told before.
    said: Vec<(String, Option<Timestamp>)>,
    /// What it says is over.
    over: Vec<(String, Item)>,
    passed: u64,
    /// Attempts of which nobody knows how they ended: whoever was sent it may have it.
    unknown: u32,
}

/// The relay takes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub since: Timestamp,
    pub tries: u32,
    pub retry: Timestamp,
    pub why: String,
}

/// Somebody whom the relay will not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub to: String,
    pub at: Timestamp,
    pub why: String,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The relay spoke for each of them.
    Answered(Vec<Answer>),
    /// It did not come to that, and nobody has it.
    Failed { why: String },
    /// It broke off when everything was said: somebody may have it.
    Unknown { why: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub to: String,
    pub fate: Fate,
    pub said: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Taken,
    /// For good.
    Refused,
    /// Not now.
    Later,
}

/// What became of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Delivered {
        subject: String,
        taken: u64,
        refused: Vec<Refused>,
    },
    /// It is tried again.
    Waits,
}

/// How it stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Told, and not over.
    pub standing: usize,
    /// Not told yet.
    pub waiting: usize,
    /// When the next letter is due, if nothing changes.
    pub next: Option<Timestamp>,
    pub quiet_until: Option<Timestamp>,
}

impl Rules {
    pub fn quiet_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.quiet.keeps_until(&self.zone, now)
    }

    fn settle(&self) -> Duration {
        self.group.max(SETTLE_MIN)
    }
}

impl Item {
    fn new(need: &Need, now: Timestamp) -> Self {
        let Need { kind, title, urgency, .. } = need;
        Self { kind: *kind, title: title.clone(), urgency: *urgency, seen: now, told: None, gone: None }
    }

    fn is_over(&self, rules: &Rules, now: Timestamp) -> bool {
        self.gone.is_some_and(|gone| gone.plus(rules.settle()) <= now)
    }

    /// When it is to be told, quiet hours aside.
    fn due(&self, rules: &Rules) -> Timestamp {
        match self.told {
            None => self.seen.plus(rules.group),
            Some(told) => told.plus(rules.remind),
        }
    }
}

impl Book {
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    pub fn sent(&self) -> Option<Timestamp> {
        self.sent
    }

    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Takes in what needs a person now.
    pub fn look(&mut self, needs: &Needs, rules: &Rules, now: Timestamp) {
        let mut standing = BTreeSet::new();
        for need in &needs.list {
            let key = need.key();
            let item = self.items.entry(key.clone()).or_insert_with(|| Item::new(need, now));
            // Back after it was over, or more pressing than it was: news.
            if item.is_over(rules, now) || need.urgency > item.urgency {
                *item = Item::new(need, now);
            }
            item.title.clone_from(&need.title);
            item.urgency = need.urgency;
            item.gone = None;
            standing.insert(key);
        }
        for (key, item) in &mut self.items {
            if !standing.contains(key) && !needs.cut.contains(&item.kind) {
                item.gone.get_or_insert(now);
            }
        }
        let mut passed = 0;
        self.items.retain(|_, item| match (item.told, item.gone) {
            (None, Some(gone)) if item.is_over(rules, now) => {
                let held_back = item.seen.plus(rules.group) <= gone && rules.quiet_until(gone).is_some();
                passed += u64::from(held_back);
                false
            }
            (Some(_), Some(gone)) => gone.plus(OVER_KEPT) > now,
            (None | Some(_), _) => true,
        });
        if self.items.len() > ITEMS_MAX {
            self.items.retain(|key, _| standing.contains(key));
        }
        self.passed = self.passed.saturating_add(passed);
    }

    /// Writes a letter, if one is due and none is on its way.
    pub fn write(&mut self, needs: &Needs, to: &[String], rules: &Rules, place: &Place, now: Timestamp) {
        if self.draft.is_some() {
            return;
        }
        let quiet = rules.quiet_until(now);
        let may = |item: &Item| item.gone.is_none() && (quiet.is_none() || item.urgency == Urgency::Urgent);
        let is_due = |item: &Item| may(item) && item.due(rules) <= now;
        if !self.items.values().any(is_due) {
            // What could not be delivered is over: whether the relay is back is nobody's concern.
            self.trouble = None;
            return;
        }
        if self.trouble.as_ref().is_some_and(|trouble| trouble.retry > now) {
            return;
        }
        // Whatever was told a while ago is said again together: one letter a day, not one for each thing.
        let reminds = self.items.values().any(|item| item.told.is_some() && is_due(item));
        let is_said = |item: &Item| {
            may(item) && item.told.is_none_or(|told| reminds && told.plus(rules.remind / 2) <= now)
        };
        let mut said: Vec<Said<'_>> = Vec::new();
        for need in &needs.list {
            if let Some(item) = self.items.get(&need.key()).filter(|item| is_said(item)) {
                said.push(Said { need, again: item.told.is_some() });
            }
        }
        // What is due stands beyond what is listed.
        if said.is_empty() {
            return;
        }
        said.sort_by_key(|said| (std::cmp::Reverse(said.need.urgency), said.need.kind));
        let keys: BTreeSet<String> = said.iter().map(|said| said.need.key()).collect();
        let over: Vec<(String, Item)> = self
            .items
            .iter()
            .filter(|(_, item)| item.is_over(rules, now))
            .map(|(k, i)| (k.clone(), i.clone()))
            .collect();
        let told_before = |(key, item): &(&String, &Item)| {
            item.gone.is_none() && item.told.is_some() && !keys.contains(*key)
        };
        let held = |item: &&Item| item.gone.is_none() && item.told.is_none() && !may(item);
        let rest = Rest {
            over: over.iter().filter_map(|(_, item)| Some((item.title.as_str(), item.told?))).collect(),
            standing: self.items.iter().filter(told_before).count(),
            held: quiet.map(|until| (self.items.values().filter(held).count(), until)),
            passed: self.passed,
            cut: &needs.cut,
        };
        let urgency = said.first().map_or(Urgency::Usual, |said| said.need.urgency);
        let (subject, body) = letter::write(&said, &rest, place, now);
        self.number = self.number.saturating_add(1);
        let tell = |key: String| {
            let before = self.items.get_mut(&key).and_then(|item| item.told.replace(now));
            (key, before)
        };
        let said = keys.into_iter().map(tell).collect();
        for (key, _) in &over {
            self.items.remove(key);
        }
        self.draft = Some(Draft {
            number: self.number,
            at: now,
            urgency,
            subject,
            body,
            left: to.to_vec(),
            taken: 0,
            refused: Vec::new(),
            said,
            over,
            passed: std::mem::take(&mut self.passed),
            unknown: 0,
        });
    }

    /// The letter to be sent now, if there is one. From here on somebody may have it, until [`Self::ended`] says otherwise.
    pub fn begin(&mut self, to: &[String], rules: &Rules, now: Timestamp) -> Option<Draft> {
        let waits = self.trouble.as_ref().is_some_and(|trouble| trouble.retry > now);
        // Who was taken off the list meanwhile gets nothing.
        self.draft.as_mut()?.left.retain(|left| to.contains(left));
        if let Some(draft) = self.draft.take_if(|draft| draft.left.is_empty()) {
            if draft.taken == 0 {
                self.take_back(draft);
            }
            return None;
        }
        // Something urgent comes after it: then it must be out of the way.
        let presses = self.is_pressed();
        let draft = self.draft.as_mut()?;
        if waits || (draft.urgency == Urgency::Usual && rules.quiet_until(now).is_some() && !presses) {
            return None;
        }
        draft.unknown = draft.unknown.saturating_add(1);
        Some(draft.clone())
    }

    /// How the attempt that [`Self::begin`] began has ended.
    pub fn ended(&mut self, attempt: Attempt, now: Timestamp) -> Ended {
        let Some(mut draft) = self.draft.take() else { return Ended::Waits };
        if !matches!(attempt, Attempt::Unknown { .. }) {
            draft.unknown = draft.unknown.saturating_sub(1);
        }
        let why = match attempt {
            Attempt::Answered(answers) => draft.answered(answers, now),
            Attempt::Failed { why } | Attempt::Unknown { why } => why,
        };
        if draft.taken > 0 && (draft.at.plus(GIVE_UP) <= now || self.is_pressed()) {
            let given_up = std::mem::take(&mut draft.left);
            draft.refused.extend(given_up.into_iter().map(|to| Refused::new(to, &why, now)));
        }
        if draft.left.is_empty() && draft.taken > 0 {
            self.sent = Some(now);
            self.trouble = None;
            self.refused.extend(draft.refused.iter().cloned());
            self.refused.drain(..self.refused.len().saturating_sub(REFUSED_KEPT));
            return Ended::Delivered { subject: draft.subject, taken: draft.taken, refused: draft.refused };
        }
        let (since, tries) = self.trouble.as_ref().map_or((now, 0), |trouble| (trouble.since, trouble.tries));
        let pause = BACK_OFF.0.saturating_mul(1 << tries.min(10)).min(BACK_OFF.1);
        let tries = tries.saturating_add(1);
        self.trouble = Some(Trouble { since, tries, retry: now.plus(pause), why: short(&why) });
        // Refused by everybody, it is as good as never written: what it told must be told.
        let nobody_has_it = draft.taken == 0 && (draft.unknown == 0 || draft.left.is_empty());
        if nobody_has_it {
            self.take_back(draft);
        } else {
            self.draft = Some(draft);
        }
        Ended::Waits
    }

    /// Whether something urgent was not told yet.
    fn is_pressed(&self) -> bool {
        let presses =
            |item: &Item| item.told.is_none() && item.gone.is_none() && item.urgency == Urgency::Urgent;
        self.items.values().any(presses)
    }

    fn take_back(&mut self, draft: Draft) {
        for (key, before) in draft.said {
            if let Some(item) = self.items.get_mut(&key) {
                item.told = before;
            }
        }
        for (key, item) in draft.over {
            self.items.entry(key).or_insert(item);
        }
        self.passed = self.passed.saturating_add(draft.passed);
    }

    pub fn outlook(&self, rules: &Rules, now: Timestamp) -> Outlook {
        let quiet_until = rules.quiet_until(now);
        let standing = || self.items.values().filter(|item| item.gone.is_none());
        let when = |item: &Item| {
            let due = item.due(rules).max(now);
            match (item.urgency, rules.quiet_until(due)) {
                (Urgency::Usual, Some(until)) => until,
                (Urgency::Usual | Urgency::Urgent, _) => due,
            }
        };
        let draft = self.draft.as_ref().map(|_| now);
        let next = standing().map(when).min();
        let next =
            draft.or(next).map(|next| self.trouble.as_ref().map_or(next, |trouble| next.max(trouble.retry)));
        Outlook {
            standing: standing().filter(|item| item.told.is_some()).count(),
            waiting: standing().filter(|item| item.told.is_none()).count(),
            next,
            quiet_until,
        }
    }
}

impl Draft {
    /// Why it is not delivered, as far as it is not.
    fn answered(&mut self, answers: Vec<Answer>, now: Timestamp) -> String {
        let mut why = String::new();
        for Answer { to, fate, said } in answers {
            match fate {
                Fate::Taken => self.taken = self.taken.saturating_add(1),
                Fate::Refused => self.refused.push(Refused::new(to.clone(), &said, now)),
                Fate::Later => {
                    why = said;
                    continue;
                }
            }
            self.left.retain(|left| *left != to);
        }
        match self.refused.last() {
            Some(refused) if why.is_empty() => refused.why.clone(),
            Some(_) | None => why,
        }
    }
}

impl Refused {
    fn new(to: String, why: &str, at: Timestamp) -> Self {
        Self { to, at, why: short(why) }
    }
}

/// A relay's words, as many as are kept.
fn short(why: &str) -> String {
    letter::plain(why, WHY_CHARS_MAX)
}

#[cfg(test)]
mod tests;
