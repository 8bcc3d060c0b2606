//! How many connections stand under one name, and how fast new ones come.
//!
//! A certificate is good for one box, and a box needs one connection: a second one while it comes back and the broker has
//! not yet noticed that the first is dead. So the newest two stay and the oldest is cut; one box cannot take the places of
//! a hospital, whatever runs on it. Those who come too fast are turned away and cut nobody.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::CLIENTS_MAX;

/// Connections of one name.
const LIVE_MAX: usize = 2;
/// New ones of one name in a second.
const PER_SECOND_MAX: u32 = 4;
const SECOND: Duration = Duration::from_secs(1);
/// Names kept before those that are neither live nor recent are forgotten.
const NAMES_MAX: usize = 2 * CLIENTS_MAX;

#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<Mutex<HashMap<String, Named>>>);

#[derive(Debug)]
struct Named {
    /// Oldest first, by the number in which they came.
    live: BTreeMap<u64, CancellationToken>,
    next: u64,
    /// When the second began in which `came` were let in.
    since: Instant,
    came: u32,
}

/// A place among the connections of a name; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    name: String,
    number: u64,
    cut: CancellationToken,
}

impl Seats {
    /// Cuts the oldest if there are too many; `None` if they come too fast.
    pub(super) fn take(&self, name: &str, now: Instant) -> Option<Seat> {
        let mut names = self.lock();
        if names.len() >= NAMES_MAX {
            names.retain(|_, named| !named.live.is_empty() || now.duration_since(named.since) < SECOND);
        }
        let named = names.entry(name.to_owned()).or_insert_with(|| Named::new(now));
        if now.duration_since(named.since) >= SECOND {
            (named.since, named.came) = (now, 0);
        }
        if named.came >= PER_SECOND_MAX {
            return None;
        }
        named.came += 1;
        if named.live.len() >= LIVE_MAX
            && let Some((_, oldest)) = named.live.pop_first()
        {
            oldest.cancel();
        }
        let (number, cut) = (named.next, CancellationToken::new());
        named.next += 1;
        named.live.insert(number, cut.clone());
        Some(Seat { seats: self.clone(), name: name.to_owned(), number, cut })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Named>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Named {
    fn new(now: Instant) -> Self {
        Self { live: BTreeMap::new(), next: 0, since: now, came: 0 }
    }
}

impl Seat {
    /// Returns when newer connections took its place.
    pub(super) async fn cut(&self) {
        self.cut.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(named) = self.seats.lock().get_mut(&self.name) {
            named.live.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_two_of_a_name_stay() {
        let (seats, now) = (Seats::default(), Instant::now());
        let take = |name: &str, seconds: u32| seats.take(name, now + seconds * SECOND).unwrap();
        let check = |seats: &[&Seat], cut: &[bool]| {
            assert_eq!(seats.iter().map(|seat| seat.cut.is_cancelled()).collect::<Vec<_>>(), cut);
        };
        let other = take("other", 0);
        let (first, second) = (take("box", 0), take("box", 1));
        check(&[&other, &first, &second], &[false, false, false]);
        let third = take("box", 2);
        check(&[&other, &first, &second, &third], &[false, true, false, false]);
        // One that ends by itself makes room, and one that was cut has none to give back.
        drop(first);
        drop(second);
        let fourth = take("box", 3);
        check(&[&other, &third, &fourth], &[false, false, false]);
        let fifth = take("box", 4);
        check(&[&third, &fourth, &fifth], &[true, false, false]);
    }

    #[test]
    fn those_who_come_too_fast_are_turned_away_and_cut_nobody() {
        let (seats, now) = (Seats::default(), Instant::now());
        let few: Vec<_> = (0..PER_SECOND_MAX).map(|_| seats.take("box", now).unwrap()).collect();
        assert!(seats.take("box", now + SECOND / 2).is_none());
        assert_eq!(few.iter().filter(|seat| !seat.cut.is_cancelled()).count(), LIVE_MAX);
        assert!(seats.take("other", now).is_some());
        assert!(seats.take("box", now + SECOND).is_some());
    }

    #[test]
    fn names_that_left_are_forgotten() {
        let (seats, now) = (Seats::default(), Instant::now());
        let stays = seats.take("stays", now).unwrap();
        for number in 1..NAMES_MAX {
            drop(seats.take(&number.to_string(), now));
        }
        assert_eq!(seats.lock().len(), NAMES_MAX);
        drop(seats.take("new", now + SECOND));
        assert_eq!(seats.lock().len(), 2);
        drop(stays);
    }
}
