//! The model file: one self-contained ONNX file with a manifest in its metadata.
//!
//! A file is read once; the same bytes are hashed, checked and parsed. The check and the engine see the same parsed
//! message, so that they cannot disagree about what the file says.

mod constants;
mod golden;
mod gradient;
mod limits;
mod manifest;
mod onnx;
mod stored;

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::file;

pub use golden::{Golden, GoldenGradient, Start};
pub use limits::Limits;
pub use manifest::{Directions, FORMAT_VERSION, Head, Manifest, Provenance, TimeParametrization};
pub(crate) use onnx::Graph;

/// A model that was read, checked against the allowed operators and limits, and not yet put on an engine.
///
/// It holds the weights as the file has them. Engines make copies of their own, so that nothing but more engines needs
/// the model once it is on one.
#[derive(Debug)]
pub struct Model {
    info: Arc<ModelInfo>,
    graph: Graph,
}

/// What a model is, without its weights.
#[derive(Debug)]
pub struct ModelInfo {
    name: String,
    hash: String,
    manifest: Manifest,
    file_bytes: usize,
    guides: bool,
}

impl Model {
    /// Reads and checks the model file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read or is no regular file, [`Error::ModelTooLarge`] beyond `limits`, and
    /// [`Error::ModelCorrupt`], [`Error::ModelNotAllowed`], [`Error::ModelTooNew`] for unusable content.
    pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        let path = path.as_ref();
        let bytes = file::read(path, limits.file_bytes)?;
        Self::parsed(&path.display().to_string(), &bytes, limits)
    }

    /// Checks a model that is already in memory; `name` appears in messages.
    ///
    /// # Errors
    /// As [`Model::open`], without the file's.
    pub fn from_bytes(name: &str, bytes: &[u8], limits: &Limits) -> Result<Self> {
        limits.check("file size in bytes", bytes.len() as u64, limits.file_bytes)?;
        Self::parsed(name, &Bytes::copy_from_slice(bytes), limits)
    }

    fn parsed(name: &str, bytes: &Bytes, limits: &Limits) -> Result<Self> {
        let file_bytes = bytes.len();
        limits.check("file size in bytes", file_bytes as u64, limits.file_bytes)?;
        let hash = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let (graph, manifest) = onnx::parse(name, bytes, limits)?;
        let values = manifest.preprocess.shape.len() as u64;
        limits.check("number of values of an image", values, limits.image_values)?;
        manifest.check().map_err(|why| Error::ModelCorrupt { model: name.into(), why })?;
        graph.check_signature(name, &manifest)?;
        if graph.has_gradient() != manifest.golden_gradient.is_some() {
            let why = "it has one of the output grad_d and its golden vector, need both or none";
            return Err(Error::ModelCorrupt { model: name.into(), why: why.into() });
        }
        let guides = graph.has_gradient();
        let info = ModelInfo { name: name.into(), hash, manifest, file_bytes, guides };
        Ok(Self { info: Arc::new(info), graph })
    }

    /// What it is, without its weights.
    pub fn info(&self) -> &Arc<ModelInfo> {
        &self.info
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }
}

/// A model is asked what it is like its [`ModelInfo`].
impl Deref for Model {
    type Target = ModelInfo;

    fn deref(&self) -> &ModelInfo {
        &self.info
    }
}

impl ModelInfo {
    /// The path or name it was opened with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the file, lower-case hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Size of the file.
    pub fn file_bytes(&self) -> usize {
        self.file_bytes
    }

    /// What the model says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether samples can be guided: the file has the output `grad_d`.
    pub fn guides(&self) -> bool {
        self.guides
    }
}
