//! What libFuzzer prints, as far as it is worth a line.

/// Above the lines of the targets.
pub(crate) const HEADER: &str =
    "target         executions     a second      edges     corpus   findings";

/// What came of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    executions: u64,
    per_second: u64,
    /// Edges of the control flow that were seen.
    edges: u64,
    /// Inputs that are worth keeping.
    corpus: u64,
    /// The file with the input that failed.
    pub(crate) input: Option<String>,
    /// What is said of it.
    pub(crate) reason: String,
}

impl Summary {
    /// From all that a target printed.
    pub(crate) fn of(output: &str) -> Self {
        let mut summary = Self::default();
        for line in output.lines() {
            summary.take(line.trim_end());
        }
        summary
    }

    fn take(&mut self, line: &str) {
        if let Some((name, number)) = stat(line) {
            match name {
                "number_of_executed_units" => self.executions = number,
                "average_exec_per_sec" => self.per_second = number,
                _ => {}
            }
        } else if let Some(status) = line.strip_prefix('#') {
            self.status(status);
        } else if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.input = Some(file.to_owned());
        } else if line.starts_with("==") && line.contains("ERROR: libFuzzer") {
            // A panic has said more.
            if self.reason.is_empty() {
                line.clone_into(&mut self.reason);
            }
        } else if line.starts_with("thread ") && line.contains(" panicked at ") {
            line.clone_into(&mut self.reason);
        }
    }

    /// `#1234  NEW    cov: 5 ft: 6 corp: 7/890b lim: 4 exec/s: 8 rss: 9Mb …`
    fn status(&mut self, status: &str) {
        let mut words = status.split_ascii_whitespace();
        let Some(Ok(executions)) = words.next().map(str::parse) else {
            return;
        };
        self.executions = executions;
        while let Some(word) = words.next() {
            match word {
                "cov:" => self.edges = number(words.next()).unwrap_or(self.edges),
                "exec/s:" => self.per_second = number(words.next()).unwrap_or(self.per_second),
                "corp:" => {
                    let count = words.next().and_then(|both| both.split('/').next());
                    self.corpus = number(count).unwrap_or(self.corpus);
                }
                _ => {}
            }
        }
    }

    /// For people, below [`HEADER`].
    pub(crate) fn line(&self, target: &str) -> String {
        let found = match &self.input {
            None => "0".to_owned(),
            Some(file) => format!("1: {file}"),
        };
        let Self {
            executions,
            per_second,
            edges,
            corpus,
            ..
        } = self;
        format!("{target:12} {executions:>12} {per_second:>12} {edges:>10} {corpus:>10}   {found}")
    }
}

/// `stat::NAME: NUMBER`
fn stat(line: &str) -> Option<(&str, u64)> {
    let (name, value) = line.strip_prefix("stat::")?.split_once(':')?;
    Some((name, number(Some(value))?))
}

fn number(word: Option<&str>) -> Option<u64> {
    word?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
INFO: seed corpus: files: 7 min: 5b max: 300b total: 900b rss: 33Mb
#8	INITED cov: 510 ft: 700 corp: 7/900b exec/s: 0 rss: 35Mb
#4096	pulse  cov: 1510 ft: 4700 corp: 310/9000b lim: 43 exec/s: 2048 rss: 60Mb
\t NEW_FUNC[1/2]: 0x5581 in f
#90210	REDUCE cov: 1602 ft: 5000 corp: 402/12Kb lim: 80 exec/s: 3007 rss: 70Mb L: 20/80 MS: 1 CrossOver-
#91000	DONE   cov: 1602 ft: 5000 corp: 402/12Kb lim: 80 exec/s: 3033 rss: 70Mb
###### Recommended dictionary. ######
\"ab\" # Uses: 10
Done 91000 runs in 30 second(s)
stat::number_of_executed_units: 91001
stat::average_exec_per_sec:     3033
stat::new_units_added:          395
";

    #[test]
    fn what_went_well_is_a_line_of_figures() {
        let summary = Summary::of(GOOD);
        let expected = Summary {
            executions: 91_001,
            per_second: 3033,
            edges: 1602,
            corpus: 402,
            input: None,
            reason: String::new(),
        };
        assert_eq!(summary, expected);
        let words: Vec<_> = HEADER.split_ascii_whitespace().collect();
        assert_eq!(words.len(), 7);
        let line = summary.line("nri");
        let figures: Vec<_> = line.split_ascii_whitespace().collect();
        assert_eq!(figures, ["nri", "91001", "3033", "1602", "402", "0"]);
        // Figures stand below what they are called.
        assert_eq!(
            line.find("1602").map(|at| at + 4),
            HEADER.find("edges").map(|at| at + 5)
        );
    }

    #[test]
    fn a_finding_has_its_file_and_its_reason() {
        let text = "\
#90210	NEW    cov: 1602 ft: 5000 corp: 402/12Kb lim: 80 exec/s: 3007 rss: 70Mb

thread '<unnamed>' (71) panicked at fuzz/src/oci.rs:40:9:
assertion failed: x
==71== ERROR: libFuzzer: deadly signal
    #0 0x55 in f
SUMMARY: libFuzzer: deadly signal
artifact_prefix='/f/'; Test unit written to /f/crash-0a1b
Base64: AA==
";
        let summary = Summary::of(text);
        assert_eq!(summary.input.as_deref(), Some("/f/crash-0a1b"));
        assert!(
            summary.reason.contains("panicked at fuzz/src/oci.rs:40"),
            "{summary:?}"
        );
        assert_eq!((summary.executions, summary.edges), (90_210, 1602));
        assert!(summary.line("oci").ends_with("1: /f/crash-0a1b"));
        let slow = "==7== ERROR: libFuzzer: timeout after 10 seconds\n";
        assert!(Summary::of(slow).reason.contains("timeout"));
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        for text in ["", "#", "#x cov: y", "stat::a", "# cov: 5", "#5 cov: corp:"] {
            let summary = Summary::of(text);
            assert_eq!((summary.edges, summary.corpus), (0, 0), "{text}");
            assert_eq!(summary.input, None);
        }
    }
}
