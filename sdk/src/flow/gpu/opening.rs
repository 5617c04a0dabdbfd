//! From a plan to a network on a device that has shown that it computes rightly: the first time, and after a loss.

use std::sync::{Arc, Weak};

use super::device::{Device, lock};
use super::failure::Failure;
use super::fault::{self, Point};
use super::network::Network;
use super::transported;
use super::upload::Images;
use crate::error::Error;
use crate::flow::engine::judge_f16;
use crate::flow::plan::{Memory, Plan};
use crate::flow::{GpuOptions, Precision, Transported};
use crate::model::{Golden, Head, ModelInfo, TimeParametrization};
use crate::preprocess::Preprocess;

/// What a network is made of.
pub(super) struct Opening {
    plan: Arc<Plan>,
    pub(super) preprocess: Preprocess,
    pub(super) options: GpuOptions,
    /// Whether a driver that computes on the CPU may be taken.
    software: bool,
    /// SHA-256 of the model file.
    hash: String,
    /// What a network has to compute.
    golden: Vec<Golden>,
    /// Whether that holds of the network itself in both directions: a map that only samples is inverted by whoever
    /// scores with it.
    both: bool,
    /// Why cooperative matrices are not used though the device has them.
    pub(super) plain: Option<String>,
}

impl Opening {
    pub(super) fn new(
        model: &ModelInfo,
        plan: Arc<Plan>,
        options: &GpuOptions,
        software: bool,
    ) -> Result<Self, Failure> {
        let manifest = model.manifest();
        let per_pixel = plan.divergence.axes.len() == 4;
        if per_pixel != (manifest.head == Head::PerPixel) {
            let why = "the divergence of the graph is not of the kind that the manifest says";
            return Err(Failure::Unable(why.into()));
        }
        Ok(Self {
            plan,
            preprocess: manifest.preprocess.clone(),
            options: options.clone(),
            software,
            hash: model.hash().to_owned(),
            golden: manifest.golden.clone(),
            both: manifest.time == TimeParametrization::Pair,
            plain: None,
        })
    }

    /// The network, the first time: in f16 only if the likelihoods are those of f32, and without cooperative matrices if
    /// it cannot be had with them.
    pub(super) fn first(&mut self, self_test: bool) -> Result<Arc<Network>, Failure> {
        // Held, so that both tries find the same one.
        let device = Device::open(&self.options, self.software)?;
        let made = self.tried(self_test);
        match made {
            Err(Failure::Unable(why) | Failure::Lost(why)) if device.matrices.is_ok() => {
                self.options.matrices = false;
                self.plain = Some(why);
                self.tried(self_test)
            }
            made => made,
        }
    }

    fn tried(&self, self_test: bool) -> Result<Arc<Network>, Failure> {
        let network = self.load(self.options.precision)?;
        if self.options.precision == Precision::F16 {
            self.agree_with_f32(&network)?;
        }
        if self_test {
            self.verify(&network)?;
        }
        Ok(network)
    }

    /// The network after a loss, `first`. Whatever stands in the way, the device is lost for now.
    pub(super) fn again(&self, first: &str, self_test: bool) -> Result<Arc<Network>, Failure> {
        let network = self.load(self.options.precision).and_then(|network| {
            if self_test {
                self.verify(&network)?;
            }
            Ok(network)
        });
        network.map_err(|failure| match failure {
            Failure::Hung(why) => Failure::Hung(why),
            other => Failure::Lost(format!("{first}; opening it anew: {}", Error::from(other))),
        })
    }

    /// The network on the device, shared with other sessions of the same model.
    fn load(&self, precision: Precision) -> Result<Arc<Network>, Failure> {
        let device = Device::open(&self.options, self.software)?;
        let key = format!("{} {}", self.hash, precision.name());
        // Held while loading: a second session of the model waits for the first one's weights.
        let mut networks = lock(&device.networks);
        if let Some(network) = networks.get(&key).and_then(Weak::upgrade) {
            return Ok(network);
        }
        let (own, plan) = (Arc::clone(&device), Arc::clone(&self.plan));
        let memory = Memory::new(&self.plan);
        let network = Network::new(own, plan, memory, &self.preprocess, precision)?;
        network.warm_up(&self.options)?;
        let network = Arc::new(network);
        networks.insert(key, Arc::downgrade(&network));
        Ok(network)
    }

    /// Refuses f16 for a model whose likelihoods it changes.
    fn agree_with_f32(&self, narrow: &Network) -> Result<(), Failure> {
        let wide = self.load(Precision::F32)?;
        let dimensions = self.preprocess.shape.len() as f64;
        for golden in &self.golden {
            let nll = |network: &Network| -> Result<f64, Failure> {
                let one = self.carry(network, golden)?;
                let squares: f64 = one.state.iter().map(|&v| f64::from(v).powi(2)).sum();
                Ok((0.5 * squares - one.log_det) / dimensions / std::f64::consts::LN_2)
            };
            let wrong = if fault::fires(Point::Narrow) { 1.0 } else { 0.0 };
            judge_f16(nll(narrow)? - nll(&wide)? + wrong).map_err(Failure::Unable)?;
        }
        Ok(())
    }

    /// Holds `network` against the golden vectors in the model file.
    fn verify(&self, network: &Network) -> Result<(), Failure> {
        let rises = |golden: &&Golden| golden.schedule.pairs().all(|(t, s)| t < s);
        for golden in self.golden.iter().filter(|golden| self.both || rises(golden)) {
            let mut one = self.carry(network, golden)?;
            if fault::fires(Point::Golden) {
                one.log_det += one.state.len() as f64;
            }
            let same = golden.compare_in(&one, "gpu", self.options.precision.name());
            same.map_err(|error| Failure::Unable(error.to_string()))?;
        }
        Ok(())
    }

    fn carry(&self, network: &Network, golden: &Golden) -> Result<Transported, Failure> {
        let shape = self.preprocess.shape;
        let (image, pairs) = (golden.input(shape), golden.schedule.pairs().collect::<Vec<_>>());
        let legs = [pairs.clone()];
        let carried = network.run(Images::Values(&[&image]), &legs, &self.options)?;
        let one = carried.into_iter().next_back().map(|c| transported(c, &pairs, shape));
        let missing = || Err(Error::NonFinite { what: "result of the flow" });
        one.unwrap_or_else(missing).map_err(|error| Failure::Unable(error.to_string()))
    }
}
