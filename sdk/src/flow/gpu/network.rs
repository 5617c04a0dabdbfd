//! A plan on a device: weights, pipelines and the runs that carry images along schedules.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytemuck::cast_slice;
use wgpu::BufferUsages;

use super::device::{Device, lock};
use super::failure::Failure;
use super::kernels::{self, RUN_STEPS};
use super::layout::{LEG_HEAD, Layout};
use super::pace::{BUCKETS, Pace};
use super::pipelines::Pipeline;
use super::shader::{Dispatch, MOST_GROUPS};
use super::upload::{self, Images};
use super::workspace::Workspace;
use crate::flow::plan::{Call, Memory, Plan, check};
use crate::flow::{GpuOptions, Precision};
use crate::preprocess::{Preprocess, Shape};

/// Legs of one run, each with times of its own.
pub(super) const LEGS: usize = 8;
/// Tables that are kept; a schedule has one per step.
const KEPT_TABLES: usize = 1024;
/// An interval that no map is singular at, to learn the sizes of the tables.
const TRIAL: (f64, f64) = (0.75, 0.5);

/// What depends on the times (t, s) only, by their bits.
type Tables = HashMap<(u64, u64), Arc<[f32]>>;

/// A network on a device.
pub(super) struct Network {
    pub(super) device: Arc<Device>,
    pub(super) plan: Arc<Plan>,
    pub(super) layout: Layout,
    pub(super) shape: Shape,
    pub(super) dispatches: Vec<(Dispatch, Arc<Pipeline>)>,
    /// Makes states of 8-bit images, where that can be done as the CPU does it.
    pub(super) upload: Option<(Dispatch, Arc<Pipeline>)>,
    pub(super) constants: wgpu::Buffer,
    pub(super) weights: HashMap<usize, wgpu::Buffer>,
    pub(super) params: wgpu::Buffer,
    /// Distance between the parameters of two dispatches, bytes.
    pub(super) params_stride: usize,
    /// Bytes of weights and constants.
    pub(super) weight_bytes: usize,
    pub(super) pace: Pace,
    /// Images of one run: less than there are buckets for where memory is short, or where the kernels take no more.
    pub(super) most: AtomicUsize,
    /// Images of one run that the kernels take.
    fit: usize,
    workspaces: Mutex<Vec<Workspace>>,
    tables: Mutex<Tables>,
    sequence: AtomicU32,
}

/// What one image's transport gave, before it is summed.
pub(super) struct Carried {
    /// [C, H, W].
    pub(super) state: Vec<f32>,
    /// [H, W]; empty for a scalar head.
    pub(super) map: Vec<f32>,
    /// Per step: sum of squared velocities, and sum of divergences.
    pub(super) steps: Vec<(f64, f64)>,
}

/// The tables' values behind a leg's head.
fn leg_words(plan: &Plan, t: f64, s: f64) -> Result<Vec<f32>, String> {
    let tensors = plan.tables.evaluate(t, s)?;
    Ok(tensors.iter().flat_map(|(_, values)| values.iter().copied()).collect())
}

impl Network {
    /// Loads `plan` with its buffers in the slots of `memory`, for images as `preprocess` makes them, on `device`.
    pub(super) fn new(
        device: Arc<Device>,
        plan: Arc<Plan>,
        memory: Memory,
        preprocess: &Preprocess,
        precision: Precision,
    ) -> Result<Self, Failure> {
        let shape = preprocess.shape;
        if precision == Precision::F16 && !device.adapter.f16 {
            return Err(Failure::Unable(format!("{} cannot store f16", device.adapter.name)));
        }
        let tables = plan.tables.evaluate(TRIAL.0, TRIAL.1).map_err(Failure::Unable)?;
        let lengths: Vec<usize> = tables.iter().map(|(_, values)| values.len()).collect();
        check(&plan, &lengths).map_err(Failure::Unable)?;
        let layout = {
            let matrices = device.matrices.as_ref().ok().copied();
            Layout::new(&plan, memory, &lengths, precision, matrices)
        };
        let size = (shape.channels, shape.height, shape.width);
        let dispatches = kernels::dispatches(&plan, &layout, size).map_err(Failure::Unable)?;
        let compiled = |dispatch: Dispatch| -> Result<_, Failure> {
            let pipeline = device.pipelines.get(&device, &dispatch)?;
            Ok((dispatch, pipeline))
        };
        let dispatches = dispatches.into_iter().map(compiled).collect::<Result<Vec<_>, _>>()?;
        let upload = upload::dispatch(&plan, &layout, preprocess).transpose();
        let upload = upload.map_err(Failure::Unable)?.map(compiled).transpose()?;
        device.pipelines.save();

        let mut constants = vec![0f32; layout.constant_values];
        for (constant, at) in plan.constants.iter().zip(&layout.constants) {
            if let Some(at) = *at {
                constants[at..at + constant.len()].copy_from_slice(&constant.decode());
            }
        }
        let mut weight_bytes = constants.len() * 4;
        let mut weights = HashMap::new();
        for call in &plan.calls {
            let Call::Convolution(c) = call else { continue };
            if weights.contains_key(&c.weights) {
                continue;
            }
            let values = plan.constants[c.weights].decode();
            let bytes = if precision == Precision::F16 {
                let halves: Vec<u16> =
                    values.iter().map(|&v| half::f16::from_f32(v).to_bits()).collect();
                cast_slice(&halves).to_vec()
            } else {
                cast_slice(&values).to_vec()
            };
            weight_bytes += bytes.len();
            weights.insert(c.weights, device.filled("weights", &bytes, BufferUsages::STORAGE)?);
        }
        let constants =
            device.filled("constants", cast_slice(&constants), BufferUsages::STORAGE)?;

        let align = device.limits.min_uniform_buffer_offset_alignment as usize;
        let longest = dispatches.iter().map(|(d, _)| d.params.len()).max().unwrap_or(0);
        let params_stride = longest.max(16).next_multiple_of(align);
        let mut params = vec![0u8; params_stride * dispatches.len()];
        for ((dispatch, _), at) in dispatches.iter().zip(params.chunks_exact_mut(params_stride)) {
            at[..dispatch.params.len()].copy_from_slice(&dispatch.params);
        }
        let params = device.filled("parameters", &params, BufferUsages::UNIFORM)?;
        // Workgroups along z are those of one image times the images.
        let along = dispatches.iter().map(|(dispatch, _)| dispatch.groups[2]).max().unwrap_or(1);
        let fits = |&&bucket: &&usize| bucket * along as usize <= MOST_GROUPS;
        let fit = BUCKETS.iter().rev().find(fits).copied().unwrap_or(1);
        Ok(Self {
            device,
            plan,
            layout,
            shape,
            dispatches,
            upload,
            constants,
            weights,
            params,
            params_stride,
            weight_bytes,
            pace: Pace::default(),
            most: AtomicUsize::new(fit),
            fit,
            workspaces: Mutex::default(),
            tables: Mutex::default(),
            sequence: AtomicU32::new(1),
        })
    }

    /// Values of a leg in the buffer of tables, with its head for step `number` of a run.
    pub(super) fn leg(
        &self,
        (t, s): (f64, f64),
        number: usize,
        first: bool,
    ) -> Result<Vec<f32>, String> {
        let key = (t.to_bits(), s.to_bits());
        let kept = lock(&self.tables).get(&key).map(Arc::clone);
        let words = match kept {
            Some(words) => words,
            None => {
                let words: Arc<[f32]> = leg_words(&self.plan, t, s)?.into();
                let mut tables = lock(&self.tables);
                if tables.len() >= KEPT_TABLES {
                    tables.clear();
                }
                tables.insert(key, Arc::clone(&words));
                words
            }
        };
        let need = self.layout.leg - LEG_HEAD;
        if words.len() != need {
            return Err(format!("the tables have {} values, need {need}", words.len()));
        }
        let head = [(s - t) as f32, number as f32, f32::from(u8::from(first)), 0.0];
        Ok(head.into_iter().chain(words.iter().copied()).collect())
    }

    /// The number of the smallest bucket for `images` images.
    pub(super) fn bucket(&self, images: usize) -> Result<usize, Failure> {
        let bucket = BUCKETS.iter().position(|&b| b >= images).filter(|&b| BUCKETS[b] <= self.fit);
        let fit = self.fit;
        bucket.ok_or_else(|| {
            Failure::Unable(format!("{images} images in one run, need {fit} at most"))
        })
    }

    /// Why a run takes fewer images than the largest bucket; `None` if it does not.
    pub(super) fn few(&self) -> Option<String> {
        let most = self.most.load(Ordering::Relaxed);
        let why = if most < self.fit { "no room for more" } else { "the kernels take no more" };
        (most < BUCKETS[BUCKETS.len() - 1]).then(|| format!("batches cut to {most}, {why}"))
    }

    /// A number that tells this run from others.
    pub(super) fn next_sequence(&self) -> u32 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Carries `images`, as many for every leg, along the legs' times: as many for every leg.
    pub(super) fn run(
        &self,
        images: Images<'_>,
        legs: &[Vec<(f64, f64)>],
        options: &GpuOptions,
    ) -> Result<Vec<Carried>, Failure> {
        let bucket = self.bucket(images.len())?;
        let kept = {
            let mut workspaces = lock(&self.workspaces);
            let found = workspaces.iter().position(|w| w.bucket == bucket);
            found.map(|i| workspaces.swap_remove(i))
        };
        let mut workspace = match kept {
            Some(workspace) => workspace,
            None => Workspace::new(self, bucket)?,
        };
        let carried = self.run_in(&mut workspace, images, legs, options)?;
        // A workspace whose run failed is not used again.
        lock(&self.workspaces).push(workspace);
        Ok(carried)
    }

    fn run_in(
        &self,
        workspace: &mut Workspace,
        upload: Images<'_>,
        legs: &[Vec<(f64, f64)>],
        options: &GpuOptions,
    ) -> Result<Vec<Carried>, Failure> {
        workspace.upload(self, upload)?;
        let images = upload.len();
        let steps = legs.first().map_or(0, Vec::len);
        let mut sums: Vec<Vec<(f64, f64)>> = vec![Vec::with_capacity(steps); images];
        let mut last = None;
        for first in (0..steps).step_by(RUN_STEPS) {
            let end = steps.min(first + RUN_STEPS);
            let parts: Vec<&[(f64, f64)]> = legs.iter().map(|leg| &leg[first..end]).collect();
            let per_submission = self.pace.steps(workspace.bucket, options.submission);
            let sequence = self.next_sequence();
            workspace.prepare(self, images, &parts, first == 0, sequence)?;
            let start = Instant::now();
            let start_states = first == 0 && matches!(upload, Images::Pixels(..));
            let waits =
                workspace.submit(self, images, end - first, per_submission, start_states)?;
            let read = workspace.collect(self, images, end - first, sequence, waits, options)?;
            for (sums, step) in sums.iter_mut().zip(&read.steps) {
                sums.extend(step);
            }
            self.pace.measured(workspace.bucket, images, end - first, start.elapsed());
            last = Some(read);
        }
        let read = last.ok_or_else(|| Failure::Unable("a schedule without steps".into()))?;
        let (len, pixels) = (self.shape.len(), self.shape.pixels());
        let carried = sums.into_iter().enumerate().map(|(i, steps)| Carried {
            state: planes(&read.state[i * len..(i + 1) * len], self.shape),
            map: if self.per_pixel() {
                read.map[i * pixels..(i + 1) * pixels].to_vec()
            } else {
                vec![]
            },
            steps,
        });
        Ok(carried.collect())
    }

    /// Whether the divergence comes per pixel.
    pub(super) fn per_pixel(&self) -> bool {
        self.plan.divergence.axes.len() == 4
    }

    /// Carries one blank image, so that everything is compiled, allocated and measured.
    pub(super) fn warm_up(&self, options: &GpuOptions) -> Result<Duration, Failure> {
        let blank = vec![0f32; self.shape.len()];
        let mut time = Duration::ZERO;
        for _ in 0..2 {
            let start = Instant::now();
            // The first run says how long drivers take to compile.
            self.pace.forget();
            self.run(Images::Values(&[&blank]), &[vec![TRIAL]], options)?;
            time = start.elapsed();
        }
        Ok(time)
    }
}

/// [C, H, W] of [H, W, C].
fn planes(values: &[f32], shape: Shape) -> Vec<f32> {
    let (channels, pixels) = (shape.channels, shape.pixels());
    (0..shape.len()).map(|i| values[i % pixels * channels + i / pixels]).collect()
}

/// [H, W, C] of [C, H, W].
pub(super) fn interleaved(values: &[f32], shape: Shape) -> impl Iterator<Item = f32> {
    let (channels, pixels) = (shape.channels, shape.pixels());
    (0..shape.len()).map(move |i| values[i % channels * pixels + i / channels])
}
