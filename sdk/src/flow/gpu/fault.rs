//! Losing a device on purpose, so that tests can see what follows.

use std::sync::atomic::{AtomicU32, Ordering};

/// Where a device can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Point {
    /// Before the images are written.
    Upload = 1,
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
}

/// The point in the upper half, how many times it still fires in the lower.
static ARMED: AtomicU32 = AtomicU32::new(0);

/// The next `times` devices that reach `point` are lost there.
pub fn lose_device_at(point: Point, times: u16) {
    ARMED.store(((point as u32) << 16) | u32::from(times), Ordering::SeqCst);
}

/// Whether the device at `point` is to be lost now.
pub(super) fn fires(point: Point) -> bool {
    let take = |armed: u32| (armed >> 16 == point as u32 && armed & 0xffff > 0).then(|| armed - 1);
    ARMED.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
}
