//! A service: one detector shared by threads that score frames from a queue. `service MODEL [THREADS] [FRAMES]`

use std::error::Error;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use f2d2::preprocess::noise;
use f2d2::{Detector, DetectorOptions, Frame, PixelFormat, Verdict};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: service MODEL [THREADS] [FRAMES]")?;
    let threads: usize = arguments.next().map_or(Ok(4), |text| text.parse())?;
    let frames: u32 = arguments.next().map_or(Ok(200), |text| text.parse())?;

    // The service brings its own threads, so the detector needs one.
    let options = DetectorOptions { threads: 1, ..DetectorOptions::default() };
    let detector = Arc::new(Detector::open(model, options)?);
    let shape = detector.model().manifest().preprocess.shape;
    let (width, height) = (shape.width as u32, shape.height as u32);

    // A short queue: a camera that is faster than the detector waits instead of filling the memory.
    let (camera, queue) = mpsc::sync_channel::<Vec<u8>>(16);
    let queue = Arc::new(Mutex::new(queue));
    let start = Instant::now();
    let workers: Vec<_> = (0..threads.max(1))
        .map(|_| {
            let (detector, queue) = (Arc::clone(&detector), Arc::clone(&queue));
            std::thread::spawn(move || {
                let mut counts = [0usize; 4];
                loop {
                    // The lock is held while waiting for a frame, never while scoring it.
                    let Ok(Ok(pixels)) = queue.lock().map(|queue| queue.recv()) else {
                        return counts;
                    };
                    let frame = Frame::packed(&pixels, PixelFormat::Gray8, width, height);
                    let verdict = frame.map(|frame| detector.inspect(&frame).verdict);
                    counts[match verdict {
                        Ok(Some(Verdict::Normal)) => 0,
                        Ok(Some(Verdict::Anomalous)) => 1,
                        Ok(Some(Verdict::Invalid(_))) | Err(_) => 2,
                        Ok(None) => 3,
                    }] += 1;
                }
            })
        })
        .collect();
    for i in 0..frames {
        let pixels = noise::uniform(1, i, shape.pixels());
        camera.send(pixels.into_iter().map(|u| (u * 255.0) as u8).collect())?;
    }
    drop(camera);
    let mut total = [0; 4];
    for worker in workers {
        let counts = worker.join().map_err(|_| "a worker panicked")?;
        total.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
    }
    let rate = f64::from(frames) / start.elapsed().as_secs_f64();
    let [normal, anomalous, invalid, scored] = total;
    println!("{frames} frames on {threads} threads, {rate:.1} frames/s");
    println!(
        "{normal} normal, {anomalous} anomalous, {invalid} invalid, {scored} without a calibration"
    );
    Ok(())
}
