//! A translation says the same in the same order: `cargo xtask tidy` compares its shape, and what
//! is to be typed or followed.

use pulldown_cmark::{CodeBlockKind, Event, Tag, TagEnd};

use crate::pages;

/// A part of a page that has the same place in its translation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Heading(usize),
    Paragraph,
    Item,
    Row,
    /// Language and text.
    Code(String),
    Link(String),
}

/// A part and its line.
type Placed = (usize, Part);

/// How the translation differs, by its first part that does.
pub(crate) fn problem(original: (&str, &str), translation: (&str, &str)) -> Option<String> {
    let counterpart = |part: &Part| match part {
        // Each links to the other.
        Part::Link(to) if to == translation.0 => Part::Link(original.0.to_owned()),
        same => same.clone(),
    };
    let parts = parts(original.1);
    let theirs = self::parts(translation.1);
    let both = parts.iter().zip(&theirs);
    if let Some(((line, part), (their_line, their_part))) = both
        .into_iter()
        .find(|((_, part), (_, their_part))| counterpart(part) != *their_part)
    {
        return Some(format!(
            "{}:{their_line}: {their_part:?}, in {}:{line} {part:?}",
            translation.0, original.0
        ));
    }
    (parts.len() != theirs.len()).then(|| {
        let (longer, line) = if parts.len() > theirs.len() {
            (original.0, parts[theirs.len()].0)
        } else {
            (translation.0, theirs[parts.len()].0)
        };
        format!("{longer}:{line}: the other ends before this")
    })
}

fn parts(text: &str) -> Vec<Placed> {
    let mut parts: Vec<Placed> = Vec::new();
    // Words change places in a translation; links within a paragraph may.
    let mut links: Vec<Placed> = Vec::new();
    let mut code = None;
    for (event, range) in pages::parse(text).into_offset_iter() {
        let line = text[..range.start].matches('\n').count() + 1;
        let part = match event {
            Event::Start(Tag::Heading { level, .. }) => Part::Heading(level as usize),
            Event::Start(Tag::Paragraph) => Part::Paragraph,
            Event::Start(Tag::Item) => Part::Item,
            Event::Start(Tag::TableRow | Tag::TableHead) => Part::Row,
            Event::Start(Tag::CodeBlock(kind)) => {
                code = Some(match kind {
                    CodeBlockKind::Fenced(language) => format!("{language}\n"),
                    CodeBlockKind::Indented => String::new(),
                });
                continue;
            }
            Event::Text(more) => {
                if let Some(code) = &mut code {
                    code.push_str(&more);
                }
                continue;
            }
            Event::End(TagEnd::CodeBlock) => Part::Code(code.take().unwrap_or_default()),
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                links.push((line, Part::Link(dest_url.to_string())));
                continue;
            }
            _ => continue,
        };
        settle(&mut parts, &mut links);
        parts.push((line, part));
    }
    settle(&mut parts, &mut links);
    parts
}

/// The links of one part, in an order of their own.
fn settle(parts: &mut Vec<Placed>, links: &mut Vec<Placed>) {
    let key = |(_, part): &Placed| match part {
        Part::Link(to) => to.clone(),
        _ => String::new(),
    };
    links.sort_by_key(key);
    parts.append(links);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGLISH: &str = "# A\n\nSee [b](b.md) and [c](c.md).\n\n```sh\n# not a heading\nrun\n```\n\
                           \n## B\n\n- one\n\n[other](zh.md)\n";

    fn compare(translation: &str) -> Option<String> {
        problem(("en.md", ENGLISH), ("zh.md", translation))
    }

    #[test]
    fn a_translation_has_the_same_shape() {
        let same = "# 甲\n\n看 [丙](c.md) 和 [乙](b.md)。\n\n```sh\n# not a heading\nrun\n```\n\
                    \n## 乙\n\n- 一\n\n[另](en.md)\n";
        assert_eq!(compare(same), None);
        for (from, to) in [
            ("## 乙", "### 乙"),
            ("\nrun\n", "\nwalk\n"),
            ("b.md", "d.md"),
            ("- 一", "一"),
            ("```sh", "```"),
            ("[另](en.md)", ""),
            ("[另](en.md)", "[另](en.md)\n\n多"),
        ] {
            let other = same.replacen(from, to, 1);
            let told = compare(&other);
            assert!(told.is_some(), "{from} → {to}");
        }
    }
}
