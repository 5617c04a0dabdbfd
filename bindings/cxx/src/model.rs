//! Models.

use std::sync::Arc;

use crate::failure::{Failure, guard};
use crate::ffi;

pub(crate) struct Model(pub(crate) Arc<f2d2::Model>);

pub(crate) fn limits() -> ffi::Limits {
    let f2d2::Limits {
        file_bytes,
        nodes,
        initializers,
        rank,
        dimension,
        tensor_bytes,
        name_bytes,
        image_values,
    } = f2d2::Limits::default();
    ffi::Limits {
        file_bytes,
        nodes,
        initializers,
        rank,
        dimension,
        tensor_bytes,
        name_bytes,
        image_values,
    }
}

impl From<&ffi::Limits> for f2d2::Limits {
    fn from(limits: &ffi::Limits) -> Self {
        Self {
            file_bytes: limits.file_bytes,
            nodes: limits.nodes,
            initializers: limits.initializers,
            rank: limits.rank,
            dimension: limits.dimension,
            tensor_bytes: limits.tensor_bytes,
            name_bytes: limits.name_bytes,
            image_values: limits.image_values,
        }
    }
}

pub(crate) fn model_open(path: &str, limits: &ffi::Limits) -> Result<Box<Model>, Failure> {
    guard(|| Ok(Box::new(Model(Arc::new(f2d2::Model::open(path, &limits.into())?)))))
}

pub(crate) fn model_from_bytes(
    name: &str,
    bytes: &[u8],
    limits: &ffi::Limits,
) -> Result<Box<Model>, Failure> {
    guard(|| Ok(Box::new(Model(Arc::new(f2d2::Model::from_bytes(name, bytes, &limits.into())?)))))
}

impl Model {
    pub(crate) fn hash(&self) -> &str {
        self.0.hash()
    }

    pub(crate) fn shape(&self) -> ffi::Shape {
        let shape = self.0.manifest().preprocess.shape;
        ffi::Shape { channels: shape.channels, height: shape.height, width: shape.width }
    }

    pub(crate) fn guides(&self) -> bool {
        self.0.guides()
    }
}
