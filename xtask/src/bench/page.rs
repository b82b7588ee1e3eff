//! The table of docs/performance.md, made of the committed figures alone.

use std::fs;

use anyhow::{Context, Result};

use crate::{
    host, pages,
    vm::{cost::Figures, figures},
};

const PAGE: &str = "docs/performance.md";
const BEGIN: &str = "<!-- costs: written by cargo xtask bench chart -->";
const END: &str = "<!-- end of costs -->";
/// Of the mechanism that is taken first, the program that decides.
const DECIDES: (&str, &str) = ("lsm", "lsm_exec");

/// Writes them into the page.
pub(super) fn write(figures: &Figures) -> Result<()> {
    let file = host::checkout().join(PAGE);
    let page = fs::read_to_string(&file).context(PAGE)?;
    let page = with(&page, figures).with_context(missing)?;
    fs::write(&file, page).context(PAGE)
}

fn missing() -> String {
    format!("{PAGE} has no lines `{BEGIN}` and `{END}`")
}

fn with(page: &str, figures: &Figures) -> Option<String> {
    pages::replaced(page, BEGIN, END, &table(figures))
}

/// A row for each situation, a column for each mechanism, and one for the program that decides.
fn table(figures: &Figures) -> String {
    let mut mechanisms: Vec<&str> = figures::mechanisms().collect();
    mechanisms.sort_by_key(|name| *name == "signal");
    let (decides, program) = DECIDES;
    let names = mechanisms.iter().map(|name| format!(" `{name}` |"));
    let mut lines = vec![
        format!("| situation |{} `{program}` |", names.collect::<String>()),
        format!("|---|{}---|", "---|".repeat(mechanisms.len())),
    ];
    for one in of(figures, decides) {
        let cells = mechanisms.iter().map(|mechanism| {
            let mut same = of(figures, mechanism).filter(|other| other.what == one.what);
            same.next().map_or_else(String::new, |it| grouped(it.exec))
        });
        let cells: Vec<String> = cells.collect();
        let alone = one.programs.get(program).copied().unwrap_or_default();
        lines.push(format!(
            "| {} | {} | {} |",
            one.what,
            cells.join(" | "),
            grouped(alone)
        ));
    }
    lines.join("\n")
}

/// Those of a mechanism with something to tell.
fn of<'a>(
    figures: &'a Figures,
    mechanism: &'a str,
) -> impl Iterator<Item = &'a crate::vm::cost::Figure> {
    let all = figures.figures.iter();
    all.filter(move |figure| figure.mechanism == mechanism && figure.exec != 0)
}

/// A number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cost;

    #[test]
    fn the_page_has_the_committed_figures() {
        let figures = cost::committed().unwrap().unwrap();
        let page = fs::read_to_string(host::checkout().join(PAGE)).unwrap();
        let expected = with(&page, &figures).unwrap_or_else(|| panic!("{}", missing()));
        assert!(
            page == expected,
            "cargo xtask bench chart writes {PAGE} anew"
        );
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let all = [0, 999, 1000, 65_536, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "999", "1,000", "65,536", "1,234,567"]);
    }
}
