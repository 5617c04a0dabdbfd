//! What can go wrong on a device.

use crate::error::Error;

/// Why work on a device did not end well.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The device is gone; another one may do.
    Lost(String),
    /// The device does not answer, and its adapter is not to be asked again: a call to its driver may never return.
    Hung(String),
    /// The device has no room.
    Memory { what: &'static str, bytes: u64 },
    /// The device or the plan cannot do this at all.
    Unable(String),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost(why) | Failure::Hung(why) => Self::DeviceLost { why },
            Failure::Memory { what, bytes } => Self::OutOfDeviceMemory { what, bytes },
            Failure::Unable(why) => Self::EngineUnavailable { engine: "gpu".into(), why },
        }
    }
}
