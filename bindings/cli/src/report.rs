//! The evaluation as one HTML page that needs nothing else: no links, no scripts, pictures inside.

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use f2d2::{Detector, HeatMap};
use image::RgbaImage;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::chart;
use crate::figures::{Comparison, Figures, Promise};
use crate::inputs::Item;
use crate::options::confidence;
use crate::overlay::{self, Scale};

/// Images shown at either end.
const SHOWN: usize = 10;

/// The most and the least strange images of a run, pictures included.
#[derive(Default)]
pub(crate) struct Extremes {
    // Falling scores.
    most: Vec<Shown>,
    // Rising scores.
    least: Vec<Shown>,
}

#[derive(Clone)]
struct Shown {
    score: f64,
    name: String,
    label: String,
    panel: RgbaImage,
    map: HeatMap,
}

impl Extremes {
    /// Keeps the image if it is among the most or the least strange so far.
    pub(crate) fn offer(&mut self, score: f64, item: &Item, label: &str, map: HeatMap) {
        let above = self.most.partition_point(|shown| shown.score >= score);
        let below = self.least.partition_point(|shown| shown.score <= score);
        let Ok(picture) = &item.picture else { return };
        if above >= SHOWN && below >= SHOWN {
            return;
        }
        let panel = overlay::panel(picture.image());
        let shown = Shown { score, name: item.name(), label: label.into(), panel, map };
        for (list, place) in [(&mut self.most, above), (&mut self.least, below)] {
            if place < SHOWN {
                list.insert(place, shown.clone());
                list.truncate(SHOWN);
            }
        }
    }
}

/// The page.
pub(crate) fn page(
    detector: &Detector,
    figures: &Figures,
    extremes: &Extremes,
    scale: Scale,
) -> Result<String> {
    let name = &detector.model().manifest().name;
    let promise = figures.promise.as_ref();
    let Some(all) = figures.comparisons.first() else {
        anyhow::bail!("there is nothing to report")
    };
    let threshold = promise.map(|promise| promise.threshold);
    let histogram = chart::histogram(&figures.normal.scores, &all.group.scores, threshold)?;
    let roc = chart::roc(&all.curve)?;
    let what = if promise.is_some() { "calibrated score" } else { "negative log-likelihood, nats" };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Evaluation of " (name) }
                style { (PreEscaped(include_str!("report.css"))) }
            }
            body { main {
                p.soft { "f2d2 evaluation" }
                h1 { (name) }
                p.soft {
                    (figures.normal.scores.len()) " normal and " (all.group.scores.len())
                    " anomalous images, compared by " (what) "; higher is stranger."
                }
                (tiles(all, promise))
                h2 { "Scores" }
                div.charts {
                    figure.card {
                        (PreEscaped(histogram))
                        figcaption {
                            span.key.n {} "normal" span.key.a {} "anomalous"
                            @if promise.is_some() { "; the line is the threshold" }
                            ". The end bins hold all scores beyond."
                        }
                    }
                    figure.card {
                        (PreEscaped(roc))
                        figcaption { "ROC curve of all anomalous images; the diagonal is chance." }
                    }
                }
                h2 { "By set of anomalous images" }
                (table(figures))
                (gallery("Most anomalous", &extremes.most, scale)?)
                (gallery("Least anomalous", &extremes.least, scale)?)
                p.soft {
                    "Left: the image. Right: where it is strange, in nats per pixel. Grey is nothing unusual; from \
                     blue over red to yellow it gets stranger. The bar is the same for all pictures here: "
                    (format!("{:.3}", scale.low)) " at the bottom, " (format!("{:.3}", scale.high)) " at the top."
                }
                h2 { "Model" }
                (model(detector, figures))
            } }
        }
    };
    Ok(page.into_string())
}

fn tiles(all: &Comparison, promise: Option<&Promise>) -> Markup {
    let (low, high) = all.area.interval;
    let tile = |value: String, class: &str, text: String| {
        html! { div.card.tile { b class=(class) { (value) } span { (text) } } }
    };
    html! {
        div.tiles {
            (tile(format!("{:.4}", all.area.value), "",
                format!("AUROC, 95 % interval {low:.4} to {high:.4}")))
            (tile(percent(all.false_alarms_at_95), "", "false alarms where 95 % are found".into()))
            @if let Some(promise) = promise {
                (tile(percent(all.group.flagged_share()), "", "of the anomalous images flagged".into()))
                (tile(percent(promise.false_alarms), if promise.kept() { "good" } else { "bad" },
                    format!("false alarms; {} the promised {} to {}",
                        if promise.kept() { "no more than" } else { "above" },
                        percent(promise.band.0), percent(promise.band.1))))
            }
        }
    }
}

fn table(figures: &Figures) -> Markup {
    let calibrated = figures.promise.is_some();
    html! {
        div.card.scroll { table {
            thead { tr {
                th { "set" } th { "images" } th { "AUROC" } th { "95 % interval" } th { "FPR at 95 % TPR" }
                @if calibrated { th { "flagged" } }
                th { "invalid" }
            } }
            tbody {
                @for Comparison { group, area, false_alarms_at_95, .. } in &figures.comparisons { tr {
                    td { (group.name) }
                    td { (group.scores.len()) }
                    td { (format!("{:.4}", area.value)) }
                    td { (format!("{:.4} to {:.4}", area.interval.0, area.interval.1)) }
                    td { (percent(*false_alarms_at_95)) }
                    @if calibrated { td { (percent(group.flagged_share())) } }
                    td { (group.invalid) }
                } }
                @if let Some(promise) = &figures.promise { tr {
                    td { "normal" }
                    td { (figures.normal.scores.len()) }
                    td { "–" } td { "–" } td { "–" }
                    td { (percent(promise.false_alarms)) }
                    td { (figures.normal.invalid) }
                } }
            }
        } }
    }
}

fn gallery(title: &str, images: &[Shown], scale: Scale) -> Result<Markup> {
    let drawn = images.iter().map(|shown| {
        let png = overlay::png(&overlay::draw(&shown.panel, &shown.map, scale))?;
        Ok((shown, format!("data:image/png;base64,{}", STANDARD.encode(png))))
    });
    let drawn = drawn.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        h2 { (title) }
        div.gallery {
            @for (shown, data) in &drawn {
                figure.card {
                    img src=(data) alt={ "image and heat map of " (shown.name) };
                    figcaption {
                        span class={ "tag " (shown.label) } { (shown.label) }
                        " · score " (format!("{:.4}", shown.score)) " · " (shown.name)
                    }
                }
            }
        }
    })
}

fn model(detector: &Detector, figures: &Figures) -> Markup {
    let manifest = detector.model().manifest();
    let shape = manifest.preprocess.shape;
    let engine = detector.engine();
    html! {
        div.card { dl {
            dt { "trained on" } dd { (manifest.provenance.data) }
            dt { "licence" } dd { (manifest.licence) }
            dt { "images" } dd { (shape.width) "×" (shape.height) "×" (shape.channels) }
            dt { "steps" } dd { (detector.steps()) " at noise floors " (format!("{:?}", manifest.noise_floors)) }
            dt { "engine" } dd { (engine.engine.to_string()) ", " (engine.precision) }
            @if let Some(promise) = &figures.promise {
                dt { "calibration" }
                dd {
                    "false-alarm rate " (promise.alpha) ", guaranteed " (percent(promise.band.0)) " to "
                    (percent(promise.band.1)) " with probability " (confidence(promise.delta))
                }
            }
            dt { "SHA-256" } dd { (detector.model().hash()) }
            dt { "made by" } dd { "f2d2 " (env!("CARGO_PKG_VERSION")) }
        } }
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::GrayImage;

    #[test]
    fn extremes_keep_both_ends_in_order() {
        let mut extremes = Extremes::default();
        for score in [5.0, 1.0, 9.0].into_iter().chain((0..30).map(|i| 2.0 + f64::from(i) / 10.0)) {
            let picture = crate::picture::tests::grey(GrayImage::new(4, 4));
            let item = Item { input: "a".into(), index: 0, of: 1, picture: Ok(picture) };
            let map = HeatMap { width: 1, height: 1, values: vec![0.0] };
            extremes.offer(score, &item, "normal", map);
        }
        let scores = |list: &[Shown]| list.iter().map(|s| s.score).collect::<Vec<_>>();
        assert_eq!(extremes.most.len(), SHOWN);
        assert_eq!(scores(&extremes.most)[..3], [9.0, 5.0, 4.9]);
        assert_eq!(scores(&extremes.least)[..3], [1.0, 2.0, 2.1]);
        let page = gallery("Most", &extremes.most, Scale { low: 0.0, high: 1.0 }).unwrap();
        assert_eq!(page.into_string().matches("data:image/png;base64,").count(), SHOWN);
    }
}
