//! Limits of a model file.

use f2d2::Limits;

use crate::failure::Result;
use crate::memory::{self, Versioned};

/// What a model file may ask for. Zero is the default of each.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct f2d2_limits {
    /// Size of this struct, set by the caller.
    pub struct_size: u32,
    /// Zero.
    pub reserved: u32,
    /// Bytes of the file. Default 2 GiB.
    pub file_bytes: u64,
    /// Nodes of the graph. Default 50 000.
    pub nodes: u64,
    /// Constant tensors of the graph. Default 20 000.
    pub initializers: u64,
    /// Dimensions of one tensor. Default 8.
    pub rank: u64,
    /// Length of one dimension. Default 1 048 576.
    pub dimension: u64,
    /// Bytes of one tensor. Default 1 GiB.
    pub tensor_bytes: u64,
    /// Bytes of one name. Default 4096.
    pub name_bytes: u64,
    /// Values of one image, channels times height times width. Default 16 777 216.
    pub image_values: u64,
}

// SAFETY: repr(C), begins with its u32 size, and any bytes are valid fields.
unsafe impl Versioned for f2d2_limits {
    const NAME: &str = "f2d2_limits";
    const FIRST: usize = size_of::<Self>();
}

impl f2d2_limits {
    /// # Safety
    /// `limits` is NULL or valid for the `struct_size` that it begins with.
    pub(crate) unsafe fn read(limits: *const Self) -> Result<Limits> {
        // SAFETY: the caller's promise.
        let limits = unsafe { memory::sized_or_zero("limits", limits) }?;
        memory::reserved(Self::NAME, limits.reserved)?;
        Ok(limits.limits())
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        let pairs = [
            (&mut limits.file_bytes, self.file_bytes),
            (&mut limits.nodes, self.nodes),
            (&mut limits.initializers, self.initializers),
            (&mut limits.rank, self.rank),
            (&mut limits.dimension, self.dimension),
            (&mut limits.tensor_bytes, self.tensor_bytes),
            (&mut limits.name_bytes, self.name_bytes),
            (&mut limits.image_values, self.image_values),
        ];
        for (limit, asked) in pairs {
            if asked != 0 {
                *limit = asked;
            }
        }
        limits
    }
}
