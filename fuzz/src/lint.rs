//! Files that `execblock lint` reads.
#![no_main]

use std::sync::LazyLock;

use execblock::{lint::lint_yaml, node::Node};
use libfuzzer_sys::fuzz_target;

static NODE: LazyLock<Node> = LazyLock::new(|| Node::unchecked("/nonexistent"));

fuzz_target!(|text: &str| {
    let lines = text.split(['\n', '\r']).count() + 1;
    for finding in lint_yaml(text, &NODE) {
        assert!(finding.line <= lines, "{finding:?}");
    }
});
