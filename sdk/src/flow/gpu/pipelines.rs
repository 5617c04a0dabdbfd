//! Shader text → pipelines, each made once per device.

#![allow(unsafe_code)]

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::cache::CacheFile;
use super::device::{Device, lock};
use super::failure::Failure;
use super::matrices::Matrices;
use super::shader::Dispatch;
use super::spirv;

/// The pipelines of a device.
pub(super) struct Pipelines {
    made: Mutex<HashMap<String, Arc<Pipeline>>>,
    common: wgpu::BindGroupLayout,
    cache: Option<wgpu::PipelineCache>,
    file: Option<CacheFile>,
    changed: AtomicBool,
}

/// One of them.
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    /// Layout of group 1.
    pub(super) group: wgpu::BindGroupLayout,
}

/// Leave to use what wgpu calls experimental.
pub(super) fn experiments(wanted: bool) -> wgpu::ExperimentalFeatures {
    if !wanted {
        return wgpu::ExperimentalFeatures::disabled();
    }
    // SAFETY: that is cooperative matrices only, which are compiled here and tested before they are used.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

fn entry(binding: u32, ty: wgpu::BufferBindingType, moving: bool) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: moving, min_binding_size: None },
        count: None,
    }
}

fn storage(read_only: bool) -> wgpu::BufferBindingType {
    wgpu::BufferBindingType::Storage { read_only }
}

impl Pipelines {
    pub(super) fn new(device: &wgpu::Device, file: Option<CacheFile>) -> Self {
        // As in run.wgsl; the parameters and the tables are those of the dispatch.
        let entries = [
            entry(0, wgpu::BufferBindingType::Uniform, true),
            entry(1, wgpu::BufferBindingType::Uniform, false),
            entry(2, storage(true), false),
            entry(3, storage(true), true),
            entry(4, storage(false), false),
        ];
        let common = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("run"),
            entries: &entries,
        });
        let saved = file.as_ref().and_then(CacheFile::load);
        let cache = file.as_ref().map(|_| {
            let descriptor = wgpu::PipelineCacheDescriptor {
                label: Some("f2d2"),
                data: saved.as_deref(),
                fallback: true,
            };
            // SAFETY: the data is what `get_data` returned for this adapter and driver: the file's digest covers the
            // data and both names.
            unsafe { device.create_pipeline_cache(&descriptor) }
        });
        let changed = AtomicBool::new(false);
        Self { made: Mutex::default(), common, cache, file, changed }
    }

    /// Layout of group 0.
    pub(super) fn common(&self) -> &wgpu::BindGroupLayout {
        &self.common
    }

    /// The pipeline of `dispatch`.
    pub(super) fn get(
        &self,
        device: &Device,
        dispatch: &Dispatch,
    ) -> Result<Arc<Pipeline>, Failure> {
        if let Some(pipeline) = lock(&self.made).get(&dispatch.shader) {
            return Ok(Arc::clone(pipeline));
        }
        let (need, have) =
            (dispatch.workgroup_bytes, device.limits.max_compute_workgroup_storage_size);
        if need > have as usize {
            let kernel = dispatch.kernel;
            return Err(Failure::Unable(format!(
                "{kernel} needs {need} bytes of workgroup memory, the device has {have}"
            )));
        }
        let compiled = |matrices: Matrices| {
            let words = spirv::compile(&dispatch.shader).map_err(Failure::Unable)?;
            Ok::<_, Failure>((words, matrices.threads() as u32))
        };
        let spirv = dispatch.matrices.map(compiled).transpose()?;
        let make = || self.make(&device.wgpu, dispatch, spirv);
        let made = device.guarded(dispatch.kernel, 0, make)?;
        self.changed.store(true, Ordering::Relaxed);
        let made = Arc::new(made);
        lock(&self.made).insert(dispatch.shader.clone(), Arc::clone(&made));
        Ok(made)
    }

    /// `spirv`: the compiled module and its threads, where wgpu is not to compile it.
    fn make(
        &self,
        device: &wgpu::Device,
        dispatch: &Dispatch,
        spirv: Option<(Vec<u32>, u32)>,
    ) -> Pipeline {
        let label = Some(dispatch.kernel);
        let bindings = dispatch.bindings.iter().zip(0..);
        let entries: Vec<_> =
            bindings.map(|(b, i)| entry(i, storage(b.read_only), false)).collect();
        let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label,
            entries: &entries,
        });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&self.common), Some(&group)],
            immediate_size: 0,
        });
        let module = match spirv {
            Some((words, threads)) => {
                let main = wgpu::PassthroughShaderEntryPoint {
                    name: "main".into(),
                    workgroup_size: (threads, 1, 1),
                };
                let module = wgpu::ShaderModuleDescriptorPassthrough {
                    label,
                    entry_points: Cow::Borrowed(std::slice::from_ref(&main)),
                    spirv: Some(words.into()),
                    ..Default::default()
                };
                // SAFETY: naga wrote it from a kernel as below, and its entry point has that many threads.
                unsafe { device.create_shader_module_passthrough(module) }
            }
            None => {
                let source = wgpu::ShaderSource::Wgsl(dispatch.shader.as_str().into());
                let module = wgpu::ShaderModuleDescriptor { label, source };
                let checks = wgpu::ShaderRuntimeChecks::unchecked();
                // SAFETY: the kernels end their loops, and reach only what `check` has found to be inside of the
                // buffers.
                unsafe { device.create_shader_module_trusted(module, checks) }
            }
        };
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                zero_initialize_workgroup_memory: false,
            },
            cache: self.cache.as_ref(),
        });
        Pipeline { pipeline, group }
    }

    /// Number of pipelines.
    pub(super) fn len(&self) -> usize {
        lock(&self.made).len()
    }

    /// Writes the cache file if there is anything new.
    pub(super) fn save(&self) {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return;
        }
        let data = self.cache.as_ref().and_then(wgpu::PipelineCache::get_data);
        if let (Some(file), Some(data)) = (&self.file, data) {
            // A cache that cannot be written costs time at the next start only.
            let _ = file.save(&data);
        }
    }
}
