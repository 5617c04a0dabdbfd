//! The fast engine on the CPU: runs a [`Plan`] in f32, in safe code that is vectorised for the processor at hand.
//!
//! Images of a batch are spread over threads, several of one thread side by side where that saves reading the weights
//! again; a single image is cut up between the threads. Neither changes a result.

mod attention;
mod convolution;
mod executor;
mod gemm;
mod group;
mod memory;
mod moments;
mod pointwise;
mod simd;
mod strip;
#[cfg(test)]
mod tests;
mod winograd;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::executor::{Program, Session};
use self::group::group;
use self::simd::InstructionSet;
use super::plan::{Factor, Memory, Plan, Source, Tensors, View};
use super::{
    Batch, Engine, EngineReport, FlowMap, KernelTime, MemoryPlan, Precision, Schedule,
    StepStatistics, Threads, Transport, Transported, rounding,
};
use crate::error::{Error, Result};
use crate::model::{Head, ModelInfo};
use crate::preprocess::Shape;

/// A network on the CPU.
pub(super) struct NativeFlow {
    program: Program,
    /// Images that one thread carries side by side.
    group: usize,
    threads: Threads,
    precision: Precision,
    shape: Shape,
    head: Head,
    velocity: Output,
    divergence: Output,
    report: EngineReport,
    sessions: Mutex<Vec<Session>>,
    tables: Mutex<Kept>,
}

/// Tables of steps that were evaluated before, by the bits of their times.
#[derive(Default)]
struct Kept {
    tables: HashMap<[u64; 2], Arc<Tensors>>,
    bytes: usize,
}

impl Kept {
    fn keep(&mut self, times: [u64; 2], tables: &Arc<Tensors>) {
        let values: usize = tables.iter().map(|(_, values)| values.len()).sum();
        let bytes = self.bytes + size_of::<f32>() * values;
        // Another thread may have kept the same.
        if bytes <= KEPT_TABLES && self.tables.insert(times, Arc::clone(tables)).is_none() {
            self.bytes = bytes;
        }
    }
}

/// Where a result of the network lies: its loops, from the outermost.
struct Output {
    source: Source,
    offset: usize,
    factors: Vec<Factor>,
}

impl Output {
    fn new(view: &View) -> Self {
        Self { source: view.source, offset: view.offset, factors: view.axes.concat() }
    }
}

/// Evaluations whose median is a profile.
const PROFILED: usize = 25;

/// Bytes of tables that are kept: those of thousands of steps. What goes beyond is evaluated again every time, since a
/// schedule that does not fit would push out what it is about to need.
const KEPT_TABLES: usize = 64 << 20;

/// Memory of `plan` for `images` images at a time on one thread, without loading it.
///
/// # Errors
/// As for the instruction set that the environment asks for.
pub(super) fn memory_plan(plan: &Plan, images: usize) -> Result<MemoryPlan> {
    let set = InstructionSet::detect()?;
    let memory = Memory::new(plan);
    Ok(memory::plan(set, plan, &memory, images.clamp(1, group(plan)), Precision::F32))
}

/// One image on its way.
struct Traveller<'a> {
    image: &'a [f32],
    schedule: &'a Schedule,
}

impl NativeFlow {
    /// `model`, whose graph is `plan`, with its weights stored in `precision`.
    pub(super) fn new(
        model: &ModelInfo,
        plan: Plan,
        threads: Threads,
        precision: Precision,
        reason: &str,
    ) -> Result<Self> {
        Self::on(InstructionSet::detect()?, model, plan, threads, precision, reason)
    }

    fn on(
        set: InstructionSet,
        model: &ModelInfo,
        plan: Plan,
        threads: Threads,
        precision: Precision,
        reason: &str,
    ) -> Result<Self> {
        let report = EngineReport {
            engine: Engine::Cpu,
            precision: precision.name(),
            threads: threads.count(),
            reason: format!("{reason}; {set}"),
        };
        let manifest = model.manifest();
        let unavailable = |why| Error::EngineUnavailable { engine: Engine::Cpu.to_string(), why };
        let [velocity, divergence] = [&plan.velocity, &plan.divergence].map(Output::new);
        Ok(Self {
            group: group(&plan),
            program: Program::new(set, plan, precision).map_err(unavailable)?,
            threads,
            precision,
            shape: manifest.preprocess.shape,
            head: manifest.head,
            velocity,
            divergence,
            report,
            sessions: Mutex::default(),
            tables: Mutex::default(),
        })
    }

    /// The tables for one step, computed once; or why they cannot be.
    fn tables(&self, t: f64, s: f64) -> std::result::Result<Arc<Tensors>, String> {
        let key = [t.to_bits(), s.to_bits()];
        let kept = || self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tables) = kept().tables.get(&key) {
            return Ok(Arc::clone(tables));
        }
        // Not here: tract keeps state per thread, which a thread of the host may have lost already, as in atexit.
        // Without the lock: other threads may be waiting for it.
        let evaluate = || {
            rounding::check()?;
            self.program.plan.tables.evaluate(t, s)
        };
        let tables = Arc::new(self.threads.install(evaluate)?);
        kept().keep(key, &tables);
        Ok(tables)
    }

    fn session(&self, images: usize) -> Session {
        // One that is too small goes: calls of one size would not need it again.
        let kept = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let kept = kept.filter(|session| session.images() >= images);
        kept.unwrap_or_else(|| self.program.session(images, self.threads.count()))
    }

    fn keep(&self, session: Session) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }

    /// Carries travellers side by side, all in as many steps.
    fn group(&self, group: &[Traveller<'_>], pool: Option<&rayon::ThreadPool>) -> Transport {
        let mut session = self.session(group.len());
        let result = self.carry(&mut session, group, pool);
        self.keep(session);
        result.unwrap_or_else(|why| refused(group, &why))
    }

    /// What becomes of `group`, or why nothing does.
    fn carry(
        &self,
        session: &mut Session,
        group: &[Traveller<'_>],
        pool: Option<&rayon::ThreadPool>,
    ) -> std::result::Result<Transport, String> {
        // Threads of the host may round otherwise than the one that asks.
        rounding::check()?;
        let path = |t: &Traveller<'_>| Path::new(t.image, self.head, self.shape, t.schedule);
        let mut paths: Vec<Path> = group.iter().map(path).collect();
        let mut tables = Vec::with_capacity(group.len());
        let steps = group.first().map_or(0, |first| first.schedule.steps());
        let times =
            |t: &Traveller<'_>, step| [t.schedule.times()[step], t.schedule.times()[step + 1]];
        for step in 0..steps {
            tables.clear();
            for traveller in group {
                let [t, s] = times(traveller, step);
                tables.push(self.tables(t, s)?);
            }
            for (i, path) in paths.iter().enumerate() {
                channels_last(&path.state, self.shape.channels, self.program.input(session, i));
            }
            self.program.evaluate(session, &tables, pool, |_| ());
            for (i, (path, traveller)) in paths.iter_mut().zip(group).enumerate() {
                let [t, s] = times(traveller, step);
                let read =
                    |output: &Output| self.program.source(session, output.source, &tables[i], i);
                path.step(
                    s - t,
                    (&self.velocity, read(&self.velocity)),
                    (&self.divergence, read(&self.divergence)),
                );
            }
        }
        Ok(paths.into_iter().map(Path::finish).collect())
    }

    /// All images of all legs, each group on one thread, or one image after the other on all threads.
    fn travel(&self, travellers: &[Traveller<'_>]) -> Transport {
        if let Err(why) = rounding::check() {
            return refused(travellers, why);
        }
        let threads = self.threads.count();
        // With more images, whole ones side by side keep as many threads busy.
        if 2 * travellers.len() <= threads {
            let one = |t: &[Traveller<'_>]| self.group(t, self.threads.pool());
            // On one of the threads, so that handing out parts of a kernel wakes nobody in vain.
            return self.threads.install(|| travellers.chunks(1).flat_map(one).collect());
        }
        let size = travellers.len().div_ceil(threads).min(self.group);
        // The times of a group's images may differ, as those of noise floors do, the number of its steps may not.
        let alike = travellers.chunk_by(|a, b| a.schedule.steps() == b.schedule.steps());
        let groups: Vec<&[Traveller<'_>]> = alike.flat_map(|run| run.chunks(size)).collect();
        let carry = |group: &[Traveller<'_>]| self.group(group, None);
        let results: Vec<Transport> = if threads == 1 {
            groups.into_iter().map(carry).collect()
        } else {
            self.threads.map(groups, carry)
        };
        results.into_iter().flatten().collect()
    }
}

impl FlowMap for NativeFlow {
    fn report(&self) -> &EngineReport {
        &self.report
    }

    fn transport(&self, batch: &Batch, schedule: &Schedule) -> Transport {
        let travellers: Vec<_> =
            batch.images().map(|image| Traveller { image, schedule }).collect();
        self.travel(&travellers)
    }

    fn memory_plan(&self, images: usize) -> Option<MemoryPlan> {
        let Program { set, plan, memory, .. } = &self.program;
        Some(memory::plan(*set, plan, memory, images.clamp(1, self.group), self.precision))
    }

    fn profile(&self, batch: &Batch, schedule: &Schedule) -> Result<Vec<KernelTime>> {
        let images: Vec<&[f32]> = batch.images().take(self.group).collect();
        let Some((t, s)) = schedule.pairs().next() else { return Ok(vec![]) };
        let tables = self.tables(t, s).map_err(|why| Engine::Cpu.failed(why))?;
        let tables = vec![tables; images.len()];
        let mut session = self.session(images.len());
        let mut times: Vec<Vec<Duration>> = vec![vec![]; self.program.steps()];
        for _ in 0..PROFILED {
            for (i, image) in images.iter().enumerate() {
                channels_last(image, self.shape.channels, self.program.input(&mut session, i));
            }
            let mut last = Instant::now();
            self.program.evaluate(&mut session, &tables, None, |step| {
                let now = Instant::now();
                times[step].push(now - last);
                last = now;
            });
        }
        self.keep(session);
        let all = self.program.describe().into_iter().zip(times);
        let kernel = |((kernel, multiplications), mut times): ((String, usize), Vec<Duration>)| {
            times.sort_unstable();
            let time = times[times.len() / 2];
            KernelTime { kernel, time, multiplications: multiplications * images.len() }
        };
        Ok(all.map(kernel).collect())
    }

    fn transport_all(&self, legs: &[(&Batch, &Schedule)]) -> Vec<Transport> {
        let mut travellers = Vec::new();
        for &(batch, schedule) in legs {
            travellers.extend(batch.images().map(|image| Traveller { image, schedule }));
        }
        let mut results = self.travel(&travellers).into_iter();
        legs.iter()
            .map(|(batch, _)| results.by_ref().take(batch.images().len()).collect())
            .collect()
    }
}

fn refused(travellers: &[Traveller<'_>], why: &str) -> Transport {
    travellers.iter().map(|_| Err(Engine::Cpu.failed(why))).collect()
}

/// One image between its steps, [C, H, W].
struct Path {
    state: Vec<f32>,
    log_det: f64,
    map: Option<Vec<f64>>,
    steps: Vec<StepStatistics>,
}

impl Path {
    fn new(image: &[f32], head: Head, shape: Shape, schedule: &Schedule) -> Self {
        let map = (head == Head::PerPixel).then(|| vec![0.0; shape.pixels()]);
        Self {
            state: image.to_vec(),
            log_det: 0.0,
            map,
            steps: Vec::with_capacity(schedule.steps()),
        }
    }

    fn step(&mut self, span: f64, velocity: (&Output, &[f32]), divergence: (&Output, &[f32])) {
        let mut square = 0.0;
        let mut state = self.state.iter_mut();
        each(velocity, |u| {
            let u = f64::from(u);
            if let Some(x) = state.next() {
                *x += (span * u) as f32;
            }
            square += u * u;
        });
        let mut step_log_det = 0.0;
        let mut map = self.map.as_mut().map(|map| map.iter_mut());
        each(divergence, |d| {
            let term = span * f64::from(d);
            step_log_det += term;
            if let Some(sum) = map.as_mut().and_then(Iterator::next) {
                *sum += term;
            }
        });
        self.log_det += step_log_det;
        let speed = (square / self.state.len() as f64).sqrt();
        self.steps.push(StepStatistics { speed, log_det: step_log_det });
    }

    fn finish(self) -> Result<Transported> {
        if !self.log_det.is_finite() || self.state.iter().any(|v| !v.is_finite()) {
            return Err(Error::NonFinite { what: "result of the flow" });
        }
        let log_det_map = self.map.map(|map| map.into_iter().map(|v| v as f32).collect());
        Ok(Transported { state: self.state, log_det: self.log_det, log_det_map, steps: self.steps })
    }
}

/// [C, H, W] → [H, W, C].
fn channels_last(image: &[f32], channels: usize, to: &mut [f32]) {
    let pixels = image.len() / channels;
    for (c, plane) in image.chunks_exact(pixels).enumerate() {
        for (to, &v) in to[c..].iter_mut().step_by(channels).zip(plane) {
            *to = v;
        }
    }
}

/// Visits the values of a result in the order of its axes.
fn each((output, values): (&Output, &[f32]), mut visit: impl FnMut(f32)) {
    walk(&output.factors, output.offset, values, &mut visit);
}

fn walk(factors: &[Factor], at: usize, values: &[f32], visit: &mut impl FnMut(f32)) {
    match factors {
        [] => visit(values[at]),
        [last] => (0..last.size).for_each(|i| visit(values[at + i * last.stride])),
        [first, rest @ ..] => {
            (0..first.size).for_each(|i| walk(rest, at + i * first.stride, values, visit))
        }
    }
}
