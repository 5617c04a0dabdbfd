//! Losing a device on purpose, so that tests can see what follows.

use std::sync::atomic::{AtomicU16, Ordering};

/// Where a device can be lost, or something else can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Point {
    /// Before the images are written.
    Upload,
    /// Between recording and submitting.
    Dispatch,
    /// Before the results are mapped.
    Map,
    /// While the device is given back.
    Destroy,
    /// Not lost, but wrong: the self-test of cooperative matrices.
    Product,
    /// Not lost, but full: when a buffer is asked for.
    Memory,
    /// Gone: there is no adapter when one is chosen.
    Adapter,
    /// Hung: no answer to a submission within the deadline.
    Hang,
    /// Not lost, but wrong: the result of a golden input.
    Golden,
    /// Not lost, but wrong: f16 has other likelihoods than f32.
    Narrow,
    /// Not lost, but not done: a submission without its kernels.
    Skip,
}

const POINTS: usize = Point::Skip as usize + 1;

/// How many times each point still fires.
static ARMED: [AtomicU16; POINTS] = [const { AtomicU16::new(0) }; POINTS];

/// The next `times` devices that reach `point` are lost there, or what else the point says.
pub fn lose_device_at(point: Point, times: u16) {
    ARMED[point as usize].store(times, Ordering::SeqCst);
}

/// How many times `point` would still fire.
pub fn left_at(point: Point) -> u16 {
    ARMED[point as usize].load(Ordering::SeqCst)
}

/// Whether the device at `point` is to be lost now.
pub(super) fn fires(point: Point) -> bool {
    let take = |left: u16| left.checked_sub(1);
    ARMED[point as usize].fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
}
