//! A camera at the edge: frames are read where the camera put them, and only the 8-bit image of the model's size that is
//! made of each is copied once, into the staging buffer of the upload. Two are in work at a time, so that one is uploaded
//! and read back while the other is computed.
//!
//! With `--rate 0` the camera is faster than the network: the latencies then are mostly time in the queue.
//!
//! `edge-frames MODEL [--video FILE.y4m] [--engine gpu|cpu|auto] [--rate FRAMES_PER_SECOND]`

mod camera;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use f2d2::{
    Calibration, Detector, DetectorOptions, EngineChoice, Frame, GpuOptions, PixelFormat, Verdict,
};

use crate::camera::{Camera, Size};

/// Frames in work at the same time: one on its way to or from the device, one on it.
const IN_WORK: usize = 2;

/// Judges the frames of a camera as they come.
#[derive(Parser)]
struct Options {
    /// Model file
    model: PathBuf,
    /// Judge by this calibration
    #[arg(long)]
    calibration: Option<PathBuf>,
    /// Take frames from a YUV4MPEG2 file (its luma) instead of a synthetic camera
    #[arg(long, value_name = "FILE")]
    video: Option<PathBuf>,
    /// Engine that runs the network: auto, cpu, gpu or tract
    #[arg(long, default_value = "auto")]
    engine: EngineChoice,
    /// GPU to use, by PCI bus id or a part of its name
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Frames to take
    #[arg(long, default_value_t = 300)]
    frames: usize,
    /// Frames per second of the camera; 0 waits for the network instead of dropping frames
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
}

/// A filled buffer and when it was filled.
struct Shot {
    pixels: Vec<u8>,
    taken: Instant,
}

/// What became of the frames.
#[derive(Default)]
struct Tally {
    latencies: Vec<Duration>,
    anomalous: usize,
    invalid: usize,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let gpu = GpuOptions { adapter: options.adapter.clone(), ..GpuOptions::default() };
    let setup = DetectorOptions { engine: options.engine, gpu, ..DetectorOptions::default() };
    let mut detector = Detector::open(&options.model, setup)?;
    if let Some(path) = &options.calibration {
        detector.set_calibration(Calibration::load(path)?)?;
    }
    let detector = Arc::new(detector);
    let shape = detector.model().manifest().preprocess.shape;
    let mut camera = match &options.video {
        Some(path) => Camera::video(path).with_context(|| path.display().to_string())?,
        None => Camera::synthetic(Size { width: shape.width, height: shape.height }),
    };
    let size = camera.size();

    // Buffers go round: camera, queue, worker, camera. There are no others, and none is copied as a whole.
    let (back, free) = channel();
    let (camera_side, queue) = sync_channel::<Shot>(IN_WORK);
    for _ in 0..2 * IN_WORK + 1 {
        back.send(vec![0; size.width * size.height])?;
    }
    let queue = Arc::new(Mutex::new(queue));
    let start = Instant::now();
    let workers: Vec<_> = (0..IN_WORK)
        .map(|_| {
            let (detector, queue, back) = (Arc::clone(&detector), Arc::clone(&queue), back.clone());
            std::thread::spawn(move || work(&detector, &queue, &back, size))
        })
        .collect();
    drop(back);

    let (mut taken, mut dropped) = (0, 0);
    let mut spare = None;
    let mut failed = None;
    while taken < options.frames {
        let Some(mut pixels) = spare.take().or_else(|| free.recv().ok()) else { break };
        match camera.fill(&mut pixels) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
        if options.rate > 0.0 {
            let due = start + Duration::from_secs_f64(taken as f64 / options.rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        taken += 1;
        let shot = Shot { pixels, taken: Instant::now() };
        if options.rate > 0.0 {
            // A camera does not wait: what the network cannot take in time is lost.
            match camera_side.try_send(shot) {
                Ok(()) => {}
                Err(TrySendError::Full(shot) | TrySendError::Disconnected(shot)) => {
                    dropped += 1;
                    spare = Some(shot.pixels);
                }
            }
        } else if camera_side.send(shot).is_err() {
            break;
        }
    }
    drop(camera_side);
    let mut all = Tally::default();
    for worker in workers {
        let Ok(tally) = worker.join() else { anyhow::bail!("a worker panicked") };
        all.latencies.extend(tally.latencies);
        all.anomalous += tally.anomalous;
        all.invalid += tally.invalid;
    }
    // Only now: a process must not end while threads are still at work on the device.
    failed.map_or_else(|| report(&detector, all, dropped, start.elapsed()), Err)
}

/// Judges frames until the camera ends.
fn work(
    detector: &Detector,
    queue: &Mutex<Receiver<Shot>>,
    back: &Sender<Vec<u8>>,
    size: Size,
) -> Tally {
    let mut tally = Tally::default();
    loop {
        // The lock is held while waiting for a frame, never while judging it.
        let shot = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(shot) = shot else { return tally };
        let (width, height) = (size.width as u32, size.height as u32);
        let frame = Frame::packed(&shot.pixels, PixelFormat::Gray8, width, height);
        match frame.map(|frame| detector.inspect(&frame).verdict) {
            Ok(Some(Verdict::Anomalous)) => tally.anomalous += 1,
            Ok(Some(Verdict::Invalid(_))) | Err(_) => tally.invalid += 1,
            Ok(_) => {}
        }
        tally.latencies.push(shot.taken.elapsed());
        // Nobody waits for buffers once the camera has ended.
        let _ = back.send(shot.pixels);
    }
}

fn report(detector: &Detector, tally: Tally, dropped: usize, time: Duration) -> Result<()> {
    let Tally { mut latencies, anomalous, invalid } = tally;
    latencies.sort_unstable();
    let judged = latencies.len();
    let at = |q: f64| match latencies.as_slice() {
        [] => f64::NAN,
        all => all[((judged - 1) as f64 * q).round() as usize].as_secs_f64() * 1e3,
    };
    let engine = detector.engine();
    println!("engine    {} {} ({})", engine.engine, engine.precision, engine.reason);
    println!(
        "frames    {judged} judged, {dropped} dropped, {:.1} frames/s",
        judged as f64 / time.as_secs_f64()
    );
    println!("latency   p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms", at(0.5), at(0.99), at(0.999));
    println!("verdicts  {anomalous} anomalous, {invalid} invalid");
    Ok(())
}
