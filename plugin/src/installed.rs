//! Where the other programs of ours are on this machine.

use std::{
    env,
    path::{Path, PathBuf},
};

/// A program, and where packages and `install.sh` put it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    name: &'static str,
    usual: [&'static str; 2],
}

/// The runtime wrapper.
pub(crate) const WRAPPER: Program = Program {
    name: "execblock-runc",
    usual: ["/usr/local/bin", "/usr/bin"],
};

/// The OCI hook.
pub(crate) const HOOK: Program = Program {
    name: "execblock-hook",
    usual: ["/usr/local/libexec/execblock", "/usr/libexec/execblock"],
};

/// It is in none of these places.
#[derive(Debug, thiserror::Error)]
#[error("{name} is not installed; looked at {places}")]
pub(crate) struct NotInstalled {
    name: &'static str,
    places: String,
}

impl Program {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        self.name
    }

    /// Where it is: as told, beside this program, or in a usual place.
    pub(crate) fn find(self, told: Option<&Path>) -> Result<PathBuf, NotInstalled> {
        let places = match told {
            Some(path) => vec![path.to_owned()],
            None => self.places(),
        };
        let found = places.iter().find_map(|path| path.canonicalize().ok());
        found.ok_or_else(|| {
            let places: Vec<String> = places
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            NotInstalled {
                name: self.name,
                places: places.join(", "),
            }
        })
    }

    fn places(self) -> Vec<PathBuf> {
        let own = env::current_exe().ok();
        let own = own.as_deref().and_then(Path::parent);
        let beside = own
            .into_iter()
            .flat_map(|dir| [dir.to_owned(), dir.join("../libexec/execblock")]);
        let usual = self.usual.iter().map(PathBuf::from);
        beside.chain(usual).map(|dir| dir.join(self.name)).collect()
    }
}
