//! The chart of docs/performance.md, made of the committed figures alone.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use plotters::coord::{
    Shift,
    ranged1d::{AsRangedCoord, ValueFormatter},
};
use plotters::prelude::{
    ChartBuilder, Circle, Color as _, DrawingArea, IntoDrawingArea as _, IntoLogRange as _,
    LineSeries, PathElement, RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
};

use crate::vm::cost::Figures;

/// Where it is committed, below the checkout.
pub(super) const CHART: &str = "docs/cost.svg";

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// Points by the name of their line.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

/// Of the mechanism that is taken first; the last panel has all.
const MECHANISM: &str = "lsm";
const COLOURS: [RGBColor; 7] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(90, 90, 90),
];

/// An SVG of four panels: by rules, by containers, by depth, by the path's length.
pub(super) fn of(figures: &Figures) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (1200, 900)).into_drawing_area();
        draw(&area, figures).map_err(|error| anyhow!("drawing: {error}"))?;
    }
    Ok(svg)
}

fn draw(area: &Area<'_>, figures: &Figures) -> Result<()> {
    area.fill(&WHITE)?;
    let panels = area.split_evenly((2, 2));
    let [rules, containers, depth, path] = panels.as_slice() else {
        return Err(anyhow!("four panels"));
    };
    let log = (1.0..1000.0).log_scale();
    panel(rules, "rules of a kind", log, &by_rules(figures))?;
    panel(
        containers,
        "containers bound beside",
        0.0..17_000.0,
        &by_containers(figures),
    )?;
    panel(
        depth,
        "cgroups between it and the bound one",
        0.0..17.0,
        &by_depth(figures),
    )?;
    panel(
        path,
        "bytes of the program's path",
        0.0..2_600.0,
        &by_length(figures),
    )?;
    Ok(())
}

fn panel<X>(area: &Area<'_>, what: &str, range: X, lines: &Lines) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
{
    let points = lines.values().flatten();
    let most = points.map(|(_, y)| *y).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d(range, 0.0..most * 1.6)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(what)
        .y_desc("instructions an exec")
        .light_line_style(WHITE)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        let dots = points.iter();
        chart.draw_series(dots.map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    let mut labels = chart.configure_series_labels();
    labels
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .draw()?;
    Ok(())
}

/// Points of the figures that `place` finds a line and a place on the axis for.
fn lines(figures: &Figures, place: impl Fn(&str, &str) -> Option<(String, f64)>) -> Lines {
    let mut lines = Lines::new();
    for figure in &figures.figures {
        if let Some((line, x)) = place(&figure.mechanism, &figure.what) {
            let exec = u32::try_from(figure.exec).unwrap_or(u32::MAX);
            lines.entry(line).or_default().push((x, exec.into()));
        }
    }
    lines
}

/// `bound, 100 path` and `bound, allow-list of 100 names`
fn by_rules(figures: &Figures) -> Lines {
    lines(figures, |mechanism, what| {
        let rest = what
            .strip_prefix("bound, ")
            .filter(|_| mechanism == MECHANISM)?;
        if let Some(rest) = rest.strip_prefix("allow-list of ") {
            let number = rest.strip_suffix(" names")?.parse().ok()?;
            return Some(("allow-list".to_owned(), number));
        }
        let (number, kind) = rest.split_once(' ')?;
        (!kind.contains(',')).then_some((kind.to_owned(), number.parse().ok()?))
    })
}

/// `bound, 1 name, 1000 others`, `host, 1000 others bound`
fn by_containers(figures: &Figures) -> Lines {
    lines(figures, |mechanism, what| {
        if mechanism != MECHANISM {
            return None;
        }
        match what {
            "host, nothing bound" => return Some(("host".to_owned(), 0.0)),
            "bound, 1 name" => return Some((what.to_owned(), 0.0)),
            _ => {}
        }
        let (line, rest) = what.rsplit_once(", ")?;
        let (number, _) = rest.split_once(" others")?;
        Some((line.to_owned(), number.parse().ok()?))
    })
}

/// `bound, 1 name, 16 levels below`
fn by_depth(figures: &Figures) -> Lines {
    lines(figures, |mechanism, what| {
        let depth = what
            .strip_prefix("bound, 1 name, ")?
            .strip_suffix(" levels below")?;
        Some((mechanism.to_owned(), depth.parse().ok()?))
    })
}

/// `bound, 1 name, path of 174 bytes`
fn by_length(figures: &Figures) -> Lines {
    lines(figures, |mechanism, what| {
        if what == "bound, 1 name" {
            let usual = "/usr/bin/true".len();
            return Some((mechanism.to_owned(), u32::try_from(usual).ok()?.into()));
        }
        let bytes = what.strip_prefix("bound, 1 name, path of ")?;
        let bytes = bytes.strip_suffix(" bytes")?.parse().ok()?;
        Some((mechanism.to_owned(), bytes))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{bench::cost, host};

    fn committed() -> Figures {
        cost::committed().unwrap().unwrap()
    }

    #[test]
    fn each_panel_has_its_lines() {
        let figures = committed();
        let rules = by_rules(&figures);
        assert_eq!(rules["name"].len(), 4, "{rules:?}");
        assert!(rules.contains_key("directory"), "{rules:?}");
        let containers = by_containers(&figures);
        let names: Vec<&str> = containers.keys().map(String::as_str).collect();
        assert_eq!(names, ["bound, 1 name", "host"]);
        assert!(
            containers.values().all(|points| points.len() == 3),
            "{containers:?}"
        );
        for (lines, points) in [(by_depth(&figures), 3), (by_length(&figures), 4)] {
            assert_eq!(lines.len(), 4, "{lines:?}");
            assert!(lines.values().all(|all| all.len() == points), "{lines:?}");
        }
    }

    #[test]
    fn the_committed_one_is_of_the_committed_figures() {
        let chart = fs::read_to_string(host::checkout().join(CHART)).unwrap();
        assert!(
            chart == of(&committed()).unwrap(),
            "cargo xtask bench chart makes {CHART} anew"
        );
    }
}
