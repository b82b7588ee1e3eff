//! Which machines are booted, and which of their cases run.

use anyhow::Result;

use super::{
    kernel::{self, Kernel},
    userland::{self, Userland},
};

/// What runs when nothing is asked for: each kernel, each engine generation,
/// and not their whole product.
const DEFAULT: &[(&str, &str)] = &[
    // The longest first: several may run at a time.
    ("6.12", "trixie"),
    ("7.3", "forky"),
    ("6.12", "trixie-systemd"),
    ("6.1", "bookworm"),
    (kernel::OVERRIDE, "trixie"),
    ("6.12-nolsm", "trixie"),
    ("6.12", "trixie-bare-systemd"),
    ("6.1", "bookworm-bare-systemd"),
];

/// What runs besides when its kernel or its userland is named.
const NAMED: &[(&str, &str)] = &[
    ("6.1", "bookworm-systemd"),
    ("ubuntu-6.8", "noble"),
    ("ubuntu-6.8", "noble-systemd"),
];

/// What another kernel that is run only when it is named boots with.
const OLDEST: &str = "bookworm";

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Wanted {
    /// Kernel to boot; may be repeated
    #[arg(long, value_name = "KERNEL")]
    pub(crate) kernel: Vec<String>,
    /// Userland to boot; may be repeated
    #[arg(long, value_name = "USERLAND")]
    pub(crate) userland: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Selection {
    #[command(flatten)]
    pub(super) wanted: Wanted,
    /// Fail when a case was skipped
    #[arg(long)]
    pub(crate) no_skip: bool,
    /// List kernels, userlands and cases, and boot nothing
    #[arg(long)]
    pub(super) list: bool,
    /// Virtual machines at a time; each keeps one to two processors busy
    #[arg(long, default_value_t = 1)]
    pub(super) jobs: usize,
    /// Have the guests' clocks count instructions: what they tell of time is exact and
    /// the same each time
    #[arg(long)]
    pub(super) counting: bool,
    /// Seconds without a line on the console after which a guest is ended
    #[arg(long, value_name = "SECONDS", default_value_t = SILENCE)]
    pub(super) silence: u64,
    /// Seconds after which a guest is ended in any case
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT)]
    pub(super) timeout: u64,
    /// Run the cases whose name contains this, or one of these, split by commas
    #[arg(value_parser = parse_filter)]
    pub(super) filter: Option<String>,
}

/// Seconds without a line, and in all, after which a guest is ended.
const SILENCE: u64 = 840;
const TIMEOUT: u64 = 2400;

impl Selection {
    /// Whether no machine and no case was asked for.
    pub(super) fn is_everything(&self) -> bool {
        self.filter.is_none() && self.wanted.kernel.is_empty() && self.wanted.userland.is_empty()
    }

    /// What costs are counted with.
    pub(super) fn of_cost(jobs: usize, filter: &str) -> Self {
        Self {
            counting: true,
            ..Self::of_evasion(jobs, filter)
        }
    }

    /// What the evasion suite boots with.
    pub(super) fn of_evasion(jobs: usize, filter: &str) -> Self {
        Self {
            wanted: Wanted::default(),
            no_skip: false,
            list: false,
            counting: false,
            jobs,
            silence: SILENCE,
            timeout: TIMEOUT,
            filter: Some(filter.to_owned()),
        }
    }
}

/// The filter travels on the kernel's command line as it is.
fn parse_filter(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/+,".contains(c);
    match text.chars().find(|c| !plain(*c)) {
        Some(c) => Err(format!("{c:?} occurs in no case's name")),
        None => Ok(text.to_owned()),
    }
}

/// One virtual machine to run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) kernel: &'static Kernel,
    pub(super) userland: &'static Userland,
}

impl Pair {
    pub(super) fn label(self) -> String {
        format!("{}/{}", self.kernel.name, self.userland.name)
    }
}

/// The machines that are wanted; those of a whole run where none is named.
pub(super) fn selected(wanted: &Wanted) -> Result<Vec<Pair>> {
    let pair = |kernel: &str, userland: &str| {
        Ok(Pair {
            kernel: kernel::by_name(kernel)?,
            userland: userland::by_name(userland)?,
        })
    };
    let Wanted {
        kernel: kernels,
        userland: userlands,
    } = wanted;
    if !kernels.is_empty() && !userlands.is_empty() {
        // Both are named: their product.
        let product = kernels
            .iter()
            .flat_map(|k| userlands.iter().map(move |u| (k, u)));
        return product.map(|(k, u)| pair(k, u)).collect();
    }
    let all = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(k, u)| pair(k, u));
        pairs.collect::<Result<Vec<_>>>()
    };
    let defaults = all(DEFAULT)?;
    let known = [all(DEFAULT)?, all(NAMED)?].concat();
    let mut pairs = Vec::new();
    for name in kernels {
        kernel::by_name(name)?;
        let with_it = known
            .iter()
            .filter(|pair| pair.kernel.name == name)
            .collect::<Vec<_>>();
        if with_it.is_empty() {
            pairs.push(pair(name, OLDEST)?);
        }
        pairs.extend(with_it);
    }
    for name in userlands {
        let with_it = known
            .iter()
            .filter(|pair| pair.userland.name == name)
            .collect::<Vec<_>>();
        if with_it.is_empty() {
            pairs.push(pair("6.12", name)?);
        }
        pairs.extend(with_it);
    }
    Ok(if kernels.is_empty() && userlands.is_empty() {
        defaults
    } else {
        pairs
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(kernels: &[&str], userlands: &[&str]) -> Result<Vec<String>> {
        let wanted = Wanted {
            kernel: kernels.iter().map(ToString::to_string).collect(),
            userland: userlands.iter().map(ToString::to_string).collect(),
        };
        Ok(selected(&wanted)?.into_iter().map(Pair::label).collect())
    }

    #[test]
    fn flags_narrow_the_default_or_name_a_product() -> Result<()> {
        assert_eq!(labels(&[], &[])?.len(), DEFAULT.len());
        assert_eq!(
            labels(&["6.12"], &[])?,
            [
                "6.12/trixie",
                "6.12/trixie-systemd",
                "6.12/trixie-bare-systemd"
            ]
        );
        assert_eq!(labels(&[], &["forky"])?, ["7.3/forky"]);
        assert_eq!(labels(&[], &["bookworm"])?, ["6.1/bookworm"]);
        assert_eq!(labels(&["7.3"], &["bookworm"])?, ["7.3/bookworm"]);
        assert_eq!(labels(&["5.10"], &[])?, ["5.10/bookworm"]);
        assert_eq!(
            labels(&[], &["bookworm-systemd"])?,
            ["6.1/bookworm-systemd"]
        );
        assert_eq!(labels(&[], &["noble"])?, ["ubuntu-6.8/noble"]);
        assert_eq!(labels(&["ubuntu-7.0"], &[])?, ["ubuntu-7.0/bookworm"]);
        assert_eq!(
            labels(&["6.1", "7.3"], &["forky"])?,
            ["6.1/forky", "7.3/forky"]
        );
        assert!(labels(&["2.6"], &[]).is_err());
        assert!(labels(&[], &["sarge"]).is_err());
        Ok(())
    }

    #[test]
    fn a_filter_survives_the_command_line() {
        assert!(parse_filter("lsm/deny_name,pins/").is_ok());
        assert!(parse_filter("a b").is_err());
        assert!(parse_filter("\"").is_err());
    }
}
