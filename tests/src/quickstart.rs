//! The quick starts (`examples/quickstart`) and the page that shows them (`docs/quickstart.md`):
//! what it says is typed and answered is what the scripts do.

use anyhow::{Context as _, Result, ensure};

pub(crate) const PAGE: &str = include_str!("../../docs/quickstart.md");

/// A file of `examples/quickstart`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct File {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
}

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(File {
            name: $name,
            text: include_str!(concat!("../../examples/quickstart/", $name)),
        }),+]
    };
}

/// All of them.
pub(crate) const FILES: &[File] = files![
    "steps.sh",
    "run.sh",
    "podman.sh",
    "docker.sh",
    "ctr.sh",
    "pod.sh",
    "pod.json",
    "container.json",
    "running.sh",
];

/// What the page shows of a script: the block of its commands and their answers.
pub(crate) fn shown(page: &'static str, script: &str) -> Result<Vec<&'static str>> {
    let link = format!("/examples/quickstart/{script})");
    let (_, section) = page
        .split_once(&link)
        .with_context(|| format!("the page has no link to {script}"))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let (_, block) = section
        .split_once("```console\n")
        .with_context(|| format!("the section of {script} has no block"))?;
    let (block, _) = block.split_once("```").context("the block has no end")?;
    Ok(block.lines().collect())
}

/// Whether the script said what is shown, line by line. `…` stands for any text, a line of it
/// alone for any lines.
pub(crate) fn compare(shown: &[&str], said: &str) -> Result<()> {
    let said: Vec<&str> = said.lines().map(str::trim_end).collect();
    let mut at = 0;
    let mut any = false;
    for line in shown {
        if *line == "…" {
            any = true;
            continue;
        }
        let found = said[at..]
            .iter()
            .position(|candidate| fits(line, candidate));
        let next = said.get(at).copied().unwrap_or("(nothing)");
        let skipped = found.with_context(|| format!("shown {line:?}, said {next:?}"))?;
        ensure!(
            any || skipped == 0,
            "shown {line:?}, said {next:?} before it"
        );
        at += skipped + 1;
        any = false;
    }
    ensure!(
        any || at == said.len(),
        "said {:?}, not shown",
        said.get(at)
    );
    Ok(())
}

/// Whether the text is what is shown, where `…` is any text.
fn fits(shown: &str, text: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands of a script, in the order in which they run.
    fn commands(script: &str) -> Vec<&str> {
        let named = |word: &'static str| {
            script.lines().filter_map(move |line| {
                let (head, rest) = line.split_once(' ')?;
                (head == word || word == "run" && head == "refused").then_some(rest)
            })
        };
        named("run")
            .chain(named("finally"))
            .map(|quoted| quoted.trim_matches('\''))
            .collect()
    }

    #[test]
    fn the_page_shows_the_commands_of_each_script() {
        let scripts = FILES.iter().filter(|file| file.text.starts_with("#!"));
        for script in scripts {
            let shown = shown(PAGE, script.name).unwrap();
            let shown: Vec<&str> = shown
                .iter()
                .filter_map(|line| line.strip_prefix("# "))
                .collect();
            assert_eq!(shown, commands(script.text), "{}", script.name);
        }
    }

    #[test]
    fn the_page_shows_the_files() {
        for file in FILES.iter().filter(|file| file.text.starts_with('{')) {
            let block = format!("```json\n{}```", file.text);
            assert!(PAGE.contains(&block), "{}", file.name);
        }
    }

    #[test]
    fn every_file_is_listed_here() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        let mut listed: Vec<&str> = FILES.iter().map(|file| file.name).collect();
        listed.sort_unstable();
        assert_eq!(there, listed);
    }

    #[test]
    fn an_ellipsis_stands_for_any_text_or_lines() {
        assert!(compare(&["# a", "x…z", "…", "# b"], "# a\nx y z\nmore\n# b\n").is_ok());
        assert!(compare(&["# a"], "# a\n").is_ok());
        for (shown, said) in [
            (&["# a"][..], "# a\nroot\n"),
            (&["# a", "root"], "# a\n"),
            (&["# b"], "# a\n# b\n"),
            (&["x…z"], "x y\n"),
        ] {
            assert!(compare(shown, said).is_err(), "{shown:?} {said:?}");
        }
    }
}
