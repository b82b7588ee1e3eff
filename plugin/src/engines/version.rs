//! What version an engine says it has, and whether that has what is asked for.

/// Major and minor version, from what `ENGINE --version` says.
pub(crate) fn of(said: &str) -> Option<(u64, u64)> {
    // "containerd github.com/containerd/containerd/v2 2.1.4 75cb2b7…",
    // "crio version 1.34.0"
    said.split_whitespace().find_map(|word| {
        let mut parts = word.trim_start_matches('v').split('.');
        let major = parts.next()?.parse().ok()?;
        let minor: String = parts
            .next()?
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        Some((major, minor.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_engines_say_them() {
        for (said, version) in [
            (
                "containerd github.com/containerd/containerd/v2 2.2.4 193637f7ee8ae5f5aa5248f49e7baa3e6164966e",
                Some((2, 2)),
            ),
            (
                "containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+deb13u1",
                Some((1, 7)),
            ),
            ("containerd containerd.io v2.3.0-rc.1 abc", Some((2, 3))),
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3",
                Some((1, 6)),
            ),
            (
                "crio version 1.34.0\nVersion:        1.34.0\n",
                Some((1, 34)),
            ),
            ("", None),
            ("containerd: command not found", None),
        ] {
            assert_eq!(of(said), version, "{said}");
        }
    }
}
