//! Lists: a limit always, and an opaque cursor to the rest.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster_protocol::ids::{CohortName, DatasetName, DeviceId, LeaseId, ModelName, SiteName};
use muster_protocol::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::{Answer, Code, Problem};
use crate::identity::{PersonName, ProjectName};
use crate::store::devices::DeviceKey;
use crate::store::{NewestFirst, Page};

pub(crate) const LIMIT_MAX: u32 = 500;
const LIMIT_DEFAULT: u32 = 100;
const CURSOR_CHARS_MAX: usize = 1024;
/// Pages read for one: of a hundred thousand things, those of one project.
const ROUNDS_MAX: usize = 200;

/// Which part of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// Items at most, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 100)]
    pub(crate) limit: Option<u32>,
    /// `next` of the page before.
    pub(crate) cursor: Option<String>,
}

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
    /// Cursor of the rest; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// What a cursor holds. It is written and read only here; clients hand it back as it is.
pub(crate) trait Key: Sized {
    type Text: Serialize + DeserializeOwned;
    fn write(&self) -> Self::Text;
    fn read(text: Self::Text) -> Option<Self>;
}

impl Paging {
    pub(crate) fn limit(&self) -> Answer<u32> {
        match self.limit.unwrap_or(LIMIT_DEFAULT) {
            limit @ 1..=LIMIT_MAX => Ok(limit),
            limit => Err(Problem::new(Code::BadQuery, format!("limit is 1 to {LIMIT_MAX}, not {limit}"))),
        }
    }

    /// One more than is shown, so that a last page knows that it is the last.
    pub(crate) fn page<K: Key>(&self) -> Answer<Page<K>> {
        let limit = self.limit()? + 1;
        Ok(Page { after: self.key()?, limit })
    }

    /// As [`Self::page`] and [`Self::cut`], for lists of which not everything is the caller's to see.
    pub(crate) fn filling<T, K: Key>(&self) -> Answer<Filling<T, K>> {
        Ok(Filling { page: Some(self.page()?), limit: self.limit()? as usize, found: Vec::new(), rounds: 0 })
    }

    pub(crate) fn key<K: Key>(&self) -> Answer<Option<K>> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let wrong = || Problem::new(Code::BadQuery, "the cursor is none that this list gave out");
        if cursor.len() > CURSOR_CHARS_MAX {
            return Err(wrong());
        }
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| wrong())?;
        let text = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        K::read(text).map(Some).ok_or_else(wrong)
    }

    /// Cuts what was read by [`Self::page`] to the limit, and says where the rest begins.
    pub(crate) fn cut<T, K: Key>(
        &self,
        mut read: Vec<T>,
        key: impl Fn(&T) -> K,
    ) -> Answer<(Vec<T>, Option<String>)> {
        let limit = self.limit()? as usize;
        if read.len() <= limit {
            return Ok((read, None));
        }
        read.truncate(limit);
        let next = read.last().map(|last| cursor(&key(last)));
        Ok((read, next))
    }
}

/// A page that is read in several steps, until it is full of what the caller may see: a cursor never names anything else.
pub(crate) struct Filling<T, K> {
    page: Option<Page<K>>,
    limit: usize,
    found: Vec<T>,
    rounds: usize,
}

impl<T, K: Key> Filling<T, K> {
    /// What to read next, if there is need of more.
    pub(crate) fn page(&self) -> Option<&Page<K>> {
        self.page.as_ref()
    }

    pub(crate) fn add(&mut self, read: Vec<T>, key: impl Fn(&T) -> K, shows: impl Fn(&T) -> bool) {
        let Some(page) = self.page.take() else { return };
        self.rounds += 1;
        let more = read.len() >= page.limit as usize && self.rounds < ROUNDS_MAX;
        let last = read.last().map(&key);
        self.found.extend(read.into_iter().filter(|item| shows(item)));
        if more && self.found.len() <= self.limit {
            self.page = Some(Page { after: last, limit: LIMIT_MAX });
        }
    }

    pub(crate) fn cut(mut self, key: impl Fn(&T) -> K) -> (Vec<T>, Option<String>) {
        if self.found.len() <= self.limit {
            return (self.found, None);
        }
        self.found.truncate(self.limit);
        let next = self.found.last().map(|last| cursor(&key(last)));
        (self.found, next)
    }
}

pub(crate) fn cursor<K: Key>(key: &K) -> String {
    // Keys are strings and numbers; writing them cannot fail, and an empty cursor would be refused.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&key.write()).unwrap_or_default())
}

impl Key for NewestFirst {
    type Text = (i64, String);

    fn write(&self) -> Self::Text {
        (self.at.as_millis(), self.id.clone())
    }

    fn read((at, id): Self::Text) -> Option<Self> {
        Some(Self { at: Timestamp::from_millis(at), id })
    }
}

impl Key for DeviceKey {
    type Text = (String, String, String);

    fn write(&self) -> Self::Text {
        (self.site.to_string(), self.name.clone(), self.id.to_string())
    }

    fn read((site, name, id): Self::Text) -> Option<Self> {
        Some(Self { site: site.parse().ok()?, name, id: id.parse().ok()? })
    }
}

/// Ids go in as their text, and come back only if they still are ids.
macro_rules! ids {
    ($($id:ty),*) => { $(
        impl Key for $id {
            type Text = String;

            fn write(&self) -> String {
                self.to_string()
            }

            fn read(text: String) -> Option<Self> {
                text.parse().ok()
            }
        }
    )* };
}
ids!(CohortName, DatasetName, DeviceId, LeaseId, ModelName, PersonName, ProjectName, SiteName);

macro_rules! numbers {
    ($($number:ty),*) => { $(
        impl Key for $number {
            type Text = Self;

            fn write(&self) -> Self {
                *self
            }

            fn read(number: Self) -> Option<Self> {
                Some(number)
            }
        }
    )* };
}
numbers!(i64, u64);

/// An optional query parameter that is parsed by its type, and refused with the type's own sentence.
pub(crate) fn parsed<T>(name: &str, text: Option<&str>) -> Answer<Option<T>>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    text.filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(|error| Problem::new(Code::BadQuery, format!("{name}: {error}"))))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paging(limit: Option<u32>, cursor: Option<String>) -> Paging {
        Paging { limit, cursor }
    }

    #[test]
    fn cursors_come_back_as_they_were() {
        let keys: Vec<i64> = (1..=3).collect();
        let (shown, next) = paging(Some(2), None).cut(keys, |key| *key).unwrap();
        assert_eq!(shown, [1, 2]);
        let next = paging(Some(2), next).page::<i64>().unwrap();
        assert_eq!((next.after, next.limit), (Some(2), 3));
        let (_, none) = paging(Some(2), None).cut(vec![3_i64], |key| *key).unwrap();
        assert_eq!(none, None);
    }

    #[test]
    fn pages_are_filled_with_what_may_be_seen_and_cursors_name_nothing_else() {
        let all: Vec<i64> = (1..=2000).collect();
        let list = |limit: u32, cursor: Option<String>| {
            let mut filling = paging(Some(limit), cursor).filling::<i64, i64>().unwrap();
            while let Some(page) = filling.page() {
                let after = page.after.unwrap_or(0);
                let read = all.iter().copied().filter(|n| *n > after).take(page.limit as usize).collect();
                filling.add(read, |n| *n, |n| n % 700 == 0);
            }
            filling.cut(|n| *n)
        };
        let (first, next) = list(1, None);
        assert_eq!(first, [700]);
        assert_eq!(paging(None, next.clone()).key::<i64>().unwrap(), Some(700));
        assert_eq!(list(1, next), (vec![1400], None));
        assert_eq!(list(2, None), (vec![700, 1400], None));
    }

    #[test]
    fn wrong_limits_and_cursors_are_refused() {
        for limit in [0, 501] {
            assert_eq!(paging(Some(limit), None).limit().unwrap_err().code(), Code::BadQuery);
        }
        let long = "A".repeat(2000);
        for cursor in ["", "!", "e30", long.as_str()] {
            let refused = paging(None, Some(cursor.to_owned())).key::<NewestFirst>().unwrap_err();
            assert_eq!(refused.code(), Code::BadQuery, "{cursor}");
        }
    }
}
