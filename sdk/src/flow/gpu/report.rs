//! What is said of a network on a GPU: where it runs, and what has become of it since it was opened.

use std::sync::{Arc, Mutex, OnceLock, Weak};

use super::device::lock;
use super::matrices::Matrices;
use super::network::Network;
use super::opening::Opening;
use crate::flow::{Engine, EngineReport, Precision};

/// The reports of one session.
pub(super) struct Reports {
    /// As it was opened.
    opened: EngineReport,
    now: Mutex<Now>,
    /// That of the engine that has taken over.
    replaced: OnceLock<EngineReport>,
}

struct Now {
    /// Why the GPU, and which.
    place: String,
    network: Weak<Network>,
    /// How many times a lost device was opened anew, and why the last time.
    reopened: usize,
    why: String,
}

impl Reports {
    /// `asked` says why it is a GPU.
    pub(super) fn new(asked: &str, opening: &Opening, network: &Arc<Network>) -> Self {
        let place = place(asked, opening, network);
        let opened = EngineReport {
            engine: Engine::Gpu,
            precision: opening.options.precision.name(),
            threads: 1,
            reason: place.clone(),
        };
        let network = Arc::downgrade(network);
        let now = Mutex::new(Now { place, network, reopened: 0, why: String::new() });
        Self { opened, now, replaced: OnceLock::new() }
    }

    /// The report as it was when the network was opened; that of the engine that has taken over, once one has.
    pub(super) fn opened(&self) -> &EngineReport {
        self.replaced.get().unwrap_or(&self.opened)
    }

    /// The report with everything that has happened since.
    pub(super) fn latest(&self) -> EngineReport {
        if let Some(report) = self.replaced.get() {
            return report.clone();
        }
        let now = lock(&self.now);
        let mut reason = now.place.clone();
        if now.reopened > 0 {
            let times = if now.reopened == 1 { "once" } else { &format!("{} times", now.reopened) };
            reason += &format!("; reopened {times}: {}", now.why);
        }
        if let Some(few) = now.network.upgrade().and_then(|network| network.few()) {
            reason += &format!("; {few}");
        }
        EngineReport { reason, ..self.opened.clone() }
    }

    /// The device was lost, as `why` says, and `network` is on another one.
    pub(super) fn reopened(
        &self,
        asked: &str,
        opening: &Opening,
        network: &Arc<Network>,
        why: &str,
    ) {
        let mut now = lock(&self.now);
        let reopened = now.reopened + 1;
        let place = place(asked, opening, network);
        *now = Now { place, network: Arc::downgrade(network), reopened, why: why.to_owned() };
    }

    /// `engine` has taken over, as `why` says.
    pub(super) fn replaced(&self, engine: EngineReport, why: &str) {
        let reason = format!("{why}; before that: {}", self.latest().reason);
        // Whoever comes second has lost the same device.
        let _ = self.replaced.set(EngineReport { reason, ..engine });
    }

    /// Whether another engine has taken over.
    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.get().is_some()
    }
}

fn place(asked: &str, opening: &Opening, network: &Network) -> String {
    let adapter = &network.device.adapter;
    let mut place = format!("{asked}: {} ({}, {})", adapter.name, adapter.backend, adapter.driver);
    if opening.options.precision == Precision::F16 {
        place += &match (&opening.plain, &network.device.matrices) {
            (Some(why), _) | (None, Err(why)) => format!(", no cooperative matrices ({why})"),
            (None, Ok(Matrices { edge, .. })) => {
                format!(", cooperative matrices {edge}x{edge}x{edge}")
            }
        };
    }
    place
}
