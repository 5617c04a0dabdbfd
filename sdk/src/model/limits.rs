//! Resource limits that a model file must keep, checked before anything is allocated for it.

use crate::error::{Error, Result};

/// Upper bounds; raise or lower any of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Nodes of the graph.
    pub nodes: u64,
    /// Constant tensors of the graph.
    pub initializers: u64,
    /// Dimensions of one tensor.
    pub rank: u64,
    /// Length of one dimension.
    pub dimension: u64,
    /// Bytes of one tensor.
    pub tensor_bytes: u64,
    /// Bytes of one name.
    pub name_bytes: u64,
    /// Values of one image, channels times height times width.
    pub image_values: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 2 << 30,
            nodes: 50_000,
            initializers: 20_000,
            rank: 8,
            dimension: 1 << 20,
            tensor_bytes: 1 << 30,
            name_bytes: 4096,
            image_values: 1 << 24,
        }
    }
}

impl Limits {
    pub(super) fn check(&self, what: &'static str, got: u64, limit: u64) -> Result<()> {
        if got > limit {
            return Err(Error::ModelTooLarge { what, got, limit });
        }
        Ok(())
    }
}
