//! What `cargo xtask tidy` asks of the documents: links lead somewhere, files that are named are
//! there, and the site has every page.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The site's table of contents.
const SUMMARY: &str = "docs/SUMMARY.md";
/// Where files that are no pages of the site are linked to.
const TREE: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/");
/// Folders of files that pages name without a link.
const NAMED: &[&str] = &["docs/", "examples/"];

/// A Markdown file, by its path in the checkout.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    pub(crate) path: &'a str,
    links: Vec<Link>,
    anchors: BTreeSet<String>,
    named: Vec<(usize, String)>,
}

#[derive(Debug)]
struct Link {
    line: usize,
    to: String,
}

pub(crate) fn parse(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

impl<'a> Page<'a> {
    pub(crate) fn new(path: &'a str, text: &str) -> Self {
        let line_of = |offset: usize| text[..offset].matches('\n').count() + 1;
        let mut links = Vec::new();
        let mut headings = Headings::default();
        for (event, range) in parse(text).into_offset_iter() {
            if let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = &event {
                links.push(Link {
                    line: line_of(range.start),
                    to: dest_url.to_string(),
                });
            }
            headings.take(&event);
        }
        let named = text.lines().enumerate().flat_map(|(number, line)| {
            named_files(line).map(move |name| (number + 1, name.to_owned()))
        });
        Self {
            path,
            links,
            anchors: headings.anchors,
            named: named.collect(),
        }
    }

    fn is_of_site(&self) -> bool {
        self.path.starts_with("docs/")
    }
}

/// The anchors of a page, as GitHub and mdbook make them.
#[derive(Debug, Default)]
struct Headings {
    /// Of the heading that is being read.
    text: Option<String>,
    anchors: BTreeSet<String>,
    seen: BTreeMap<String, usize>,
}

impl Headings {
    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Start(Tag::Heading { .. }) => self.text = Some(String::new()),
            Event::Text(part) | Event::Code(part) => {
                if let Some(text) = &mut self.text {
                    text.push_str(part);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let anchor = anchor(&self.text.take().unwrap_or_default());
                let before = self.seen.entry(anchor.clone()).or_default();
                self.anchors.insert(match *before {
                    0 => anchor,
                    more => format!("{anchor}-{more}"),
                });
                *before += 1;
            }
            _ => {}
        }
    }
}

fn anchor(heading: &str) -> String {
    heading
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            _ if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// Files that a line names, with a link or without.
fn named_files(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || "_./-".contains(c)))
        .map(|word| word.trim_end_matches('.').trim_start_matches("../"))
        .filter(|word| NAMED.iter().any(|folder| word.starts_with(folder)))
}

/// All that is wrong with the pages of a tree of these files.
pub(crate) fn problems(pages: &[Page<'_>], files: &BTreeSet<&str>) -> Vec<String> {
    let mut problems = Vec::new();
    for page in pages {
        for link in &page.links {
            if let Some(what) = broken(page, link, pages, files) {
                problems.push(format!("{}:{}: {}: {what}", page.path, link.line, link.to));
            }
        }
        for (line, name) in &page.named {
            if !exists(name, files) {
                problems.push(format!("{}:{line}: there is no {name}", page.path));
            }
        }
    }
    problems.extend(missing_in_site(pages));
    problems
}

/// Why the link leads nowhere, if it does not.
fn broken(
    page: &Page<'_>,
    link: &Link,
    pages: &[Page<'_>],
    files: &BTreeSet<&str>,
) -> Option<String> {
    if let Some(path) = link.to.strip_prefix(TREE) {
        return (!exists(path, files)).then(|| "there is no such file".into());
    }
    if let Some((scheme, rest)) = link.to.split_once(':') {
        return elsewhere(scheme, rest).map(Into::into);
    }
    let (file, anchor) = link.to.split_once('#').unwrap_or((&link.to, ""));
    let target = if file.is_empty() {
        Some(page.path.to_owned())
    } else {
        beside(page.path, file)
    };
    let Some(target) = target else {
        return Some("leaves the tree".into());
    };
    if !exists(&target, files) {
        return Some("there is no such file".into());
    }
    if page.is_of_site() && !target.starts_with("docs/") {
        return Some(format!("is not on the site: begin with {TREE}"));
    }
    let headings = pages.iter().find(|page| page.path == target);
    let has = |page: &Page<'_>| page.anchors.contains(anchor);
    (!anchor.is_empty() && !headings.is_some_and(has))
        .then(|| format!("{target} has no such heading"))
}

/// What is not of this tree is not fetched: it must only be written as it should.
fn elsewhere(scheme: &str, rest: &str) -> Option<&'static str> {
    match scheme {
        "https" => {
            let host = rest.strip_prefix("//").unwrap_or_default();
            let host = host.split('/').next().unwrap_or_default();
            let fits = host.contains('.') && !rest.contains(char::is_whitespace);
            (!fits).then_some("is no address")
        }
        "mailto" => (!rest.contains('@')).then_some("is no address"),
        _ => Some("expected https"),
    }
}

fn exists(path: &str, files: &BTreeSet<&str>) -> bool {
    let path = path.trim_end_matches('/');
    files.contains(path)
        || files
            .iter()
            .any(|file| file.strip_prefix(path).is_some_and(|f| f.starts_with('/')))
}

/// A link's target, by its path in the tree.
fn beside(page: &str, link: &str) -> Option<String> {
    let mut path = Path::new(page).parent()?.to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if path.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    PathBuf::into_os_string(path).into_string().ok()
}

fn missing_in_site(pages: &[Page<'_>]) -> Vec<String> {
    let Some(summary) = pages.iter().find(|page| page.path == SUMMARY) else {
        return vec![format!("there is no {SUMMARY}")];
    };
    let listed = |page: &Page<'_>| {
        let target = |link: &Link| beside(SUMMARY, &link.to);
        let links = summary.links.iter().filter_map(target);
        links.filter(|target| target == page.path).count()
    };
    pages
        .iter()
        .filter(|page| page.is_of_site() && page.path != SUMMARY && listed(page) != 1)
        .map(|page| {
            format!(
                "{SUMMARY}: {} stands there {} times",
                page.path,
                listed(page)
            )
        })
        .collect()
}

/// The page with this text between two of its lines; `None` where it has not both.
pub(crate) fn replaced(page: &str, begin: &str, end: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{text}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(texts: &[(&'static str, &str)]) -> Vec<String> {
        let pages: Vec<_> = texts
            .iter()
            .map(|(path, text)| Page::new(path, text))
            .collect();
        let files = texts.iter().map(|(path, _)| *path).collect();
        problems(&pages, &files)
    }

    const ALL: (&str, &str) = ("docs/SUMMARY.md", "[a](a.md)\n");

    #[test]
    fn links_lead_to_files_and_headings() {
        let a = ("docs/a.md", "# The `page`, A\n## Twice\n## Twice\n");
        let good = "[x](docs/a.md#the-page-a) [y](docs/a.md#twice-1) [z](#b) \
                    [u](https://a.example/x)\n\n# B\n";
        assert_eq!(check(&[ALL, a, ("README.md", good)]), Vec::<String>::new());
        for (wrong, why) in [
            ("[x](docs/b.md)", "no such file"),
            ("[x](docs/a.md#twice-2)", "no such heading"),
            ("[x](../README.md)", "leaves the tree"),
            ("[x](http://a.example/)", "expected https"),
            ("[x](https://nowhere)", "no address"),
            ("see docs/b.md.", "there is no docs/b.md"),
            ("`examples/x`", "there is no examples/x"),
        ] {
            let found = check(&[ALL, a, ("README.md", &format!("\n{wrong}\n"))]);
            assert!(
                found
                    .iter()
                    .any(|line| line.contains(why) && line.starts_with("README.md:2:")),
                "{wrong}: {found:?}"
            );
        }
    }

    #[test]
    fn the_site_has_each_page_once_and_links_stay_on_it() {
        let twice = ("docs/SUMMARY.md", "[a](a.md) [a](a.md)\n");
        assert_eq!(check(&[twice, ("docs/a.md", "# A\n")]).len(), 1);
        assert_eq!(check(&[ALL, ("docs/a.md", ""), ("docs/b.md", "")]).len(), 1);
        let readme = ("README.md", "# R\n");
        let out = ("docs/a.md", "[r](../README.md)\n");
        assert!(check(&[ALL, out, readme])[0].contains("not on the site"));
        let tree = format!("[r]({TREE}README.md)\n");
        assert_eq!(
            check(&[ALL, ("docs/a.md", &tree), readme]),
            Vec::<String>::new()
        );
        let gone = format!("[r]({TREE}gone)\n");
        assert_eq!(check(&[ALL, ("docs/a.md", &gone), readme]).len(), 1);
    }

    #[test]
    fn text_is_replaced_between_its_marks() {
        let page = "before <!-- b --> old <!-- e --> after";
        let new = replaced(page, "<!-- b -->", "<!-- e -->", "new").unwrap();
        assert_eq!(new, "before <!-- b -->\nnew\n<!-- e --> after");
        assert_eq!(replaced("nothing", "<!-- b -->", "<!-- e -->", "new"), None);
    }
}
