//! Charts of the report, as SVG text whose colours are those of the page, light or dark.

use anyhow::{Result, anyhow};
use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// Width and height in the units of the SVG; the page scales it.
const SIZE: (u32, u32) = (520, 330);
const BINS: usize = 48;
/// Scores beyond these quantiles are counted in the first and last bin.
const SHOWN: (f64, f64) = (0.002, 0.998);
/// Points of the ROC curve that are drawn at most.
const POINTS: usize = 500;

/// Colours that stand for the page's own; no two are alike and none is used elsewhere.
const INK: RGBColor = RGBColor(1, 2, 3);
const GRID: RGBColor = RGBColor(4, 5, 6);
const NORMAL: RGBColor = RGBColor(7, 8, 9);
const ANOMALOUS: RGBColor = RGBColor(10, 11, 12);
const VARIABLES: [(&str, &str); 4] = [
    ("#010203", "var(--ink)"),
    ("#040506", "var(--grid)"),
    ("#070809", "var(--normal)"),
    ("#0A0B0C", "var(--anomalous)"),
];

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Share of normal and of anomalous images per range of scores, with the threshold if there is one.
pub(crate) fn histogram(
    normal: &[f64],
    anomalous: &[f64],
    threshold: Option<f64>,
) -> Result<String> {
    let mut all: Vec<f64> = normal.iter().chain(anomalous).copied().collect();
    all.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| all.get((q * all.len().saturating_sub(1) as f64) as usize).copied();
    let (low, high) = (at(SHOWN.0).unwrap_or(0.0), at(SHOWN.1).unwrap_or(1.0));
    let low = threshold.map_or(low, |t| low.min(t));
    let high = threshold.map_or(high, |t| high.max(t));
    let (low, high) = if high > low { (low, high) } else { (low - 0.5, low + 0.5) };
    let width = (high - low) / BINS as f64;
    let sets = [(shares(normal, low, width), NORMAL), (shares(anomalous, low, width), ANOMALOUS)];
    let top = sets.iter().flat_map(|(shares, _)| shares).copied().fold(0.0, f64::max) * 1.05;
    draw(|canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .margin(10)
            .x_label_area_size(38)
            .y_label_area_size(52)
            .build_cartesian_2d(low..high, 0.0..top)
            .map_err(plain)?;
        mesh(chart.configure_mesh(), "score (higher = stranger)", "% of images")?;
        for (shares, colour) in sets {
            let bar = |(i, share): (usize, f64)| {
                let left = low + i as f64 * width;
                Rectangle::new([(left, 0.0), (left + width, share)], colour.mix(0.55).filled())
            };
            chart.draw_series(shares.into_iter().enumerate().map(bar)).map_err(plain)?;
        }
        if let Some(threshold) = threshold {
            let line = LineSeries::new([(threshold, 0.0), (threshold, top)], INK.stroke_width(2));
            chart.draw_series(line).map_err(plain)?;
        }
        Ok(())
    })
}

/// The ROC curve through `points` (false-alarm rate, hit rate).
pub(crate) fn roc(points: &[(f64, f64)]) -> Result<String> {
    let step = points.len().div_ceil(POINTS).max(1);
    let mut shown: Vec<(f64, f64)> = points.iter().copied().step_by(step).collect();
    shown.push((1.0, 1.0));
    draw(|canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .margin(10)
            .x_label_area_size(38)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..100.0, 0.0..100.0)
            .map_err(plain)?;
        mesh(chart.configure_mesh(), "false alarms, % of normal images", "% of anomalous found")?;
        let percent = shown.into_iter().map(|(x, y)| (100.0 * x, 100.0 * y));
        let chance = LineSeries::new([(0.0, 0.0), (100.0, 100.0)], GRID.stroke_width(2));
        chart.draw_series(chance).map_err(plain)?;
        let curve = AreaSeries::new(percent, 0.0, ANOMALOUS.mix(0.15));
        chart.draw_series(curve.border_style(ANOMALOUS.stroke_width(2))).map_err(plain)?;
        Ok(())
    })
}

fn shares(scores: &[f64], low: f64, width: f64) -> Vec<f64> {
    let mut shares = vec![0.0; BINS];
    for score in scores {
        let bin = ((score - low) / width).clamp(0.0, (BINS - 1) as f64) as usize;
        shares[bin] += 100.0 / scores.len() as f64;
    }
    shares
}

fn mesh<'a, 'b>(
    mut mesh: MeshStyle<'a, 'b, RangedCoordf64, RangedCoordf64, SVGBackend<'_>>,
    x: &str,
    y: &str,
) -> Result<()> {
    let font = ("sans-serif", 16).into_font().color(&INK);
    mesh.disable_x_mesh()
        .x_desc(x)
        .y_desc(y)
        .x_labels(6)
        .y_labels(5)
        .axis_style(GRID)
        .bold_line_style(GRID.mix(0.6))
        .light_line_style(TRANSPARENT)
        .label_style(font.clone())
        .axis_desc_style(font)
        .draw()
        .map_err(plain)
}

fn draw(paint: impl FnOnce(&Canvas<'_>) -> Result<()>) -> Result<String> {
    let mut text = String::new();
    {
        let canvas = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        paint(&canvas)?;
        canvas.present().map_err(plain)?;
    }
    for (colour, variable) in VARIABLES {
        text = text.replace(colour, variable);
    }
    // Without a size of its own the drawing takes the page's.
    let (width, height) = SIZE;
    let text = text.replacen(&format!("width=\"{width}\" height=\"{height}\" "), "", 1);
    // Inside a page the name space is known.
    Ok(text.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1))
}

fn plain(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw a chart: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_use_the_colours_of_the_page_only() {
        let histogram = histogram(&[1.0, 2.0, 2.5], &[4.0, 9.0], Some(3.0)).unwrap();
        let roc = roc(&[(0.0, 0.0), (0.5, 0.9), (1.0, 1.0)]).unwrap();
        for svg in [histogram, roc] {
            assert!(svg.starts_with("<svg viewBox="), "{}", &svg[..80]);
            assert!(svg.contains("var(--ink)") && svg.contains("var(--anomalous)"));
            assert!(!svg.contains("\"#0"), "{svg}");
        }
    }

    #[test]
    fn shares_add_up_and_far_scores_are_in_the_end_bins() {
        let shares = shares(&[-1e9, 0.5, 0.5, 1e9], 0.0, 1.0 / BINS as f64);
        assert!((shares.iter().sum::<f64>() - 100.0).abs() < 1e-9);
        assert_eq!((shares[0], shares[BINS - 1], shares[BINS / 2]), (25.0, 25.0, 50.0));
    }

    #[test]
    fn equal_scores_still_make_a_chart() {
        assert!(histogram(&[5.0; 4], &[5.0; 2], None).is_ok());
    }
}
