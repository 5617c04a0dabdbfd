//! The figures of an evaluation: how well anomalous images are told from normal ones, and whether the promised
//! false-alarm rate holds.

use anyhow::Result;
use f2d2::{Calibration, Detector, Statistics};
use serde_json::{Value, json};

use crate::options;
use crate::output::Terminal;
use crate::roc::{Area, Roc};

/// Seed of the bootstrap.
const SEED: u64 = 0;
/// The hit rate at which false alarms are reported.
const HIT_RATE: f64 = 0.95;

/// The images of one path, or of several that are looked at together.
#[derive(Clone, Default)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) scores: Vec<f64>,
    pub(crate) vectors: Vec<Statistics>,
    /// Images judged anomalous.
    pub(crate) flagged: usize,
    pub(crate) invalid: usize,
}

/// One group of anomalous images against all normal ones.
pub(crate) struct Comparison {
    pub(crate) group: Group,
    pub(crate) area: Area,
    pub(crate) false_alarms_at_95: f64,
    pub(crate) curve: Vec<(f64, f64)>,
}

/// What the calibration promised and what happened.
pub(crate) struct Promise {
    pub(crate) alpha: f64,
    pub(crate) delta: f64,
    pub(crate) band: (f64, f64),
    pub(crate) threshold: f64,
    /// Share of the normal images that were flagged.
    pub(crate) false_alarms: f64,
}

/// All figures of an evaluation.
pub(crate) struct Figures {
    pub(crate) normal: Group,
    /// All anomalous images together, then one entry per path where there are several.
    pub(crate) comparisons: Vec<Comparison>,
    pub(crate) promise: Option<Promise>,
}

impl Group {
    /// Share of the images that were judged anomalous.
    pub(crate) fn flagged_share(&self) -> f64 {
        self.flagged as f64 / self.scores.len() as f64
    }

    fn extend(&mut self, other: &Self) {
        self.scores.extend(&other.scores);
        self.flagged += other.flagged;
        self.invalid += other.invalid;
    }
}

impl Promise {
    /// Whether false alarms are no more than was promised.
    pub(crate) fn kept(&self) -> bool {
        self.false_alarms <= self.band.1
    }
}

impl Figures {
    /// Compares the groups with the normal images; `calibration` is that which judged them.
    ///
    /// # Errors
    /// If there is no usable normal or no usable anomalous image.
    pub(crate) fn new(
        normal: Group,
        groups: Vec<Group>,
        calibration: Option<&Calibration>,
    ) -> Result<Self> {
        let mut all = Group { name: "all anomalous".into(), ..Group::default() };
        groups.iter().for_each(|group| all.extend(group));
        let single = groups.len() == 1;
        if let [group] = &groups[..] {
            all.name.clone_from(&group.name);
        }
        let usable = |group: &Group| !single && !group.scores.is_empty();
        let compare = |group: Group| {
            let roc = Roc::new(&normal.scores, &group.scores)?;
            let (area, curve) = (roc.area(SEED), roc.curve());
            Ok(Comparison { group, area, false_alarms_at_95: roc.false_alarms_at(HIT_RATE), curve })
        };
        let comparisons: Result<Vec<_>> =
            [all].into_iter().chain(groups.into_iter().filter(usable)).map(compare).collect();
        let promise = calibration.map(|calibration| Promise {
            alpha: calibration.alpha(),
            delta: calibration.delta(),
            band: calibration.band(),
            threshold: calibration.threshold(),
            false_alarms: normal.flagged_share(),
        });
        Ok(Self { comparisons: comparisons?, promise, normal })
    }

    /// Prints the figures for people.
    pub(crate) fn print(&self, terminal: &mut Terminal) -> Result<()> {
        let left_out = |invalid: usize| match invalid {
            0 => String::new(),
            _ => format!(", {invalid} left out"),
        };
        let Group { scores, invalid, .. } = &self.normal;
        terminal.line(format_args!(
            "normal images        {}{}",
            scores.len(),
            left_out(*invalid)
        ))?;
        for Comparison { group, area, false_alarms_at_95, .. } in &self.comparisons {
            let (low, high) = area.interval;
            terminal.line(format_args!("\n{}", group.name))?;
            let number = group.scores.len();
            terminal
                .line(format_args!("  images             {number}{}", left_out(group.invalid)))?;
            terminal.line(format_args!(
                "  AUROC              {:.4} [{low:.4}, {high:.4}]",
                area.value
            ))?;
            terminal.line(format_args!("  FPR at 95 % TPR    {false_alarms_at_95:.4}"))?;
            if self.promise.is_some() {
                terminal.line(format_args!("  flagged            {:.4}", group.flagged_share()))?;
            }
        }
        let Some(promise) = &self.promise else { return Ok(()) };
        let (low, high) = promise.band;
        let kept = if promise.kept() { "yes" } else { "no" };
        terminal.line(format_args!("\nfalse-alarm rate     {:.5}", promise.false_alarms))?;
        terminal.line(format_args!(
            "promised             {low:.5} to {high:.5} (alpha {}, with probability {})",
            promise.alpha,
            options::confidence(promise.delta)
        ))?;
        terminal.line(format_args!("inside the promise   {kept}"))
    }

    /// The figures for programs.
    pub(crate) fn json(&self, detector: &Detector) -> Value {
        let promise = self.promise.as_ref();
        let compared = |comparison: &Comparison| {
            let Comparison { group, area, false_alarms_at_95, .. } = comparison;
            json!({
                "name": group.name,
                "images": group.scores.len(),
                "invalid": group.invalid,
                "auroc": area.value,
                "auroc_interval": area.interval,
                "fpr_at_95_tpr": false_alarms_at_95,
                "flagged": promise.map(|_| group.flagged_share()),
            })
        };
        json!({
            "model": detector.model().manifest().name,
            "model_sha256": detector.model().hash(),
            "engine": detector.engine().engine.to_string(),
            "steps": detector.steps(),
            "score": if promise.is_some() { "calibrated" } else { "nll_nats" },
            "normal": { "images": self.normal.scores.len(), "invalid": self.normal.invalid },
            "all": self.comparisons.first().map(compared),
            "anomalous": self.groups().iter().map(compared).collect::<Vec<_>>(),
            "calibration": promise.map(|promise| json!({
                "alpha": promise.alpha,
                "delta": promise.delta,
                "threshold": promise.threshold,
                "band": promise.band,
                "false_alarm_rate": promise.false_alarms,
                "inside_promise": promise.kept(),
            })),
        })
    }

    /// The comparisons path by path.
    fn groups(&self) -> &[Comparison] {
        match self.comparisons.len() {
            1 => &self.comparisons,
            _ => &self.comparisons[1..],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, scores: &[f64]) -> Group {
        Group {
            name: name.into(),
            scores: scores.into(),
            flagged: 1,
            invalid: 1,
            ..Group::default()
        }
    }

    #[test]
    fn groups_are_compared_together_and_one_by_one() {
        let groups = vec![group("a", &[2.0, 3.0]), group("b", &[0.0]), group("bad", &[])];
        let figures = Figures::new(group("normal", &[1.0, 1.5]), groups, None).unwrap();
        let values: Vec<f64> = figures.comparisons.iter().map(|c| c.area.value).collect();
        assert_eq!(values, [4.0 / 6.0, 1.0, 0.0]);
        assert_eq!(figures.comparisons[0].group.invalid, 3);
        assert_eq!(figures.groups().len(), 2);
    }

    #[test]
    fn single_group_keeps_its_name() {
        let groups = vec![group("a", &[2.0])];
        let figures = Figures::new(group("normal", &[1.0]), groups, None).unwrap();
        assert_eq!(figures.comparisons.len(), 1);
        assert_eq!(figures.comparisons[0].group.name, "a");
    }

    #[test]
    fn nothing_usable_is_an_error() {
        assert!(Figures::new(group("normal", &[]), vec![group("a", &[1.0])], None).is_err());
        assert!(Figures::new(group("normal", &[1.0]), vec![group("a", &[])], None).is_err());
    }
}
