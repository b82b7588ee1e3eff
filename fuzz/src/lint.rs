//! Files that `execblock lint` reads.

use std::sync::LazyLock;

use execblock::{lint::lint_yaml, node::Node};

static NODE: LazyLock<Node> = LazyLock::new(|| Node::unchecked("/nonexistent"));

/// Reads the text, where it is one.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let lines = text.split(['\n', '\r']).count() + 1;
    for finding in lint_yaml(text, &NODE) {
        assert!(finding.line <= lines, "{finding:?}");
    }
}
