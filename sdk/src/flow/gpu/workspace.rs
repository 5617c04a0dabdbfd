//! The buffers of runs of up to so many images, and one run in them: upload, record, submit, read back.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytemuck::{bytes_of, cast_slice};
use wgpu::BufferUsages;

use super::device::Device;
use super::failure::Failure;
use super::fault::{self, Point};
use super::kernels::RUN_STEPS;
use super::network::{LEGS, Network, interleaved};
use super::pace::BUCKETS;
use super::params::Run;
use super::pipelines::Pipeline;
use super::shader::{Dispatch, Resource};
use super::update::update_groups;
use super::upload::{self, Images};
use crate::flow::GpuOptions;

/// Words of one entry of the results: two sums, the number of the run, that of the step.
const RESULT: usize = 4;

/// The times (t, s) of the steps of every leg.
type Legs = Vec<Vec<(f64, f64)>>;

/// Memory for one run at a time.
pub(super) struct Workspace {
    pub(super) bucket: usize,
    pub(super) slots: Vec<wgpu::Buffer>,
    pub(super) moments: wgpu::Buffer,
    pub(super) map: wgpu::Buffer,
    pub(super) results: wgpu::Buffer,
    tables: wgpu::Buffer,
    run: wgpu::Buffer,
    staging: wgpu::Buffer,
    pixels: wgpu::Buffer,
    floors: wgpu::Buffer,
    common: wgpu::BindGroup,
    groups: Vec<wgpu::BindGroup>,
    upload: Option<wgpu::BindGroup>,
    /// Bytes of the tables of one step.
    step_bytes: usize,
    /// What the tables hold: the times of every leg, and whether they start a schedule.
    tables_hold: Option<(Legs, bool)>,
    /// Seed and noise floors of the noise that is there.
    floors_hold: Option<(u64, Vec<f64>)>,
    /// Bytes of all buffers on the device.
    pub(super) bytes: usize,
}

/// What was read back.
pub(super) struct Read {
    /// [H, W, C] of every image.
    pub(super) state: Vec<f32>,
    /// [H, W] of every image.
    pub(super) map: Vec<f32>,
    /// Of every image and step: sum of squared velocities, and of divergences.
    pub(super) steps: Vec<Vec<(f64, f64)>>,
}

/// Bytes of what is read back of `images` images and `steps` steps: state, map, results.
pub(super) fn read_bytes(network: &Network, images: usize, steps: usize) -> [usize; 3] {
    let map = if network.per_pixel() { network.shape.pixels() } else { 0 };
    let results = steps * update_groups(network.shape.pixels()) * RESULT;
    [network.shape.len(), map, results].map(|words| words * images * 4)
}

impl Workspace {
    pub(super) fn new(network: &Network, bucket: usize) -> Result<Self, Failure> {
        let (device, layout) = (&*network.device, &network.layout);
        let images = BUCKETS[bucket];
        let both = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let mut bytes = 0;
        let mut storage = |what, size: usize| {
            bytes += size;
            device.buffer(what, size as u64, both)
        };
        let slots = layout.memory.sizes.iter().zip(&layout.narrow).map(|(size, narrow)| {
            storage("activations", size * images * if *narrow { 2 } else { 4 })
        });
        let slots = slots.collect::<Result<Vec<_>, _>>()?;
        let moments = storage("moments", layout.moments_per_image * images * 8)?;
        let map = storage("map", network.shape.pixels() * images * 4)?;
        let results = storage("results", read_bytes(network, images, RUN_STEPS)[2])?;
        let align = device.limits.min_storage_buffer_offset_alignment as usize;
        let legs = LEGS.min(images);
        let step_bytes = (layout.leg * legs * 4).next_multiple_of(align.max(16));
        let tables = storage("tables", step_bytes * RUN_STEPS)?;
        let pixels = storage("pixels", upload::words(network.shape) * images * 4)?;
        let floors = storage("noise floors", upload::floor_bytes(network.shape, images))?;
        let uniform = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let run = device.buffer("run", size_of::<Run>() as u64, uniform)?;
        let read = read_bytes(network, images, RUN_STEPS).iter().sum::<usize>();
        let staging = device.buffer(
            "read-back",
            read as u64,
            BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        )?;
        let bytes = bytes + read;

        let part = |buffer, size: usize| {
            let size = std::num::NonZeroU64::new(size as u64);
            wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size })
        };
        let resources = [
            part(&network.params, network.params_stride),
            run.as_entire_binding(),
            network.constants.as_entire_binding(),
            part(&tables, step_bytes),
            moments.as_entire_binding(),
        ];
        let common = bind(device, device.pipelines.common(), resources)?;
        let group = |(dispatch, pipeline): &(Dispatch, Arc<Pipeline>)| {
            let resources = dispatch.bindings.iter().map(|binding| {
                let buffer = match binding.resource {
                    Resource::Slot(slot) => &slots[slot],
                    Resource::Weights(constant) => &network.weights[&constant],
                    Resource::LogDetMap => &map,
                    Resource::Results => &results,
                    Resource::Pixels => &pixels,
                    Resource::Floors => &floors,
                };
                buffer.as_entire_binding()
            });
            bind(device, &pipeline.group, resources)
        };
        let groups = network.dispatches.iter().map(group).collect::<Result<Vec<_>, _>>()?;
        let upload = network.upload.as_ref().map(group).transpose()?;
        Ok(Self {
            bucket,
            slots,
            moments,
            map,
            results,
            tables,
            run,
            staging,
            pixels,
            floors,
            common,
            groups,
            upload,
            step_bytes,
            tables_hold: None,
            floors_hold: None,
            bytes,
        })
    }

    /// The slot of the state.
    pub(super) fn state(&self, network: &Network) -> &wgpu::Buffer {
        &self.slots[network.layout.memory.slot[network.plan.input]]
    }

    /// Writes the images.
    pub(super) fn upload(&mut self, network: &Network, images: Images<'_>) -> Result<(), Failure> {
        network.device.check()?;
        network.device.reach(Point::Upload);
        let (shape, queue) = (network.shape, &network.device.queue);
        match images {
            Images::Values(images) => {
                let values: Vec<f32> =
                    images.iter().flat_map(|image| interleaved(image, shape)).collect();
                queue.write_buffer(self.state(network), 0, cast_slice(&values));
            }
            Images::Pixels(images, starts) => {
                queue.write_buffer(&self.pixels, 0, &upload::bytes(images, shape));
                let holds = (starts.seed(), starts.noise_floors().to_vec());
                if self.floors_hold.as_ref() != Some(&holds) {
                    queue.write_buffer(&self.floors, 0, cast_slice(&upload::floors(starts)));
                    self.floors_hold = Some(holds);
                }
            }
        }
        Ok(())
    }

    /// Writes what the steps of `legs` need; `first` says that they begin a schedule.
    pub(super) fn prepare(
        &mut self,
        network: &Network,
        images: usize,
        legs: &[&[(f64, f64)]],
        first: bool,
        sequence: u32,
    ) -> Result<(), Failure> {
        let queue = &network.device.queue;
        let run = Run {
            images_per_leg: (images / legs.len().max(1)) as u32,
            leg_words: network.layout.leg as u32,
            sequence,
            images: images as u32,
        };
        queue.write_buffer(&self.run, 0, bytes_of(&run));
        let holds = (legs.iter().map(|leg| leg.to_vec()).collect(), first);
        if self.tables_hold.as_ref() == Some(&holds) {
            return Ok(());
        }
        let steps = legs.first().map_or(0, |leg| leg.len());
        let mut words = vec![0f32; steps * self.step_bytes / 4];
        for (leg, pairs) in legs.iter().enumerate() {
            for (step, &pair) in pairs.iter().enumerate() {
                let of = network.leg(pair, step, first && step == 0).map_err(Failure::Unable)?;
                let at = step * self.step_bytes / 4 + leg * of.len();
                words[at..at + of.len()].copy_from_slice(&of);
            }
        }
        queue.write_buffer(&self.tables, 0, cast_slice(&words));
        self.tables_hold = Some(holds);
        Ok(())
    }

    /// Records and submits `steps` steps, `per_submission` at a time, and the copies of the results; before them what
    /// makes states of 8-bit images, if `start`.
    pub(super) fn submit(
        &self,
        network: &Network,
        images: usize,
        steps: usize,
        per_submission: usize,
        start: bool,
    ) -> Result<Vec<wgpu::SubmissionIndex>, Failure> {
        let device = &*network.device;
        let mut waits = Vec::new();
        for first in (0..steps).step_by(per_submission) {
            let end = steps.min(first.saturating_add(per_submission));
            let mut encoder = device.wgpu.create_command_encoder(&Default::default());
            if start && first == 0 {
                self.record_upload(network, &mut encoder, images);
            }
            if !fault::fires(Point::Skip) {
                self.record(network, &mut encoder, images, first..end);
            }
            if end == steps {
                let sources = [self.state(network), &self.map, &self.results];
                let mut at = 0;
                for (source, bytes) in sources.into_iter().zip(read_bytes(network, images, steps)) {
                    if bytes > 0 {
                        encoder.copy_buffer_to_buffer(source, 0, &self.staging, at, bytes as u64);
                    }
                    at += bytes as u64;
                }
            }
            device.reach(Point::Dispatch);
            waits.push(device.queue.submit([encoder.finish()]));
            device.check()?;
        }
        Ok(waits)
    }

    /// The dispatch that makes states of the 8-bit images.
    pub(super) fn record_upload(
        &self,
        network: &Network,
        encoder: &mut wgpu::CommandEncoder,
        images: usize,
    ) {
        let (Some((dispatch, pipeline)), Some(group)) = (&network.upload, &self.upload) else {
            return;
        };
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &self.common, &[0, 0]);
        pass.set_bind_group(1, group, &[]);
        let [x, y, z] = dispatch.groups;
        pass.dispatch_workgroups(x, y, z * images as u32);
    }

    /// The dispatches of `steps`.
    pub(super) fn record(
        &self,
        network: &Network,
        encoder: &mut wgpu::CommandEncoder,
        images: usize,
        steps: std::ops::Range<usize>,
    ) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for step in steps {
            for i in 0..network.dispatches.len() {
                self.record_one(network, &mut pass, images, step, i);
            }
        }
    }

    /// Dispatch `i` of `step`.
    pub(super) fn record_one(
        &self,
        network: &Network,
        pass: &mut wgpu::ComputePass<'_>,
        images: usize,
        step: usize,
        i: usize,
    ) {
        let (dispatch, pipeline) = &network.dispatches[i];
        let offsets = [i * network.params_stride, step * self.step_bytes];
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &self.common, &offsets.map(|offset| offset as u32));
        pass.set_bind_group(1, &self.groups[i], &[]);
        let [x, y, z] = dispatch.groups;
        pass.dispatch_workgroups(x, y, z * images as u32);
    }

    /// Waits for the submissions, and reads what the last one copied.
    pub(super) fn collect(
        &self,
        network: &Network,
        images: usize,
        steps: usize,
        sequence: u32,
        waits: Vec<wgpu::SubmissionIndex>,
        options: &GpuOptions,
    ) -> Result<Read, Failure> {
        let device = &*network.device;
        device.reach(Point::Map);
        let sizes = read_bytes(network, images, steps);
        let total = sizes.iter().sum::<usize>() as u64;
        let words: Vec<u32> = read_back(device, &self.staging, total, waits, options.deadline)?;

        let (state, rest) = words.split_at(sizes[0] / 4);
        let (map, results) = rest.split_at(sizes[1] / 4);
        let floats = |words: &[u32]| words.iter().map(|&w| f32::from_bits(w)).collect();
        let per_step = update_groups(network.shape.pixels()) * RESULT;
        let mut sums = vec![Vec::with_capacity(steps); images];
        for (i, entries) in results.chunks_exact(per_step).enumerate() {
            let (step, image) = (i / images, i % images);
            let mut sum = (0.0, 0.0);
            for entry in entries.chunks_exact(RESULT) {
                if entry[2..] != [sequence, step as u32] {
                    let why = format!(
                        "the results are of run {} and step {}, need {sequence} and {step}",
                        entry[2], entry[3]
                    );
                    device.give_up(why.clone());
                    return Err(Failure::Lost(why));
                }
                sum.0 += f64::from(f32::from_bits(entry[0]));
                sum.1 += f64::from(f32::from_bits(entry[1]));
            }
            sums[image].push(sum);
        }
        Ok(Read { state: floats(state), map: floats(map), steps: sums })
    }
}

/// The first `bytes` bytes of `staging`, once the submissions are done.
pub(super) fn read_back<T: bytemuck::Pod>(
    device: &Device,
    staging: &wgpu::Buffer,
    bytes: u64,
    waits: Vec<wgpu::SubmissionIndex>,
    deadline: Duration,
) -> Result<Vec<T>, Failure> {
    let (mapped, done) = mpsc::channel();
    staging.map_async(wgpu::MapMode::Read, ..bytes, move |result| {
        // Nobody listens after a timeout.
        let _ = mapped.send(result);
    });
    for wait in waits {
        wait_for(device, wait, deadline)?;
    }
    // Another thread that polls the device may have taken the callback, and not come to call it yet.
    let start = Instant::now();
    let result = loop {
        let result = done.recv_timeout(Duration::from_millis(1));
        if result.is_ok() || start.elapsed() > deadline {
            break result;
        }
        device.check()?;
        // Its failure is that of the wait above.
        let _ = device.wgpu.poll(wgpu::PollType::Poll);
    };
    let range = match result {
        Ok(Ok(())) => staging.get_mapped_range(..bytes).map_err(|error| format!("{error:?}")),
        other => Err(format!("{other:?}")),
    };
    let range = range.map_err(|why| {
        let why = format!("the results could not be mapped: {why}");
        device.give_up(why.clone());
        Failure::Lost(why)
    })?;
    let values = bytemuck::pod_collect_to_vec(&range);
    drop(range);
    staging.unmap();
    device.check()?;
    Ok(values)
}

/// Waits for one submission; after the deadline the device counts as hung.
pub(super) fn wait_for(
    device: &Device,
    wait: wgpu::SubmissionIndex,
    deadline: Duration,
) -> Result<(), Failure> {
    let poll = wgpu::PollType::Wait { submission_index: Some(wait), timeout: Some(deadline) };
    let mut polled = device.wgpu.poll(poll).map(|_| ());
    if fault::fires(Point::Hang) {
        polled = Err(wgpu::PollError::Timeout);
    }
    let Err(error) = polled else { return device.check() };
    device.check()?;
    if matches!(error, wgpu::PollError::Timeout) {
        return Err(device.hang(format!("no answer within {} s", deadline.as_secs_f64())));
    }
    device.give_up(format!("the work was not submitted: {error}"));
    device.check()
}

/// A group of buffers.
pub(super) fn bind<'a>(
    device: &Device,
    layout: &wgpu::BindGroupLayout,
    resources: impl IntoIterator<Item = wgpu::BindingResource<'a>>,
) -> Result<wgpu::BindGroup, Failure> {
    let resources = resources.into_iter().zip(0..);
    let entries: Vec<_> =
        resources.map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource }).collect();
    device.guarded("bind group", 0, || {
        device.wgpu.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout,
            entries: &entries,
        })
    })
}
