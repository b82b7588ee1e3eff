//! What the version of a kernel alone tells. Distributions bring back what newer kernels have: no
//! mechanism is left untried for it.

use rustix::system::uname;

/// The first that takes the programs: 5.15 has all that they call, and its verifier refuses
/// them (`access beyond struct pid`, Ubuntu's 5.15.0-204).
pub(crate) const SINCE: (u32, u32) = (6, 1);
/// The first whose tracepoints can be preempted, and pass over a program that is held up on
/// the same processor (commit a46023d5616e).
pub(crate) const PREEMPTED: (u32, u32) = (7, 0);

/// What is to be said of the running kernel where nothing works or nothing is loaded, if it is an
/// old one.
#[must_use]
pub fn too_old() -> Option<String> {
    older(&uname().release().to_string_lossy())
}

/// Whether the running kernel is of that version or a newer one.
pub(crate) fn is_since(wanted: (u32, u32)) -> bool {
    version(&uname().release().to_string_lossy()).is_some_and(|running| running >= wanted)
}

pub(crate) fn older(release: &str) -> Option<String> {
    (version(release)? < SINCE).then(|| {
        format!(
            "{release} is older than Linux {}.{}, the first whose verifier takes the programs",
            SINCE.0, SINCE.1
        )
    })
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    number().zip(number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_told_by_its_release() {
        for release in [
            "5.10.0-46-cloud-amd64",
            "5.14.0-427.el9",
            "5.15.0-204-generic",
        ] {
            let said = older(release).unwrap();
            assert!(
                said.contains(release) && said.contains("Linux 6.1"),
                "{said}"
            );
        }
        for release in ["6.1.0-40-amd64", "10.0.1", "unheard-of"] {
            assert_eq!(older(release), None);
        }
    }
}
