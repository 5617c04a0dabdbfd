//! Cooperative matrices (tensor cores): where they can be had, and whether they multiply.

use bytemuck::cast_slice;
use wgpu::{BufferUsages, CooperativeScalarType as Scalar};

use super::device::Device;
use super::failure::Failure;
use super::fault::{self, Point};
use super::params::Run;
use super::shader::{Dispatch, Resource, Shader};
use super::workspace::{bind, read_back};
use crate::flow::plan::Convolution;

/// Threads of a workgroup are this many subgroups.
const SUBGROUPS: usize = 4;
/// Workgroups of the self-test, and how many times it runs: a race does not show every time.
const WORKGROUPS: usize = 64;
const RUNS: usize = 3;

/// Adapters that are not trusted with them: vendor, whether only on Windows, why.
const DENIED: [(u32, bool, &str); 2] = [
    (0x8086, false, "Intel's drivers are known for wrong products"),
    (0x1002, true, "AMD's drivers for Windows are known to crash when asked for them"),
];

/// Square matrices with f16 factors and f32 sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrices {
    /// Values on a side: 8 or 16.
    pub edge: usize,
    /// Threads that hold a matrix together.
    pub subgroup: usize,
    /// Bytes of memory that a workgroup can have.
    pub memory: usize,
}

/// Why drivers of `vendor` are not trusted.
fn denied(vendor: u32, windows: bool) -> Option<&'static str> {
    let of = |entry: &&(u32, bool, &str)| entry.0 == vendor && (!entry.1 || windows);
    DENIED.iter().find(of).map(|entry| entry.2)
}

impl Matrices {
    /// What `adapter` offers.
    ///
    /// # Errors
    /// Why it offers nothing that can be used.
    pub(super) fn offered(adapter: &wgpu::Adapter) -> Result<Self, String> {
        let info = adapter.get_info();
        if let Some(why) = denied(info.vendor, cfg!(windows)) {
            return Err(why.into());
        }
        let features = super::device::MATRIX_FEATURES | wgpu::Features::SHADER_F16;
        if info.backend != wgpu::Backend::Vulkan || !adapter.features().contains(features) {
            return Err("the driver has none".into());
        }
        if info.subgroup_min_size != info.subgroup_max_size {
            // Which threads belong together is not known then.
            let (least, most) = (info.subgroup_min_size, info.subgroup_max_size);
            return Err(format!("subgroups have {least} to {most} threads, need one size"));
        }
        let square = |edge: u32| {
            adapter.cooperative_matrix_properties().iter().any(|p| {
                [p.m_size, p.n_size, p.k_size] == [edge; 3]
                    && (p.ab_type, p.cr_type) == (Scalar::F16, Scalar::F32)
            })
        };
        let edge = [16, 8].into_iter().find(|&edge| square(edge));
        let edge = edge.ok_or("the driver has none of 16 or 8 with f16 factors and f32 sums")?;
        let memory = adapter.limits().max_compute_workgroup_storage_size;
        let (edge, subgroup) = (edge as usize, info.subgroup_min_size as usize);
        Self { edge, subgroup, memory: memory as usize }.whole()
    }

    /// The same, if the kernels can be written in them.
    fn whole(self) -> Result<Self, String> {
        // Every thread of a workgroup fetches values of one column of a strip, which is two edges deep.
        let (got, need) = (self.subgroup, self.edge / 2);
        if got < need {
            return Err(format!("subgroups have {got} threads, need {need}"));
        }
        Ok(self)
    }

    /// Rows and columns of the tile of a workgroup.
    pub(super) fn tile(self) -> usize {
        4 * self.edge
    }

    /// Threads of a workgroup.
    pub(super) fn threads(self) -> usize {
        SUBGROUPS * self.subgroup
    }

    /// Bytes of workgroup memory that `c` takes.
    pub(super) fn bytes(self, c: &Convolution) -> usize {
        let (tile, depth) = (self.tile(), 2 * self.edge);
        2 * 2 * tile * depth + 4 * tile * tile + 8 * tile + 16 * c.input.channels
    }

    /// Whether `c` is worth a tile, and has room for one.
    pub(super) fn suit(self, c: &Convolution) -> bool {
        let inner = c.kernel[0] * c.kernel[1] * c.input.channels;
        inner.min(c.columns()) >= 16 && self.bytes(c) <= self.memory
    }

    /// The shader's constants and its extension.
    pub(super) fn define(self, shader: &mut Shader) {
        shader.number("EDGE", self.edge);
        shader.number("SUBGROUP", self.subgroup);
        shader.number("THREADS", self.threads());
        shader.matrices = Some(self);
    }

    /// `text` with matrices of this size.
    pub(super) fn sized(self, text: &str) -> String {
        text.replace("NxN", &format!("{0}x{0}", self.edge))
    }

    pub(super) fn product(self) -> Result<Dispatch, String> {
        let mut shader = Shader::new();
        self.define(&mut shader);
        shader.bind("left", "f16", Resource::Slot(0), true);
        shader.bind("right", "f16", Resource::Slot(1), true);
        shader.bind("product", "f32", Resource::Slot(2), false);
        let bytes = 2 * 2 * 4 * self.edge * self.edge;
        let body = include_str!("shaders/product.wgsl");
        shader.dispatch("product", body, &[], [WORKGROUPS, 1, 1], bytes)
    }

    /// Multiplies two known matrices on `device`.
    ///
    /// # Errors
    /// What differs, or what the device says.
    pub(super) fn multiply(self, device: &Device) -> Result<(), Failure> {
        let dispatch = self.product().map_err(Failure::Unable)?;
        let pipeline = device.pipelines.get(device, &dispatch)?;
        let side = self.tile();
        // Whole numbers that f16 holds, without a pattern that a wrong place would leave as it is.
        let value = |i: usize, factor: usize| (i * factor % 31 % 9) as f32 - 4.0;
        let matrix = |factor| -> Vec<f32> { (0..side * side).map(|i| value(i, factor)).collect() };
        let (a, b) = (matrix(7), matrix(13));
        let halves = |values: &[f32]| -> Vec<u16> {
            values.iter().map(|&v| half::f16::from_f32(v).to_bits()).collect()
        };
        let storage = BufferUsages::STORAGE;
        let left = device.filled("self-test", cast_slice(&halves(&a)), storage)?;
        let right = device.filled("self-test", cast_slice(&halves(&b)), storage)?;
        let bytes = (WORKGROUPS * side * side * 4) as u64;
        let result = device.buffer(
            "self-test",
            bytes,
            storage | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
        )?;
        let staging = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging = device.buffer("self-test", bytes, staging)?;
        let uniform = device.buffer("self-test", 256, BufferUsages::UNIFORM)?;
        let scratch = device.buffer("self-test", size_of::<Run>() as u64, storage)?;
        let whole =
            [&uniform, &uniform, &scratch, &scratch, &result].map(|b| b.as_entire_binding());
        let common = bind(device, device.pipelines.common(), whole)?;
        let own = [&left, &right, &result].map(|b| b.as_entire_binding());
        let own = bind(device, &pipeline.group, own)?;

        let mut need: Vec<f32> = (0..side * side)
            .map(|i| (0..side).map(|k| a[i / side * side + k] * b[k * side + i % side]).sum())
            .collect();
        if fault::fires(Point::Product) {
            need[side] += 1.0;
        }
        for _ in 0..RUNS {
            let mut encoder = device.wgpu.create_command_encoder(&Default::default());
            encoder.clear_buffer(&result, 0, None);
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline.pipeline);
            pass.set_bind_group(0, &common, &[0, 0]);
            pass.set_bind_group(1, &own, &[]);
            pass.dispatch_workgroups(WORKGROUPS as u32, 1, 1);
            drop(pass);
            encoder.copy_buffer_to_buffer(&result, 0, &staging, 0, bytes);
            let wait = device.queue.submit([encoder.finish()]);
            let got: Vec<f32> =
                read_back(device, &staging, bytes, vec![wait], super::device::SOON)?;
            let wrong = got.iter().zip(need.iter().cycle()).filter(|(g, n)| g != n).count();
            if wrong > 0 {
                let all = got.len();
                let why = format!("{wrong} of {all} values of a known product are wrong");
                return Err(Failure::Unable(why));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_that_are_known_for_wrong_products_are_denied() {
        let (intel, amd, nvidia) = (0x8086, 0x1002, 0x10de);
        for windows in [false, true] {
            assert!(denied(intel, windows).unwrap().contains("Intel"));
            assert_eq!(denied(nvidia, windows), None);
        }
        assert_eq!(denied(amd, false), None);
        assert!(denied(amd, true).unwrap().contains("Windows"));
    }

    #[test]
    fn every_thread_of_a_workgroup_has_a_column_of_a_strip() {
        for (edge, subgroup, whole) in [(8, 4, true), (8, 3, false), (16, 8, true), (16, 4, false)]
        {
            let matrices = Matrices { edge, subgroup, memory: 48 << 10 };
            assert_eq!(matrices.whole().is_ok(), whole, "{matrices:?}");
            // The columns that are fetched side by side, LANES of the kernel.
            assert_eq!(matrices.threads() / (2 * edge) > 0, whole, "{matrices:?}");
        }
    }
}
