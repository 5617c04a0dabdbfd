//! What the C boundary costs: measured, and held to its bounds. Run alone:
//! `cargo test --release --workspace --test boundary -- --ignored --nocapture`

#![cfg(target_os = "linux")]
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::{CString, c_char, c_void};
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

use f2d2::{Detector, DetectorOptions, EngineChoice, Frame, PixelFormat};
use f2d2_tests::native::library;
use f2d2_tests::programs::root;
use libloading::{Library, Symbol};

const SIDE: u32 = 28;
/// Scoring through C takes at most this many times as long as through Rust.
const RATIO: f64 = 1.02;
/// Two threads on two cores score at least this many times as many frames as one.
const SPEED_UP: f64 = 1.8;
const ROUNDS: usize = 6;

/// As the header has it.
#[repr(C)]
struct FrameDescription {
    struct_size: u32,
    format: u32,
    data: *const c_void,
    size: u64,
    stride: u64,
    width: u32,
    height: u32,
    roi: [u32; 4],
}

/// As the header has it.
#[repr(C)]
struct DetectorDescription {
    struct_size: u32,
    threads: u32,
    numbers: [u32; 6],
    noise_floors: *const f64,
    engine: *const c_char,
    rest: [usize; 4],
}

type Create = unsafe extern "C" fn(usize, *const c_void, *mut usize) -> i32;
type Open = unsafe extern "C" fn(*const c_char, *const c_void, *mut usize) -> i32;
type Score = unsafe extern "C" fn(usize, *const FrameDescription, *mut [u64; 11]) -> i32;

struct Through<'a> {
    score: Symbol<'a, Score>,
    create: Symbol<'a, Create>,
    detector: usize,
}

impl<'a> Through<'a> {
    fn new(library: &'a Library, model: &str, threads: u32) -> Self {
        // SAFETY: the types are those of the header, which tests/abi.rs compares with the library.
        unsafe {
            let open: Symbol<'_, Open> = library.get(c"f2d2_model_open").unwrap();
            let make: Symbol<'_, Create> = library.get(c"f2d2_detector_create").unwrap();
            let (mut opened, mut detector) = (0, 0);
            let path = CString::new(model).unwrap();
            assert_eq!(open(path.as_ptr(), null(), &mut opened), 0);
            let options = DetectorDescription {
                struct_size: size_of::<DetectorDescription>() as u32,
                threads,
                numbers: [0; 6],
                noise_floors: null_mut(),
                engine: c"cpu".as_ptr(),
                rest: [0; 4],
            };
            assert_eq!(make(opened, (&raw const options).cast(), &mut detector), 0);
            let score = library.get(c"f2d2_session_score").unwrap();
            Self { score, create: library.get(c"f2d2_session_create").unwrap(), detector }
        }
    }

    fn session(&self) -> usize {
        let mut session = 0;
        // SAFETY: a variable that lives here.
        assert_eq!(unsafe { (self.create)(self.detector, null(), &mut session) }, 0);
        session
    }

    /// Bits per dimension of one grey frame.
    fn score(&self, session: usize, pixels: &[u8]) -> f64 {
        let frame = FrameDescription {
            struct_size: size_of::<FrameDescription>() as u32,
            format: 1,
            data: pixels.as_ptr().cast(),
            size: pixels.len() as u64,
            stride: 0,
            width: SIDE,
            height: SIDE,
            roi: [0; 4],
        };
        let mut inspection = [0u64; 11];
        inspection[0] = size_of_val(&inspection) as u64;
        // SAFETY: variables that live here, with the sizes of the header.
        assert_eq!(unsafe { (self.score)(session, &frame, &mut inspection) }, 0);
        f64::from_bits(inspection[5])
    }
}

fn pictures() -> Vec<Vec<u8>> {
    let pixel = |i: u32, k: u32| (k.wrapping_mul(2_654_435_761).wrapping_add(i * 97) >> 24) as u8;
    (0..16).map(|i| (0..SIDE * SIDE).map(|k| pixel(i, k)).collect()).collect()
}

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

fn timed(call: impl FnOnce() -> f64) -> (f64, Duration) {
    let start = Instant::now();
    let value = call();
    (value, start.elapsed())
}

fn model() -> String {
    root().join("models/fashion-mnist/model.onnx").display().to_string()
}

#[test]
#[ignore = "a measurement: run it alone"]
fn scoring_through_c_costs_next_to_nothing() {
    // SAFETY: the library was built by this workspace.
    let library = unsafe { Library::new(library()) }.unwrap();
    let through = Through::new(&library, &model(), 1);
    let session = through.session();
    let options =
        DetectorOptions { threads: 1, engine: EngineChoice::Cpu, ..DetectorOptions::default() };
    let detector = Detector::open(model(), options).unwrap();
    let direct = |pixels: &[u8]| {
        let frame = Frame::packed(pixels, PixelFormat::Gray8, SIDE, SIDE).unwrap();
        detector.inspect(&frame).measurement.unwrap().bpd.0
    };
    let pictures = pictures();
    let mut ratios = Vec::new();
    let mut total = [Duration::ZERO; 2];
    for round in 0..60 {
        // In turns, so that what else the machine does meets both alike.
        for (i, picture) in pictures.iter().enumerate() {
            let (c, rust);
            if (i + round) % 2 == 0 {
                c = timed(|| through.score(session, picture));
                rust = timed(|| direct(picture));
            } else {
                rust = timed(|| direct(picture));
                c = timed(|| through.score(session, picture));
            }
            assert_eq!(c.0, rust.0);
            if round >= 10 {
                ratios.push(c.1.as_secs_f64() / rust.1.as_secs_f64());
                total[0] += c.1;
                total[1] += rust.1;
            }
        }
    }
    let frames = ratios.len() as u32;
    let ratio = median(ratios);
    println!(
        "{frames} frames: {:?} through C, {:?} through Rust, median ratio {ratio:.4}",
        total[0] / frames,
        total[1] / frames
    );
    assert!(ratio <= RATIO, "{ratio}");
}

#[test]
#[ignore = "a measurement: run it alone"]
fn two_threads_share_one_detector() {
    // SAFETY: the library was built by this workspace.
    let library = unsafe { Library::new(library()) }.unwrap();
    // With one thread, a detector computes on the threads of its callers.
    let shared = Through::new(&library, &model(), 1);
    let own = [Through::new(&library, &model(), 1), Through::new(&library, &model(), 1)];
    let pictures = pictures();
    let frames_per_second = |detectors: [&Through<'_>; 2], threads: usize| {
        let start = Instant::now();
        let wanted = Duration::from_secs(2);
        let frames: usize = std::thread::scope(|scope| {
            let handles: Vec<_> = detectors[..threads]
                .iter()
                .map(|through| {
                    let pictures = &pictures;
                    scope.spawn(move || {
                        let session = through.session();
                        let mut frames = 0;
                        while start.elapsed() < wanted {
                            through.score(session, &pictures[frames % pictures.len()]);
                            frames += 1;
                        }
                        frames
                    })
                })
                .collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).sum()
        });
        frames as f64 / start.elapsed().as_secs_f64()
    };
    let ratio = |name: &str, detectors: [&Through<'_>; 2]| {
        // In turns, and the best of each: what else the machine does only ever takes away.
        let (mut one, mut two) = (0.0f64, 0.0f64);
        for _ in 0..ROUNDS {
            one = one.max(frames_per_second(detectors, 1));
            two = two.max(frames_per_second(detectors, 2));
        }
        let ratio = two / one;
        println!("{name}: {one:.1} frames/s on one thread, {two:.1} on two, ratio {ratio:.3}");
        ratio
    };
    ratio("a detector each", [&own[0], &own[1]]);
    let ratio = ratio("one detector", [&shared, &shared]);
    assert!(ratio >= SPEED_UP, "{ratio}");
}
