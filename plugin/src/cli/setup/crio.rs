//! CRI-O's part of `execblock setup`: our drop-in among the others', and the hook.

use std::path::PathBuf;

use super::{Args, FAILED, Failure, drop_ins, edit, refused};
use crate::engines::{
    crio::{self, Config},
    files::{self, Edit},
    hooks_d,
};

/// Read after most others, so that what they say is known.
pub(super) const DROP_IN: &str = "/etc/crio/crio.conf.d/90-execblock.conf";

impl Args {
    pub(super) fn crio(&self) -> Result<Vec<Edit>, Failure> {
        let drop_in = self.below_root(DROP_IN);
        let main = self.config("/etc/crio/crio.conf");
        let others = drop_ins(&self.below_root("/etc/crio/crio.conf.d"))
            .into_iter()
            .filter(|path| *path != drop_in);
        let others: Vec<PathBuf> = others.collect();
        let before = files::read(&drop_in)?;
        let ours = config(before.iter().map(|text| (&drop_in, text.clone())))?;
        // What was required stays so, until that is taken out.
        let require = !self.remove && (self.required || ours.requires_us());
        let later = others.iter().filter(|path| **path > drop_in);
        if !self.remove {
            self.is_last(&read(later)?, require)?;
        }
        let others = read([&main].into_iter().chain(&others))?;
        let only_required = self.remove && self.required;
        let gone = self.remove && !(only_required && before.is_some());
        let after = (!gone).then(|| crio::drop_in(&others, require));
        let mut edits = Vec::new();
        if !only_required {
            edits = self.hook_edit(&self.below_root(hooks_d::DIR))?;
        }
        edits.extend(edit(drop_in, before, Ok(after))?);
        Ok(edits)
    }

    /// Closed: what is read after ours would win, and no hook be called or no plugin
    /// be required.
    fn is_last(&self, later: &Config, require: bool) -> Result<(), Failure> {
        let lost = if let Some(dirs) = &later.hooks_dir
            && !dirs.iter().any(|dir| dir.as_os_str() == hooks_d::DIR)
        {
            format!(
                "crio.runtime.hooks_dir to {dirs:?}: add {:?} to it",
                hooks_d::DIR
            )
        } else if let Some(plugins) = &later.required
            && require
            && !later.requires_us()
        {
            format!("nri_validator_required_plugins to {plugins:?}: add \"execblock\" to it")
        } else {
            return Ok(());
        };
        let drop_in = self.below_root(DROP_IN);
        Err(Failure::new(
            FAILED,
            format!("a file after {} sets {lost}", drop_in.display()),
        ))
    }
}

fn read<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<Config, Failure> {
    let mut texts = Vec::new();
    for path in paths {
        texts.push((path, files::read(path)?.unwrap_or_default()));
    }
    config(texts.into_iter())
}

/// What files say together, in the order in which they are read.
fn config<'a>(texts: impl Iterator<Item = (&'a PathBuf, String)>) -> Result<Config, Failure> {
    let mut all = Config::default();
    for (path, text) in texts {
        let one = Config::parse(&text).map_err(|error| refused(path, &error))?;
        all = all.then(one);
    }
    Ok(all)
}
