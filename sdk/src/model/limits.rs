//! Resource limits that a model file must keep, checked before anything is allocated for it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

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

    /// The bytes of a regular file, at most `file_bytes` of them even if it grows while being read.
    pub(super) fn read_file(&self, path: &Path) -> Result<Vec<u8>> {
        let io = |source| Error::Io { action: "read", path: path.into(), source };
        // Opening a pipe would wait for its other end: look before opening, and again at what was opened.
        let regular = |meta: &std::fs::Metadata| {
            if meta.is_file() { Ok(()) } else { Err(std::io::Error::other("not a regular file")) }
        };
        std::fs::metadata(path).and_then(|meta| regular(&meta)).map_err(io)?;
        let file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        regular(&meta).map_err(io)?;
        self.check("file size in bytes", meta.len(), self.file_bytes)?;
        let mut bytes = Vec::new();
        file.take(self.file_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
        self.check("file size in bytes", bytes.len() as u64, self.file_bytes)?;
        Ok(bytes)
    }
}
