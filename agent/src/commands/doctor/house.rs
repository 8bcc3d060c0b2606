//! Where the agent lives: its folder, the disk below it, and what the site wrote beside it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_protocol::checkup::{End, Finding};
use muster_protocol::time::Timestamp;

use crate::capture::Policy;
use crate::config::Config;
use crate::{chain, disk};

const FOLDER: &str = "state";
const DISK: &str = "disk";
const POLICY: &str = "capture";
/// Folders of the state folder in which a file of another user keeps the agent from starting.
const LOOKED_INTO: [&str; 3] = ["identity", "trust", "spool"];
const OTHERS: u32 = 0o077;
/// A site renews its own word at its own pace.
const POLICY_NOTICE: Duration = Duration::from_hours(7 * 24);

/// Whose the state folder is, and whether anybody else may look into it.
pub(super) fn folder(dir: &Path) -> Finding {
    let shown = dir.display();
    let metadata = match fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let next = "enrol this box, which makes it, or correct 'state_dir' in the configuration";
            return Finding::fail(FOLDER, format!("the state folder {shown} is not there"), next);
        }
        Err(error) => {
            let says = format!("the state folder {shown} cannot be looked at: {error}");
            return Finding::fail(FOLDER, says, "run this as root, or as the user that the agent runs as");
        }
    };
    if !metadata.is_dir() {
        let says = format!("{shown} is no folder");
        return Finding::fail(FOLDER, says, "correct 'state_dir' in the configuration");
    }
    let (owner, me) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != me && me != 0 {
        let says = format!("{shown} belongs to user {owner}, and you are user {me}");
        return Finding::fail(
            FOLDER,
            says,
            format!("run it as that user: sudo -u '#{owner}' muster-agent doctor"),
        );
    }
    if let Some(foreign) = foreign(dir, owner) {
        let says = format!("{} does not belong to user {owner}, as its folder does", foreign.display());
        let next = format!("give all of it to the agent: chown -R {owner} {shown}");
        return Finding::fail(FOLDER, says, next);
    }
    let mode = metadata.mode() & 0o777;
    if mode & OTHERS != 0 {
        let says = format!("others may look into {shown} (mode {mode:o})");
        return Finding::warn(FOLDER, says, format!("chmod 700 {shown}; the agent does it when it starts"));
    }
    Finding::ok(FOLDER, format!("{shown} is open to its owner alone, user {owner}"))
}

/// Something in there that is somebody else's: the agent could not replace it.
fn foreign(dir: &Path, owner: u32) -> Option<PathBuf> {
    let folders = LOOKED_INTO.iter().map(|name| dir.join(name)).chain([dir.to_owned()]);
    let paths = folders.flat_map(|folder| disk::list(&folder).unwrap_or_default());
    let is_foreign = |metadata: Metadata| metadata.uid() != owner;
    paths.into_iter().find(|path| fs::symlink_metadata(path).is_ok_and(is_foreign))
}

pub(super) fn disk(config: &Config) -> Finding {
    let dir = &config.state_dir;
    // A folder that is not there yet would be made on the disk of the one above it.
    let there = dir.ancestors().find(|folder| folder.exists()).unwrap_or(dir);
    match disk::free_bytes(there) {
        Ok(free) => {
            let next = "free some, or move 'state_dir' to a larger disk; the bounds are [disk] warn_below_mb and fail_below_mb";
            Finding::room(DISK, &format!("where {} is", dir.display()), free, config.room, next)
        }
        Err(error) => {
            Finding::fail(DISK, chain(&error), "is the disk mounted? Look at 'df' and at the system's log")
        }
    }
}

/// The site's word on what may be captured; nothing where there is none.
pub(super) fn policy(config: &Config, now: Timestamp) -> Option<Finding> {
    let path = config.capture_policy.as_ref()?;
    Some(match Policy::load(path) {
        Ok(policy) => {
            let what = format!("the site's word on captures, for {} slots,", policy.slots.len());
            let end = End { expires: policy.until, now, notice: POLICY_NOTICE };
            Finding::expiry(POLICY, &what, end, "the site sets a later 'until', or wants no more rows kept")
        }
        Err(error) => {
            let next = "the site corrects it; until then no row is captured, and all else goes on";
            Finding::warn(POLICY, chain(&error), next)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use muster_protocol::checkup::{Condition, Room};

    use super::*;
    use crate::config::Environment;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_folder_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let check = |condition: Condition, says: &str| {
            let found = folder(&state);
            assert!(found.state == condition && found.says.contains(says), "{found:?}");
        };
        check(Condition::Fail, "is not there");
        fs::write(&state, "").unwrap();
        check(Condition::Fail, "is no folder");
        fs::remove_file(&state).unwrap();
        fs::create_dir_all(state.join("identity")).unwrap();
        mode(&state, 0o755);
        check(Condition::Warn, "mode 755");
        mode(&state, 0o700);
        check(Condition::Ok, "owner alone");
    }

    #[test]
    fn what_belongs_to_somebody_else_is_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("trust")).unwrap();
        let me = fs::metadata(dir.path()).unwrap().uid();
        assert_eq!(foreign(dir.path(), me), None);
        // The link is ours, whatever it leads to; and to another user all of it would be foreign.
        symlink("/proc/1", dir.path().join("trust/link")).unwrap();
        assert_eq!(foreign(dir.path(), me), None);
        assert_eq!(foreign(dir.path(), me + 1), Some(dir.path().join("trust/link")));
    }

    #[test]
    fn the_disk_is_held_to_what_the_box_says() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::bare(&dir.path().join("not/yet/there"), &Environment::default()).unwrap();
        config.room = Room { warn_below: 0, fail_below: 0 };
        assert_eq!(disk(&config).state, Condition::Ok);
        config.room.warn_below = u64::MAX;
        assert_eq!(disk(&config).state, Condition::Warn);
        config.room.fail_below = u64::MAX;
        let found = disk(&config);
        assert!(found.state == Condition::Fail && found.do_next.unwrap().contains("fail_below_mb"));
    }
}
