//! The first administrator: a link that is printed when the server starts, for as long as nobody has an account.

use std::io::Write as _;

use muster_protocol::ids::Digest;
use muster_protocol::time::Timestamp;

use crate::identity::SETUP_LIFE;
use crate::mint::{self, MintError};
use crate::store::{Store, StoreError, people, sessions};

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the first administrator's link could not be kept")]
    Store(#[from] StoreError),
    #[error("no secret for the first administrator's link")]
    Mint(#[from] MintError),
}

/// Makes the link good, unless somebody has an account. The one that was printed before is good no more.
pub async fn link(store: &Store, url: &str, now: Timestamp) -> Result<Option<String>, SetupError> {
    let mut tx = store.write().await?;
    if people::any(&mut tx).await? {
        return Ok(None);
    }
    let token = hex::encode(mint::secret()?);
    sessions::put_setup_link(&mut tx, &Digest::of(token.as_bytes()), now.plus(SETUP_LIFE)).await?;
    tx.commit().await?;
    Ok(Some(format!("{url}/setup#{token}")))
}

/// For the person who started the server, and not for its log, which others read.
pub fn print(link: &str) {
    let said = format!(
        "\nNobody has an account yet. Make the first administrator within an hour:\n\n    {link}\n\n"
    );
    // Nobody to tell it to is no reason not to serve.
    std::io::stderr().write_all(said.as_bytes()).ok();
}
