//! The one error type of the library, with stable numeric codes.

use std::path::PathBuf;

/// A result with this library's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. Messages are lower case: what was got, then what was needed.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A frame's description or pixels cannot be used; the caller must fix the frame.
    #[error("frame {field} is {got}, need {need}")]
    InvalidFrame {
        /// Which property of the frame.
        field: &'static str,
        /// What it is.
        got: String,
        /// What it has to be.
        need: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The model file is not a usable f2d2 model: damaged, hostile or of another kind.
    #[error("model {model} is not usable: {why}")]
    ModelCorrupt {
        /// The file or name of the model.
        model: String,
        /// What is wrong with it.
        why: String,
    },
    /// The model's manifest has a format version that this library does not know.
    #[error("model manifest has format version {found}, this library reads {supported}")]
    ModelTooNew {
        /// The version in the file.
        found: u32,
        /// The version that is supported.
        supported: u32,
    },
    /// The graph holds an operator, data type or attribute outside the allowed list.
    #[error("model node {node:?} is not allowed: {why}")]
    ModelNotAllowed {
        /// Name of the node or tensor.
        node: String,
        /// What is not allowed.
        why: String,
    },
    /// The model exceeds a resource limit.
    #[error("model {what} is {got}, the limit is {limit}")]
    ModelTooLarge {
        /// Which quantity.
        what: &'static str,
        /// Its value.
        got: u64,
        /// The limit in force.
        limit: u64,
    },
    /// The engine does not reproduce the golden vectors stored in the model.
    #[error("self-test on engine {engine}: {what} is {got}, the model file says {need}")]
    SelfTest {
        /// The engine that was tested.
        engine: String,
        /// Which golden value differs.
        what: String,
        /// What the engine computed.
        got: f64,
        /// What the model file records.
        need: f64,
    },
    /// The requested engine cannot be used here.
    #[error("engine {engine} is unavailable: {why}")]
    EngineUnavailable {
        /// The engine asked for.
        engine: String,
        /// Why it cannot be used.
        why: String,
    },
    /// The engine failed while evaluating the network.
    #[error("engine {engine} failed: {why}")]
    Engine {
        /// The engine in use.
        engine: String,
        /// Its reason.
        why: String,
    },
    /// A computed number is NaN or infinite.
    #[error("{what} is not finite")]
    NonFinite {
        /// Which number.
        what: &'static str,
    },
    /// The GPU is gone, or does not answer, and could not be had again.
    #[error("the gpu was lost: {why}")]
    DeviceLost {
        /// What the driver said.
        why: String,
    },
    /// The GPU has no room.
    #[error("the gpu has no room for {bytes} bytes of {what}")]
    OutOfDeviceMemory {
        /// What was to be stored.
        what: &'static str,
        /// Its size.
        bytes: u64,
    },
    /// A model that only samples could not be inverted for scoring: its map expands too much in this step.
    #[error(
        "step from t = {from} to {to} is not invertible: residual {residual:e}, need {need:e}; take more steps"
    )]
    NotInvertible {
        /// Time at which the step starts.
        from: f64,
        /// Time at which it ends.
        to: f64,
        /// Largest distance of a value from its start when the iteration gave up.
        residual: f32,
        /// The largest distance that is accepted.
        need: f32,
    },
    /// An option of the caller is out of range.
    #[error("{option} is {got}, need {need}")]
    InvalidOption {
        /// Which option.
        option: &'static str,
        /// Its value.
        got: String,
        /// The values allowed.
        need: String,
    },
    /// There are too few normal images for the requested guarantee.
    #[error("calibration got {got} usable images, need at least {need}")]
    TooFewImages {
        /// Usable normal images.
        got: usize,
        /// The smallest number that supports the request.
        need: usize,
    },
    /// The calibration file cannot be understood.
    #[error("calibration is not usable: {why}")]
    CalibrationCorrupt {
        /// What is wrong with it.
        why: String,
    },
    /// The calibration was made for another model, schedule, engine or preprocessing.
    #[error("calibration was made for {field} {got}, this detector has {need}")]
    CalibrationMismatch {
        /// Which part differs.
        field: &'static str,
        /// What the calibration was made for.
        got: String,
        /// What the detector has.
        need: String,
    },
}

/// Stable numbers of the error kinds, in blocks per stage: never reused, never renumbered.
#[non_exhaustive]
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// [`Error::InvalidFrame`]
    InvalidFrame = 100,
    /// [`Error::Io`]
    Io = 200,
    /// [`Error::ModelCorrupt`]
    ModelCorrupt = 201,
    /// [`Error::ModelTooNew`]
    ModelTooNew = 202,
    /// [`Error::ModelNotAllowed`]
    ModelNotAllowed = 203,
    /// [`Error::ModelTooLarge`]
    ModelTooLarge = 204,
    /// [`Error::SelfTest`]
    SelfTest = 300,
    /// [`Error::EngineUnavailable`]
    EngineUnavailable = 301,
    /// [`Error::Engine`]
    Engine = 302,
    /// [`Error::NonFinite`]
    NonFinite = 303,
    /// [`Error::DeviceLost`]
    DeviceLost = 304,
    /// [`Error::OutOfDeviceMemory`]
    OutOfDeviceMemory = 305,
    /// [`Error::NotInvertible`]
    NotInvertible = 306,
    /// [`Error::InvalidOption`]
    InvalidOption = 400,
    /// [`Error::TooFewImages`]
    TooFewImages = 500,
    /// [`Error::CalibrationCorrupt`]
    CalibrationCorrupt = 501,
    /// [`Error::CalibrationMismatch`]
    CalibrationMismatch = 502,
}

impl Error {
    /// The stable number of this error's kind.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidFrame { .. } => ErrorCode::InvalidFrame,
            Self::Io { .. } => ErrorCode::Io,
            Self::ModelCorrupt { .. } => ErrorCode::ModelCorrupt,
            Self::ModelTooNew { .. } => ErrorCode::ModelTooNew,
            Self::ModelNotAllowed { .. } => ErrorCode::ModelNotAllowed,
            Self::ModelTooLarge { .. } => ErrorCode::ModelTooLarge,
            Self::SelfTest { .. } => ErrorCode::SelfTest,
            Self::EngineUnavailable { .. } => ErrorCode::EngineUnavailable,
            Self::Engine { .. } => ErrorCode::Engine,
            Self::NonFinite { .. } => ErrorCode::NonFinite,
            Self::DeviceLost { .. } => ErrorCode::DeviceLost,
            Self::OutOfDeviceMemory { .. } => ErrorCode::OutOfDeviceMemory,
            Self::NotInvertible { .. } => ErrorCode::NotInvertible,
            Self::InvalidOption { .. } => ErrorCode::InvalidOption,
            Self::TooFewImages { .. } => ErrorCode::TooFewImages,
            Self::CalibrationCorrupt { .. } => ErrorCode::CalibrationCorrupt,
            Self::CalibrationMismatch { .. } => ErrorCode::CalibrationMismatch,
        }
    }

    pub(crate) fn option(
        option: &'static str,
        got: impl std::fmt::Display,
        need: impl Into<String>,
    ) -> Self {
        Self::InvalidOption { option, got: got.to_string(), need: need.into() }
    }
}
