//! Who may read and change what we make: root alone. And where somebody put a link in the place of
//! something of ours, nothing is written through it.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink},
    path::{Path, PathBuf},
};

use libtest_mimic::Failed;

use super::{Running, execblock, text};

const PINS: &str = "/sys/fs/bpf/execblock";
const RUN: &str = "/run/execblock";

/// All that lies below, and itself.
fn all(path: &Path) -> Result<Vec<PathBuf>, Failed> {
    let mut found = vec![path.to_owned()];
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            found.extend(all(&entry?.path())?);
        }
    }
    Ok(found)
}

fn is_private(path: &Path) -> Result<(), Failed> {
    let found = fs::symlink_metadata(path)?;
    let expected = if found.is_dir() { 0o700 } else { 0o600 };
    let (mode, kind) = (found.mode() & 0o7777, found.file_type());
    ensure!(
        mode == expected
            && found.uid() == 0
            && (kind.is_dir() || kind.is_file() || kind.is_socket()),
        "{}: mode {mode:o} of {}, expected {expected:o} of 0",
        path.display(),
        found.uid()
    );
    Ok(())
}

/// With a bound cgroup, an event, and what a container that is gone leaves.
pub(super) fn what_we_make_is_roots_alone() -> Result<(), Failed> {
    execblock().arg("unload").output()?;
    // What a version before has made.
    fs::remove_dir_all(Path::new(RUN).join("events")).ok();
    let result = (|| {
        let load = execblock().arg("load").output()?;
        ensure!(load.status.success(), "load: {}", text(&load.stderr));
        let running = Running::new("modes")?;
        running.order("deny", &["whoami"])?;
        ensure!(!running.runs("whoami")?, "denied");
        let events = execblock().arg("events").output()?;
        ensure!(
            text(&events.stdout).contains("whoami"),
            "events: {}",
            text(&events.stderr)
        );
        let made = [all(Path::new(RUN))?, all(Path::new(PINS))?].concat();
        for path in &made {
            is_private(path)?;
        }
        for expected in ["containers", "events/journal.jsonl", "lock"] {
            let path = Path::new(RUN).join(expected);
            ensure!(made.contains(&path), "no {}", path.display());
        }
        Ok(())
    })();
    execblock().arg("unload").output()?;
    result
}

/// A record that is to be written where a link is: the order fails and says so, nothing is bound, and
/// what the link leads to stays as it was.
pub(super) fn no_record_goes_through_a_link() -> Result<(), Failed> {
    execblock().arg("unload").output()?;
    let folder = tempfile::tempdir()?;
    let victim = folder.path().join("victim");
    fs::write(&victim, "untouched")?;
    let result = (|| {
        let load = execblock().arg("load").output()?;
        ensure!(load.status.success(), "load: {}", text(&load.stderr));
        let running = Running::new("link")?;
        running.order("deny", &["id"])?;
        let records = Path::new(RUN).join("containers");
        let container = fs::read_dir(&records)?.next().ok_or("no record")??;
        let record = fs::read_dir(container.path())?.next();
        let record = record.ok_or("no record")??;
        let link = record.path().with_extension("new");
        symlink(&victim, &link)?;
        let mut deny = execblock();
        let output = deny.args(["deny", &running.query(), "whoami"]).output()?;
        fs::remove_file(&link)?;
        let err = text(&output.stderr);
        ensure!(
            output.status.code() == Some(1) && err.contains(".new: "),
            "{:?}: {err}",
            output.status
        );
        ensure!(
            fs::read_to_string(&victim)? == "untouched",
            "written through"
        );
        ensure!(!running.runs("id")?, "the rule before is gone");
        running.order("deny", &["whoami"])?;
        ensure!(!running.runs("whoami")?, "without the link");
        Ok(())
    })();
    execblock().arg("unload").output()?;
    result
}
