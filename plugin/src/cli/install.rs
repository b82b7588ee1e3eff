//! `execblock install`: from an image to the machine. An image of ours has no shell
//! that could copy them.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args as ClapArgs;

use super::{FAILED, Failure};
use crate::installed;

/// Copy execblock, its wrapper and its hook to a machine.
///
/// For a pod that has a directory of its node mounted: PREFIX/bin/execblock,
/// PREFIX/bin/execblock-runc and PREFIX/libexec/execblock/execblock-hook. Whoever
/// executes them meanwhile has the old ones or the new ones, whole.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Where to.
    #[arg(long, value_name = "DIR", default_value = "/usr/local")]
    prefix: PathBuf,
    /// Copy config.toml and profiles/ of /etc/execblock there too: hook and wrapper
    /// read the machine's.
    #[arg(long, value_name = "DIR")]
    etc: Option<PathBuf>,
    /// Whose config.toml and profiles.
    #[arg(long, hide = true, default_value = "/etc/execblock")]
    from: PathBuf,
}

/// A file to be copied.
#[derive(Debug, PartialEq, Eq)]
struct Copy {
    from: PathBuf,
    to: PathBuf,
    mode: u32,
}

#[expect(clippy::print_stdout, reason = "the answer to the user")]
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut copies = programs(&args.prefix)?;
    if let Some(etc) = &args.etc {
        copies.extend(settings(&args.from, etc)?);
    }
    for copy in &copies {
        // Closed: the pod's container fails, and the daemon after it is not started.
        copy.run()
            .map_err(|error| Failure::new(FAILED, format!("{}: {error}", copy.to.display())))?;
        println!("{}", copy.to.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// This program, and the others of this image.
fn programs(prefix: &Path) -> Result<Vec<Copy>, Failure> {
    let (bin, libexec) = (prefix.join("bin"), prefix.join("libexec/execblock"));
    let program = |from, to| Copy {
        from,
        to,
        mode: 0o755,
    };
    Ok(vec![
        program("/proc/self/exe".into(), bin.join("execblock")),
        program(
            installed::WRAPPER.find(None)?,
            bin.join(installed::WRAPPER.name()),
        ),
        program(
            installed::HOOK.find(None)?,
            libexec.join(installed::HOOK.name()),
        ),
    ])
}

/// Those files of a directory that are read as settings.
fn settings(from: &Path, to: &Path) -> io::Result<Vec<Copy>> {
    let mut names = vec![PathBuf::from("config.toml")];
    match fs::read_dir(from.join("profiles")) {
        Ok(entries) => {
            for entry in entries {
                let name = Path::new("profiles").join(entry?.file_name());
                if name.extension().is_some_and(|end| end == "toml") {
                    names.push(name);
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    names.retain(|name| from.join(name).is_file());
    names.sort();
    Ok(names
        .into_iter()
        .map(|name| Copy {
            from: from.join(&name),
            to: to.join(&name),
            mode: 0o644,
        })
        .collect())
}

impl Copy {
    fn run(&self) -> io::Result<()> {
        let dir = self.to.parent().unwrap_or(Path::new("/"));
        make(dir)?;
        let mut staged = tempfile::Builder::new()
            .prefix(".execblock-")
            .tempfile_in(dir)?;
        io::copy(&mut File::open(&self.from)?, staged.as_file_mut())?;
        let file = staged.as_file();
        file.set_permissions(Permissions::from_mode(self.mode))?;
        file.sync_all()?;
        staged.persist(&self.to).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Makes a directory that all may read, and those above it; leaves what is there.
fn make(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(above) = dir.parent() {
        make(above)?;
    }
    fs::create_dir(dir)?;
    // Whatever the umask.
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_copied_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("host/etc"));
        fs::create_dir_all(from.join("profiles")).unwrap();
        for name in [
            "config.toml",
            "profiles/b.toml",
            "profiles/a.toml",
            "profiles/x.txt",
        ] {
            fs::write(from.join(name), name).unwrap();
        }
        let copies = settings(&from, &to).unwrap();
        let names: Vec<_> = copies.iter().map(|copy| copy.to.clone()).collect();
        let expected = ["config.toml", "profiles/a.toml", "profiles/b.toml"];
        assert_eq!(names, expected.map(|name| to.join(name)));
        for copy in &copies {
            copy.run().unwrap();
            // And again, over what is there.
            copy.run().unwrap();
            assert_eq!(fs::read(&copy.from).unwrap(), fs::read(&copy.to).unwrap());
            assert_eq!(
                fs::metadata(&copy.to).unwrap().permissions().mode() & 0o7777,
                0o644
            );
        }
        assert_eq!(fs::read_dir(to.join("profiles")).unwrap().count(), 2);
        assert_eq!(settings(&dir.path().join("none"), &to).unwrap(), []);
    }
}
