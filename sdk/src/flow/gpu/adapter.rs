//! The GPUs of this machine, which of them can be used, and the choice among them.

use super::fault::{self, Point};
use crate::flow::{Adapter, GpuOptions, Power};

/// Environment variable that names an adapter.
const VARIABLE: &str = "F2D2_ADAPTER";
/// Storage buffers of one call: what WebGPU promises.
const STORAGE_BUFFERS: u32 = 8;
/// Threads of the largest workgroup.
const THREADS: u32 = 256;

/// All adapters, usable or not.
pub(crate) fn list() -> Vec<Adapter> {
    enumerate().iter().map(describe).collect()
}

fn enumerate() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    // No validation layers, and no hidden dispatches that they would need.
    descriptor.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(descriptor);
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()))
}

fn describe(adapter: &wgpu::Adapter) -> Adapter {
    let info = adapter.get_info();
    Adapter {
        pci: info.device_pci_bus_id,
        backend: info.backend.to_string(),
        driver: [info.driver, info.driver_info].join(" ").trim().to_owned(),
        software: info.device_type == wgpu::DeviceType::Cpu,
        f16: adapter.features().contains(wgpu::Features::SHADER_F16),
        unusable: unusable(adapter),
        name: info.name,
    }
}

fn unusable(adapter: &wgpu::Adapter) -> Option<String> {
    let capabilities = adapter.get_downlevel_capabilities();
    if !capabilities.flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS) {
        return Some("it has no compute shaders".into());
    }
    shortage(&adapter.limits())
}

/// The first limit that is too low for the kernels.
fn shortage(limits: &wgpu::Limits) -> Option<String> {
    let least = [
        ("storage buffers per stage", limits.max_storage_buffers_per_shader_stage, STORAGE_BUFFERS),
        ("threads per workgroup", limits.max_compute_invocations_per_workgroup, THREADS),
        ("threads along x", limits.max_compute_workgroup_size_x, THREADS),
        ("bytes of workgroup memory", limits.max_compute_workgroup_storage_size, 16 << 10),
        ("workgroups per axis", limits.max_compute_workgroups_per_dimension, 65_535),
        ("buffers with moving offsets", limits.max_dynamic_storage_buffers_per_pipeline_layout, 1),
    ];
    let short = least.into_iter().find(|(_, got, need)| got < need);
    short.map(|(what, got, need)| format!("it has {got} {what}, need {need}"))
}

/// The adapter that `options` ask for. `software` says whether a driver that computes on the CPU may be taken, which
/// in any case happens only by name.
///
/// # Errors
/// Which adapters there are and why none will do.
pub(super) fn choose(
    options: &GpuOptions,
    software: bool,
) -> Result<(wgpu::Adapter, Adapter), String> {
    if !software && !has_device() {
        return Err("the system has no graphics device".into());
    }
    let variable = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
    let name = options.adapter.clone().or(variable);
    let mut adapters: Vec<_> = enumerate().into_iter().map(|a| (describe(&a), a)).collect();
    if fault::fires(Point::Adapter) {
        adapters.clear();
    }
    let descriptions: Vec<_> = adapters.iter().map(|(description, _)| description).collect();
    let types: Vec<_> = adapters.iter().map(|(_, a)| a.get_info().device_type).collect();
    let refusals: Vec<Option<String>> =
        descriptions.iter().map(|adapter| refusal(adapter, name.as_deref(), software)).collect();
    let usable = (0..adapters.len()).filter(|&i| refusals[i].is_none());
    let best = usable.min_by_key(|&i| (rank(types[i], options.power), i));
    let Some(best) = best else {
        let why = |(adapter, why): (&&Adapter, &Option<String>)| {
            format!("{}: {}", adapter.name, why.as_deref().unwrap_or_default())
        };
        let all: Vec<String> = descriptions.iter().zip(&refusals).map(why).collect();
        return Err(match all.as_slice() {
            [] => "there is no adapter".into(),
            all => all.join("; "),
        });
    };
    let (description, adapter) = adapters.swap_remove(best);
    Ok((adapter, description))
}

/// Whether the system shows a device that a real GPU could be. Asking the drivers starts them, which takes time, and
/// some write to the host's standard error.
fn has_device() -> bool {
    const NAMES: [&str; 7] = ["dri", "dxg", "kgsl", "mali", "nvgpu", "nvhost", "nvidia"];
    if !cfg!(target_os = "linux") {
        return true;
    }
    std::fs::read_dir("/dev").is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            NAMES.iter().any(|known| name.to_string_lossy().starts_with(known))
        })
    })
}

/// Why this adapter is not to be taken.
fn refusal(adapter: &Adapter, name: Option<&str>, software: bool) -> Option<String> {
    if let Some(why) = &adapter.unusable {
        return Some(why.clone());
    }
    let (own, pci) = (adapter.name.to_lowercase(), adapter.pci.to_lowercase());
    match name.map(str::to_lowercase) {
        Some(wanted) if wanted != pci && !own.contains(&wanted) => {
            Some(format!("{wanted:?} was asked for"))
        }
        None if adapter.software => Some("it computes on the CPU and was not asked for".into()),
        Some(_) if adapter.software && !software => {
            Some("it computes on the CPU; ask for the engine gpu to have it".into())
        }
        _ => None,
    }
}

fn rank(kind: wgpu::DeviceType, power: Power) -> usize {
    use wgpu::DeviceType::{DiscreteGpu, IntegratedGpu, VirtualGpu};
    let order = match power {
        Power::High => [DiscreteGpu, IntegratedGpu, VirtualGpu],
        Power::Low => [IntegratedGpu, DiscreteGpu, VirtualGpu],
    };
    order.iter().position(|&k| k == kind).unwrap_or(order.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, pci: &str, software: bool) -> Adapter {
        Adapter {
            name: name.into(),
            pci: pci.into(),
            backend: "vulkan".into(),
            driver: String::new(),
            software,
            f16: true,
            unusable: None,
        }
    }

    #[test]
    fn what_webgpu_promises_is_enough_and_less_is_named() {
        let enough = wgpu::Limits::default();
        assert_eq!(shortage(&enough), None);
        let few = wgpu::Limits { max_storage_buffers_per_shader_stage: 7, ..enough.clone() };
        assert_eq!(shortage(&few).unwrap(), "it has 7 storage buffers per stage, need 8");
        let small = wgpu::Limits { max_compute_workgroup_storage_size: 8 << 10, ..enough };
        assert!(shortage(&small).unwrap().contains("bytes of workgroup memory"));
        assert!(shortage(&wgpu::Limits::downlevel_webgl2_defaults()).is_some());
    }

    #[test]
    fn software_is_taken_by_name_only_and_never_by_auto() {
        let (real, soft) =
            (adapter("Fast 9", "0000:01:00.0", false), adapter("llvmpipe", "", true));
        assert_eq!(refusal(&real, None, false), None);
        assert_eq!(refusal(&real, Some("fast"), false), None);
        assert_eq!(refusal(&real, Some("0000:01:00.0"), false), None);
        assert!(refusal(&real, Some("0000:02:00.0"), false).is_some());
        assert!(refusal(&soft, None, true).is_some());
        assert!(refusal(&soft, Some("LLVM"), false).is_some());
        assert_eq!(refusal(&soft, Some("LLVM"), true), None);
        let broken = Adapter { unusable: Some("no".into()), ..real };
        assert_eq!(refusal(&broken, Some("fast"), true), Some("no".into()));
    }

    #[test]
    fn power_orders_the_kinds_of_gpu() {
        use wgpu::DeviceType::{Cpu, DiscreteGpu, IntegratedGpu};
        assert!(rank(DiscreteGpu, Power::High) < rank(IntegratedGpu, Power::High));
        assert!(rank(IntegratedGpu, Power::Low) < rank(DiscreteGpu, Power::Low));
        assert!(rank(Cpu, Power::Low) > rank(DiscreteGpu, Power::Low));
    }
}
