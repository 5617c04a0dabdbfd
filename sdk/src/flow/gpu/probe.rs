//! What tests and measurements need to see of the engine: single calls, shader texts, memory and dispatches.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytemuck::cast_slice;
use wgpu::BufferUsages;

use super::device::Device;
use super::failure::Failure;
use super::matrices::Matrices;
use super::network::Network;
use super::upload::{self, Images};
use super::workspace::{Workspace, read_back, wait_for};
use super::{kernels, layout::Layout, spirv};
use crate::error::{Error, Result};
use crate::flow::plan::{Memory, Plan};
use crate::flow::{GpuOptions, Precision, Starts};
use crate::model::Model;
use crate::preprocess::{Dequantization, Pixels, Preprocess, ResizeFilter, Shape};

/// A plan on a device, call by call in the open.
pub struct Probe {
    network: Network,
    options: GpuOptions,
}

/// What carrying one image gave.
pub struct Stepped {
    /// [H, W, C].
    pub state: Vec<f32>,
    /// Sum of the steps' log-determinants per pixel, [H, W]; `None` for a scalar head.
    pub map: Option<Vec<f32>>,
    /// Of every step: sum of squared velocities, and of divergences.
    pub steps: Vec<(f64, f64)>,
}

/// What every value of a buffer is before a call: a kernel that does not write is seen.
const POISON: f32 = f32::NAN;

impl Probe {
    /// Loads `plan` on the adapter that `options` ask for.
    ///
    /// # Errors
    /// Those of the GPU engine.
    pub fn new(plan: Plan, shape: Shape, options: &GpuOptions) -> Result<Self> {
        Self::with_preprocess(plan, &plain(shape), options)
    }

    /// The same for images as `preprocess` makes them.
    ///
    /// # Errors
    /// Those of the GPU engine.
    pub fn with_preprocess(
        plan: Plan,
        preprocess: &Preprocess,
        options: &GpuOptions,
    ) -> Result<Self> {
        let device = Device::open(options, true)?;
        // Every buffer has a slot of its own, so that all can be looked at afterwards.
        let memory =
            Memory { slot: (0..plan.buffers.len()).collect(), sizes: plan.buffers.clone() };
        let plan = Arc::new(plan);
        let network = Network::new(device, plan, memory, preprocess, options.precision)?;
        Ok(Self { network, options: options.clone() })
    }

    /// Carries out all calls once at times (t, s) for `images` images: `buffers` holds the content of some buffers,
    /// `[image, value]`, all else is poisoned. Returns the content of all buffers afterwards.
    ///
    /// # Errors
    /// Those of the GPU engine.
    pub fn evaluate(
        &self,
        images: usize,
        buffers: &[(usize, Vec<f32>)],
        (t, s): (f64, f64),
    ) -> Result<Vec<Vec<f32>>> {
        let network = &self.network;
        let mut workspace = self.poisoned(images)?;
        let narrow = |slot: usize| network.layout.narrow[slot];
        for (buffer, values) in buffers {
            let slot = network.layout.memory.slot[*buffer];
            let (size, stride) = (network.plan.buffers[*buffer], network.layout.stride(*buffer));
            let mut spread = vec![POISON; images * stride];
            for (from, to) in values.chunks_exact(size).zip(spread.chunks_exact_mut(stride)) {
                to[..size].copy_from_slice(from);
            }
            self.write(&workspace.slots[slot], &spread, narrow(slot));
        }
        let sequence = network.next_sequence();
        workspace.prepare(network, images, &[&[(t, s)]], true, sequence)?;
        let device = &network.device;
        let mut encoder = device.wgpu.create_command_encoder(&Default::default());
        workspace.record(network, &mut encoder, images, 0..1);
        let wait = device.queue.submit([encoder.finish()]);
        wait_for(device, wait, self.options.deadline)?;
        let mut all = Vec::new();
        for (buffer, &size) in network.plan.buffers.iter().enumerate() {
            let slot = network.layout.memory.slot[buffer];
            let values = self.read(&workspace.slots[slot], narrow(slot))?;
            let images = values.chunks_exact(network.layout.stride(buffer)).take(images);
            all.push(images.flat_map(|image| image[..size].to_vec()).collect());
        }
        Ok(all)
    }

    /// Memory for `images` images in which nothing is written.
    fn poisoned(&self, images: usize) -> Result<Workspace> {
        let network = &self.network;
        let workspace = Workspace::new(network, network.bucket(images)?)?;
        for (slot, buffer) in workspace.slots.iter().enumerate() {
            let narrow = network.layout.narrow[slot];
            let values = (buffer.size() / if narrow { 2 } else { 4 }) as usize;
            self.write(buffer, &vec![POISON; values], narrow);
        }
        for buffer in [&workspace.moments, &workspace.map, &workspace.results] {
            self.write(buffer, &vec![POISON; buffer.size() as usize / 4], false);
        }
        Ok(workspace)
    }

    /// Carries `states`, [H, W, C] each and as many for every leg, along the times (t, s) of the legs.
    ///
    /// # Errors
    /// Those of the GPU engine.
    pub fn carry(&self, states: &[Vec<f32>], legs: &[Vec<(f64, f64)>]) -> Result<Vec<Stepped>> {
        let (network, images) = (&self.network, states.len());
        let mut workspace = self.poisoned(images)?;
        self.write(workspace.state(network), &states.concat(), false);
        let legs: Vec<&[(f64, f64)]> = legs.iter().map(Vec::as_slice).collect();
        let (sequence, steps) = (network.next_sequence(), legs.first().map_or(0, |leg| leg.len()));
        workspace.prepare(network, images, &legs, true, sequence)?;
        let waits = workspace.submit(network, images, steps, steps.max(1), false)?;
        let read = workspace.collect(network, images, steps, sequence, waits, &self.options)?;
        let mut maps = read.map.chunks_exact(network.shape.pixels());
        let states = read.state.chunks_exact(network.shape.len());
        let stepped = states.zip(read.steps).map(|(state, steps)| Stepped {
            state: state.to_vec(),
            map: maps.next().map(<[f32]>::to_vec),
            steps,
        });
        Ok(stepped.collect())
    }

    /// Most images of one run.
    pub fn most(&self) -> usize {
        self.network.most.load(Ordering::Relaxed)
    }

    /// The states that the device makes of 8-bit images, [H, W, C] each, noise floor by noise floor; `None` if it leaves
    /// that to the CPU.
    ///
    /// # Errors
    /// Those of the GPU engine.
    pub fn states(&self, images: &[&Pixels], starts: &Starts) -> Result<Option<Vec<f32>>> {
        let network = &self.network;
        if network.upload.is_none() {
            return Ok(None);
        }
        let upload = Images::Pixels(images, starts);
        let bucket = super::BUCKETS.iter().position(|&b| b >= upload.len()).unwrap_or(0);
        let mut workspace = Workspace::new(network, bucket)?;
        let state = workspace.state(network).clone();
        self.write(&state, &vec![POISON; state.size() as usize / 4], false);
        workspace.upload(network, upload)?;
        let legs: Vec<&[(f64, f64)]> =
            starts.noise_floors().iter().map(|_| &[(1.0, 0.0)][..]).collect();
        workspace.prepare(network, upload.len(), &legs, true, network.next_sequence())?;
        let mut encoder = network.device.wgpu.create_command_encoder(&Default::default());
        workspace.record_upload(network, &mut encoder, upload.len());
        let wait = network.device.queue.submit([encoder.finish()]);
        wait_for(&network.device, wait, self.options.deadline)?;
        let mut values = self.read(&state, false)?;
        values.truncate(upload.len() * network.shape.len());
        Ok(Some(values))
    }

    /// The device's cooperative matrices, or why it has none.
    pub fn matrices(&self) -> std::result::Result<Matrices, String> {
        self.network.device.matrices.clone()
    }

    /// Names of the kernels, in order; the last is the update of the state.
    pub fn kernels(&self) -> Vec<&'static str> {
        self.network.dispatches.iter().map(|(dispatch, _)| dispatch.kernel).collect()
    }

    fn write(&self, buffer: &wgpu::Buffer, values: &[f32], narrow: bool) {
        let queue = &self.network.device.queue;
        if narrow {
            let mut halves: Vec<u16> =
                values.iter().map(|&v| half::f16::from_f32(v).to_bits()).collect();
            halves.resize(halves.len().next_multiple_of(2), 0);
            queue.write_buffer(buffer, 0, cast_slice(&halves));
        } else {
            queue.write_buffer(buffer, 0, cast_slice(values));
        }
    }

    fn read(&self, buffer: &wgpu::Buffer, narrow: bool) -> Result<Vec<f32>> {
        let device = &self.network.device;
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging = device.buffer("read-back", buffer.size(), usage)?;
        let mut encoder = device.wgpu.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
        let wait = device.queue.submit([encoder.finish()]);
        let (bytes, waits, deadline) = (buffer.size(), vec![wait], self.options.deadline);
        Ok(if narrow {
            let halves: Vec<u16> = read_back(device, &staging, bytes, waits, deadline)?;
            halves.into_iter().map(|h| half::f16::from_bits(h).to_f32()).collect()
        } else {
            read_back(device, &staging, bytes, waits, deadline)?
        })
    }
}

/// Images of `shape` whose range is that of the pixels.
fn plain(shape: Shape) -> Preprocess {
    let dequantization = Dequantization::Uniform { seed: 0 };
    Preprocess { shape, resize: ResizeFilter::Box, dequantization, scale: 1.0, offset: 0.0 }
}

/// The plan of `model`.
///
/// # Errors
/// What has no kernel.
pub fn plan(model: &Model) -> Result<Plan> {
    crate::flow::plan::lower(model.graph(), model.manifest().preprocess.shape)
        .map_err(|why| Failure::Unable(why.to_string()).into())
}

/// SPIR-V of the kernels of `plan` that are written in `matrices`, with their names; no device is needed.
///
/// # Errors
/// As [`shader_texts`], and what does not compile.
pub fn matrix_modules(
    plan: &Plan,
    shape: Shape,
    matrices: Matrices,
) -> std::result::Result<Vec<(&'static str, Vec<u32>)>, String> {
    let texts = shader_texts(plan, shape, Precision::F16, Some(matrices))?;
    let own = texts.into_iter().filter(|(_, text)| text.contains("coop_mat"));
    own.map(|(kernel, text)| Ok((kernel, spirv::compile(&text)?))).collect()
}

/// The shaders of a plan, with the names of their kernels; no device is needed.
///
/// # Errors
/// The call that has no kernel, or reaches outside of its buffers.
pub fn shader_texts(
    plan: &Plan,
    shape: Shape,
    precision: Precision,
    matrices: Option<Matrices>,
) -> std::result::Result<Vec<(&'static str, String)>, String> {
    let tables = plan.tables.evaluate(0.75, 0.5)?;
    let lengths: Vec<usize> = tables.iter().map(|(_, values)| values.len()).collect();
    crate::flow::plan::check(plan, &lengths)?;
    let layout = Layout::new(plan, Memory::new(plan), &lengths, precision, matrices);
    let size = (shape.channels, shape.height, shape.width);
    let mut all = kernels::dispatches(plan, &layout, size)?;
    all.extend(upload::dispatch(plan, &layout, &plain(shape)).transpose()?);
    all.extend(matrices.map(Matrices::product).transpose()?);
    Ok(all.into_iter().map(|dispatch| (dispatch.kernel, dispatch.shader)).collect())
}

/// What a model takes on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Kernels of one network evaluation, in order, the update of the state last.
    pub kernels: Vec<&'static str>,
    /// Distinct pipelines of the device.
    pub pipelines: usize,
    /// Bytes of weights and constants.
    pub weights: usize,
    /// Bytes of activations and moments that the plan needs for `images` images.
    pub planned: usize,
    /// Bytes of all buffers of a run of up to `images` images, tables and read-back included.
    pub allocated: usize,
    /// Images that the run has room for.
    pub images: usize,
    /// Bytes of one image written to the device for a run: once for all noise floors, or for each where the CPU
    /// dequantises.
    pub uploaded: usize,
    /// Bytes read back per image for a run of two steps.
    pub read_back: usize,
    /// Bytes of tables written when a schedule is first used, per step.
    pub tables: usize,
}

/// What `model` takes on the device for runs of up to `images` images.
///
/// # Errors
/// Those of the GPU engine.
pub fn usage(model: &Model, images: usize, options: &GpuOptions) -> Result<Usage> {
    let preprocess = &model.manifest().preprocess;
    let (shape, plan) = (preprocess.shape, plan(model)?);
    let device = Device::open(options, true)?;
    let memory = Memory::new(&plan);
    let network =
        Network::new(Arc::clone(&device), Arc::new(plan), memory, preprocess, options.precision)?;
    let bucket = super::BUCKETS.iter().position(|&b| b >= images);
    let bucket = bucket.ok_or_else(|| Error::option("images", images, "at most 64"))?;
    let workspace = Workspace::new(&network, bucket)?;
    let images = super::BUCKETS[bucket];
    Ok(Usage {
        kernels: network.dispatches.iter().map(|(dispatch, _)| dispatch.kernel).collect(),
        pipelines: device.pipelines.len(),
        weights: network.weight_bytes,
        planned: network.layout.bytes_per_image() * images,
        allocated: workspace.bytes,
        images,
        uploaded: match network.upload {
            Some(_) => upload::words(shape) * 4,
            None => shape.len() * 4,
        },
        read_back: super::workspace::read_bytes(&network, 1, 2).iter().sum(),
        tables: network.layout.leg * 4,
    })
}
