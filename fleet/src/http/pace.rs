//! How often a caller may ask: their burst, then their pace; 429 and `Retry-After` beyond it.
//!
//! Whoever proved who they are is counted by that, all others by the address they come from. In the open mode nobody is
//! counted: there is one operator, on this machine.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::Extensions;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use muster_protocol::time::Timestamp;

use super::App;
use super::caller::Caller;
use super::problem::{Answer, Code, Problem};
use crate::pace::{Buckets, Rate};

/// A dashboard with many pages open, a script over a fleet of some hundred boxes.
const CALLER: Rate = Rate { burst: 1000, every: Duration::from_millis(20) };
/// Passwords tried for one name: nobody mistypes so often, and nobody guesses with so few.
const NAME: Rate = Rate { burst: 10, every: Duration::from_secs(30) };
/// Passwords tried from one address: a ward behind one proxy may begin its shift.
const ADDRESS: Rate = Rate { burst: 60, every: Duration::from_secs(2) };
const KEYS_MAX: usize = 20_000;

/// Who was here how often.
#[derive(Debug)]
pub(super) struct Pace {
    buckets: Mutex<Buckets<String>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { buckets: Mutex::new(Buckets::new(KEYS_MAX)) }
    }
}

impl Pace {
    fn take(&self, key: String, rate: Rate, now: Timestamp) -> Answer<()> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.take(key, rate, now).map_err(|wait| {
            Problem::new(Code::TooFast, "this is more than one caller may ask at once")
                .after(wait)
                .next("wait as long as Retry-After says")
        })
    }

    /// One more login that begins at this address.
    pub(super) fn begins(&self, from: Option<IpAddr>, now: Timestamp) -> Answer<()> {
        self.take(format!("from:{}", said(from)), ADDRESS, now)
    }

    /// One more try to come in, by this name and from this address.
    pub(super) fn tries(&self, name: &str, from: Option<IpAddr>, now: Timestamp) -> Answer<()> {
        let name: String = name.chars().take(64).collect();
        self.begins(from, now)?;
        self.take(format!("name:{name}"), NAME, now)
    }
}

pub(super) async fn pace(State(app): State<App>, request: Request, next: Next) -> Response {
    let counted = request.extensions().get::<MatchedPath>().is_some();
    let key = match request.extensions().get::<Caller>() {
        Some(Caller::Open) | None => None,
        Some(caller) => {
            caller.key().or_else(|| Some(format!("address:{}", said(address(request.extensions())))))
        }
    };
    if let Some(key) = key.filter(|_| counted)
        && let Err(problem) = app.pace.take(key, CALLER, app.fleet.clocks.trust.now())
    {
        return problem.into_response();
    }
    next.run(request).await
}

/// Where a request comes from, if it came by a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(pub(super) Option<IpAddr>);

impl<S: Send + Sync> FromRequestParts<S> for Address {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(address(&parts.extensions)))
    }
}

fn address(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
}

fn said(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "here".to_owned(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_too_often_waits_and_nobody_else() {
        let pace = Pace::default();
        let now = Timestamp::from_seconds(1_800_000_000);
        let asks = |who: &str, now: Timestamp| pace.take(who.to_owned(), CALLER, now);
        assert_eq!((0..1100).filter(|_| asks("ada", now).is_ok()).count(), 1000);
        assert_eq!(asks("ada", now).unwrap_err().into_response().status(), 429);
        assert!(asks("eve", now).is_ok());
        let later = now.plus(Duration::from_secs(1));
        assert_eq!((0..1100).filter(|_| asks("ada", later).is_ok()).count(), 50);
    }

    #[test]
    fn names_and_addresses_are_counted_apart() {
        let pace = Pace::default();
        let now = Timestamp::from_seconds(1_800_000_000);
        let tried = |name: &str, from: Option<IpAddr>| pace.tries(name, from, now).is_ok();
        let (here, there) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        assert_eq!((0..20).filter(|_| tried("ada", here)).count(), 10);
        assert!(!tried("ada", there), "a name is guarded from everywhere");
        assert_eq!(
            (0..100).filter(|n| tried(&n.to_string(), here)).count(),
            40,
            "an address has its own bound"
        );
    }
}
