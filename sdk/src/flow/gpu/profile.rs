//! Where an evaluation spends its time: a timestamp before and after every dispatch.

use std::time::Duration;

use wgpu::BufferUsages;

use super::failure::Failure;
use super::network::Network;
use super::upload::Images;
use super::workspace::{Workspace, read_back};
use crate::flow::{GpuOptions, KernelTime};

/// Evaluations of which the median is taken, after one more.
const ROUNDS: usize = 9;

/// Time of every dispatch of one evaluation of `images`, [C, H, W] each, from t to s; empty where the device has no
/// clock that the host can read.
pub(super) fn profile(
    network: &Network,
    images: &[&[f32]],
    pair: (f64, f64),
    options: &GpuOptions,
) -> Result<Vec<KernelTime>, Failure> {
    let device = &*network.device;
    let count = 2 * network.dispatches.len();
    let clock = device.wgpu.features().contains(wgpu::Features::TIMESTAMP_QUERY);
    if !clock || count > wgpu::QUERY_SET_MAX_QUERIES as usize {
        return Ok(vec![]);
    }
    let mut workspace = Workspace::new(network, network.bucket(images.len())?)?;
    workspace.upload(network, Images::Values(images))?;
    workspace.prepare(network, images.len(), &[&[pair]], true, network.next_sequence())?;
    let queries = device.guarded("timestamps", 0, || {
        device.wgpu.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timestamps"),
            ty: wgpu::QueryType::Timestamp,
            count: count as u32,
        })
    })?;
    let bytes = count as u64 * 8;
    let resolve = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
    let resolved = device.buffer("timestamps", bytes, resolve)?;
    let map = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
    let staging = device.buffer("timestamps", bytes, map)?;
    let mut times: Vec<Vec<u64>> = vec![Vec::with_capacity(ROUNDS); network.dispatches.len()];
    for round in 0..=ROUNDS {
        let mut encoder = device.wgpu.create_command_encoder(&Default::default());
        for i in 0..network.dispatches.len() {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(2 * i as u32),
                    end_of_pass_write_index: Some(2 * i as u32 + 1),
                }),
            });
            workspace.record_one(network, &mut pass, images.len(), 0, i);
        }
        encoder.resolve_query_set(&queries, 0..count as u32, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, bytes);
        let wait = device.queue.submit([encoder.finish()]);
        let ticks: Vec<u64> = read_back(device, &staging, bytes, vec![wait], options.deadline)?;
        if round > 0 {
            for (times, pair) in times.iter_mut().zip(ticks.chunks_exact(2)) {
                times.push(pair[1].saturating_sub(pair[0]));
            }
        }
    }
    let period = f64::from(device.queue.get_timestamp_period());
    let kernel = |(mut times, (dispatch, _)): (Vec<u64>, &(super::shader::Dispatch, _))| {
        times.sort_unstable();
        let (call, multiplications) = &dispatch.call;
        KernelTime {
            kernel: format!("{} {call}", dispatch.kernel).trim_end().to_owned(),
            time: Duration::from_secs_f64(times[ROUNDS / 2] as f64 * period * 1e-9),
            multiplications: multiplications * images.len(),
        }
    };
    Ok(times.into_iter().zip(&network.dispatches).map(kernel).collect())
}
