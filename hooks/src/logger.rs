//! What the library warns of, as one line each on standard error: runtimes keep
//! what their hooks print.

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr {
    program: &'static str,
}

impl Log for Stderr {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        // The greatest level says it.
        true
    }

    #[expect(clippy::print_stderr, reason = "where runtimes look for reasons")]
    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string().replace('\n', " ");
        eprintln!("{}: {text}", self.program);
    }

    fn flush(&self) {}
}

/// Shows warnings and errors under the name of this program.
pub fn init(program: &'static str) {
    // Where there is one already, it goes on.
    if log::set_boxed_logger(Box::new(Stderr { program })).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}
