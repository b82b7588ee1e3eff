//! YAML as a tree that knows the lines it came from.
//!
//! Aliases share what they stand for, and depth is bounded: no file makes the
//! tree larger or deeper than itself.

use std::{collections::HashMap, rc::Rc};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

/// Deepest nesting; a pod has less than 20 levels.
const DEPTH_MAX: usize = 64;

/// A value and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) value: Value,
}

/// A value of YAML.
#[derive(Debug)]
pub(super) enum Value {
    /// Text as it is after unquoting; `plain` where it had no quotes and so may
    /// be a number.
    Scalar { text: String, plain: bool },
    /// A sequence.
    Sequence(Vec<Rc<Node>>),
    /// Keys that are scalars, in their order.
    Mapping(Vec<(Rc<Node>, Rc<Node>)>),
}

/// Why a file is no YAML, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct YamlError {
    pub(super) line: usize,
    pub(super) problem: String,
}

impl Node {
    /// The value of a key of a mapping; the last one where it stands twice.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let entries = self.entries().iter().rev();
        let mut found = entries.filter(|(name, _)| name.text() == Some(key));
        found.next().map(|(_, value)| &**value)
    }

    /// The node at the end of these keys.
    pub(super) fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Keys and values of a mapping; none of anything else.
    pub(super) fn entries(&self) -> &[(Rc<Node>, Rc<Node>)] {
        match &self.value {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// Items of a sequence; none of anything else.
    pub(super) fn items(&self) -> &[Rc<Node>] {
        match &self.value {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The text of a scalar that Kubernetes takes for a string: what has no
    /// quotes and reads as something else is none.
    pub(super) fn string(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, plain } if !plain || !is_other(text) => Some(text),
            _ => None,
        }
    }
}

/// Whether a plain scalar is a boolean, a number or nothing: YAML 1.1, which
/// Kubernetes reads (sigs.k8s.io/yaml).
fn is_other(text: &str) -> bool {
    const WORDS: [&str; 9] = ["", "~", "null", "true", "false", "yes", "no", "on", "off"];
    let lower = text.to_ascii_lowercase();
    WORDS.contains(&lower.as_str())
        || text.parse::<f64>().is_ok() && !lower.contains("nan") && !lower.contains("inf")
}

/// A collection that is not complete yet.
struct Open {
    anchor: usize,
    line: usize,
    value: Value,
    /// Of a mapping: the key whose value comes next.
    key: Option<Rc<Node>>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    documents: Vec<Rc<Node>>,
}

/// The documents of a file.
///
/// # Errors
///
/// The first place that is no YAML.
pub(super) fn parse(text: &str) -> Result<Vec<Rc<Node>>, YamlError> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| scan_error(&error))?;
        builder.event(event, span)?;
    }
    Ok(builder.documents)
}

fn scan_error(error: &ScanError) -> YamlError {
    YamlError {
        line: error.marker().line(),
        problem: error.info().to_owned(),
    }
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, _tag) => {
                let value = Value::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                };
                self.add(anchor, Node { line, value });
            }
            Event::SequenceStart(anchor, _tag) => {
                self.begin(anchor, line, Value::Sequence(Vec::new()))?;
            }
            Event::MappingStart(anchor, _tag) => {
                self.begin(anchor, line, Value::Mapping(Vec::new()))?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| YamlError {
                    line,
                    problem: "an alias within what it stands for".to_owned(),
                })?;
                self.put(node);
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn begin(&mut self, anchor: usize, line: usize, value: Value) -> Result<(), YamlError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(YamlError {
                line,
                problem: format!("nested deeper than {DEPTH_MAX} levels"),
            });
        }
        self.open.push(Open {
            anchor,
            line,
            value,
            key: None,
        });
        Ok(())
    }

    fn end(&mut self) {
        if let Some(Open {
            anchor,
            line,
            value,
            ..
        }) = self.open.pop()
        {
            self.add(anchor, Node { line, value });
        }
    }

    fn add(&mut self, anchor: usize, node: Node) {
        let node = Rc::new(node);
        // 0 is no anchor.
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.put(node);
    }

    fn put(&mut self, node: Rc<Node>) {
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return;
        };
        match &mut open.value {
            Value::Sequence(items) => items.push(node),
            Value::Mapping(entries) => match open.key.take() {
                None => open.key = Some(node),
                Some(key) => entries.push((key, node)),
            },
            // Has nothing in it.
            Value::Scalar { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_documents_are_known() {
        let documents = parse("a: 1\n---\n# c\nb:\n  c: [x,\n    y]\n  d: 'no'\n").unwrap();
        assert_eq!(documents.len(), 2);
        let c = documents[1].at(&["b", "c"]).unwrap();
        assert_eq!((c.line, c.items()[1].line), (5, 6));
        assert_eq!(documents[1].at(&["b", "d"]).unwrap().string(), Some("no"));
        assert_eq!(documents[1].get("b").unwrap().line, 5);
    }

    #[test]
    fn what_has_no_quotes_and_is_no_text_is_no_string() {
        for (text, string) in [
            ("whoami", true),
            ("'1'", true),
            ("1", false),
            ("1.5", false),
            ("yes", false),
            ("Off", false),
            ("~", false),
            ("", false),
            ("nano", true),
            ("infocmp", true),
            ("a: b", true),
        ] {
            let documents = parse(&format!(
                "k: {}",
                if text == "a: b" { "'a: b'" } else { text }
            ));
            let value = documents.unwrap();
            assert_eq!(
                value[0].get("k").unwrap().string().is_some(),
                string,
                "{text:?}"
            );
        }
    }

    #[test]
    fn aliases_are_shared_and_depth_is_bounded() {
        let bomb = (1..30).fold("a0: &a0 [x]\n".to_owned(), |all, n| {
            format!("{all}a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1)
        });
        assert_eq!(parse(&bomb).unwrap()[0].entries().len(), 30);
        let deep = "[".repeat(10_000);
        assert!(parse(&deep).is_err());
        assert!(parse("a: &a [*a]").is_err());
        assert_eq!(parse("a: b\nc: *d\n").unwrap_err().line, 2);
    }
}
