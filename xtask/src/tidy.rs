//! `cargo xtask tidy`: the rules of this tree that no compiler or linter knows.
//! Each is a function of the tree's text that returns what breaks it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    host,
    pages::{self, Page},
    translation,
};

/// The longest that a file may be.
const LINES: usize = 600;
/// Files that may be longer, with the reason.
const LONGER: &[(&str, &str)] = &[(
    "tests/src/cases/mechanism.rs",
    "a table: one entry for each way to execute a program",
)];

/// The longest that the page which everybody reads first may be.
const ARCHITECTURE_LINES: usize = 150;

/// The only folder that may know the eBPF loader.
const LOADER_FOLDER: &str = "engine/src/kernel/";
/// Traits that the loader's users must implement elsewhere.
const LOADER_ELSEWHERE: &[(&str, &str)] = &[(
    "plugin-common/",
    "implements aya::Pod, behind the feature `user`",
)];

/// A text file of the tree, by its path in the checkout.
#[derive(Debug)]
struct Text {
    path: String,
    content: String,
}

impl Text {
    fn has_end(&self, extension: &str) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|end| end == extension)
    }
}

pub(crate) fn run() -> Result<bool> {
    let problems = problems(host::checkout())?;
    for problem in &problems {
        println!("{problem}");
    }
    println!(
        "tidy: {}",
        if problems.is_empty() {
            "ok"
        } else {
            "the above is not"
        }
    );
    Ok(problems.is_empty())
}

fn problems(checkout: &Path) -> Result<Vec<String>> {
    let texts = texts(checkout)?;
    let mut problems = Vec::new();
    for text in &texts {
        problems.extend(trailing_space(text));
        if text.has_end("rs") {
            problems.extend(length(text));
            problems.extend(opening(text));
            problems.extend(loader(text));
            problems.extend(unwraps(text));
        }
    }
    let content = |path: &str| {
        texts
            .iter()
            .find(|text| text.path == path)
            .map(|text| text.content.as_str())
    };
    if let Some(lines) = content("ARCHITECTURE.md").map(|page| page.lines().count())
        && lines > ARCHITECTURE_LINES
    {
        problems.push(format!(
            "ARCHITECTURE.md: {lines} lines, of {ARCHITECTURE_LINES} at most"
        ));
    }
    if let (Some(english), Some(chinese)) = (content("README.md"), content("README.zh-CN.md")) {
        problems.extend(translation::problem(
            ("README.md", english),
            ("README.zh-CN.md", chinese),
        ));
    }
    let files = texts.iter().map(|text| text.path.as_str()).collect();
    let pages: Vec<Page<'_>> = texts
        .iter()
        .filter(|text| text.has_end("md"))
        .map(|text| Page::new(&text.path, &text.content))
        .collect();
    problems.extend(pages::problems(&pages, &files));
    Ok(problems)
}

/// What git tracks or would track, as far as it is text.
fn texts(checkout: &Path) -> Result<Vec<Text>> {
    let listed = host::output(
        host::program("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(checkout),
    )?;
    let mut texts = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        let file: PathBuf = checkout.join(path);
        // One that git knows may have been removed, and a link's target has a line of its own.
        if !file.is_file() || file.is_symlink() {
            continue;
        }
        let bytes = fs::read(&file).with_context(|| path.to_owned())?;
        if let Ok(content) = String::from_utf8(bytes)
            && !content.contains('\0')
        {
            texts.push(Text {
                path: path.to_owned(),
                content,
            });
        }
    }
    Ok(texts)
}

fn at(text: &Text, line: usize, what: &str) -> String {
    format!("{}:{}: {what}", text.path, line + 1)
}

fn trailing_space(text: &Text) -> Vec<String> {
    // Recorded output and patches have what they have.
    let recorded = [".snap", ".golden", ".patch", ".diff", ".bin", ".pem"];
    if recorded.iter().any(|end| text.path.ends_with(end)) {
        return Vec::new();
    }
    let lines = text.content.split('\n').enumerate();
    lines
        .filter(|(_, line)| line.ends_with([' ', '\t', '\r']))
        .map(|(number, _)| at(text, number, "white space at the end"))
        .collect()
}

fn length(text: &Text) -> Option<String> {
    let lines = text.content.lines().count();
    let longer = LONGER.iter().any(|(path, _)| *path == text.path);
    (lines > LINES && !longer).then(|| format!("{}: {lines} lines, of {LINES} at most", text.path))
}

fn opening(text: &Text) -> Option<String> {
    // Of a generated file, its generator is the reason.
    let generated = text.content.contains("@generated");
    let says_why = text.content.starts_with("//");
    (!says_why && !generated).then(|| at(text, 0, "opens with no comment that says why it exists"))
}

fn loader(text: &Text) -> Vec<String> {
    // The eBPF side has a crate of its own, and this file speaks of them.
    let elsewhere = LOADER_ELSEWHERE
        .iter()
        .any(|(folder, _)| text.path.starts_with(folder));
    let exempt = [LOADER_FOLDER, "plugin-ebpf/", "xtask/"];
    if elsewhere || exempt.iter().any(|folder| text.path.starts_with(folder)) {
        return Vec::new();
    }
    code_lines(&text.content)
        .filter(|(_, line)| {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            words.any(|word| {
                let root = word
                    .trim_start_matches("::")
                    .split("::")
                    .next()
                    .unwrap_or_default();
                (root == "aya" || root == "aya_obj")
                    && (word.contains("::") || line.trim_start().contains("use "))
            })
        })
        .map(|(number, _)| at(text, number, &format!("names aya outside {LOADER_FOLDER}")))
        .collect()
}

fn unwraps(text: &Text) -> Vec<String> {
    let is_test = text.path.ends_with("_tests.rs")
        || text.path.ends_with("/tests.rs")
        || text.path.split('/').rev().skip(1).any(|folder| {
            // The crate `tests` is a program like any other; its `tests/` would not be.
            folder == "tests" && !text.path.starts_with("tests/")
        });
    if is_test {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut inside_test: Option<usize> = None;
    let mut test_follows = false;
    for (number, line) in code_lines(&text.content) {
        let indent = line.len() - line.trim_start().len();
        if let Some(end) = inside_test {
            // rustfmt puts the closing brace below the item's first letter.
            if indent == end && line.trim_start().starts_with('}') {
                inside_test = None;
            }
            continue;
        }
        let code = line.trim_start();
        if code.starts_with("#[cfg(test)]") || code.starts_with("#[test]") {
            test_follows = true;
        } else if test_follows && !code.starts_with("#[") && !code.is_empty() {
            test_follows = false;
            if code.trim_end().ends_with('{') {
                inside_test = Some(indent);
            }
        } else if code.contains(concat!(".unwrap", "()")) {
            found.push(at(text, number, concat!(".unwrap", "() outside tests")));
        }
    }
    found
}

/// Lines without their comments. Text in quotes stays: nobody fools himself here.
fn code_lines(content: &str) -> impl Iterator<Item = (usize, &str)> {
    content
        .lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .enumerate()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str, content: &str) -> Text {
        Text {
            path: path.into(),
            content: content.into(),
        }
    }

    #[test]
    fn this_tree_is_tidy() -> Result<()> {
        assert_eq!(problems(host::checkout())?, Vec::<String>::new());
        Ok(())
    }

    #[test]
    fn the_loader_stays_in_its_folder() {
        let uses =
            "use aya::Ebpf;\nlet x = aya_obj::Object::parse(bytes);\n// aya::Ebpf\nlet aya = 1;";
        assert_eq!(loader(&text("engine/src/bind.rs", uses)).len(), 2);
        assert_eq!(loader(&text("engine/src/kernel/load.rs", uses)).len(), 0);
        assert_eq!(
            loader(&text("a.rs", "use nri::aya_like;\nuse aya_ebpf::x;")).len(),
            0
        );
    }

    #[test]
    fn unwraps_are_for_tests() {
        let call = concat!("    x.unwrap", "();\n");
        let test_module = format!("#[cfg(test)]\nmod tests {{\n{call}}}\n");
        assert_eq!(unwraps(&text("engine/src/a.rs", &test_module)).len(), 0);
        let code = format!("{test_module}fn f() {{\n{call}}}\n");
        assert_eq!(unwraps(&text("engine/src/a.rs", &code)).len(), 1);
        assert_eq!(unwraps(&text("engine/tests/a.rs", &code)).len(), 0);
        assert_eq!(unwraps(&text("engine/src/a_tests.rs", &code)).len(), 0);
        assert_eq!(unwraps(&text("tests/src/a.rs", &code)).len(), 1);
        let declared = format!("#[cfg(test)]\nmod a_tests;\nfn f() {{\n{call}}}\n");
        assert_eq!(unwraps(&text("engine/src/a.rs", &declared)).len(), 1);
    }

    #[test]
    fn files_open_with_their_reason() {
        assert!(opening(&text("a.rs", "//! Why.\n")).is_none());
        assert!(opening(&text("a.rs", "use std::fs;\n")).is_some());
    }

    #[test]
    fn white_space_at_the_end_is_found_by_the_line() {
        assert_eq!(
            trailing_space(&text("a.md", "a\nb \n")),
            ["a.md:2: white space at the end"]
        );
    }
}
