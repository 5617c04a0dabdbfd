//! An open device, shared by all sessions on its adapter, and what became of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::adapter;
use super::cache::CacheFile;
use super::failure::Failure;
use super::fault::{self, Point};
use super::matrices::Matrices;
use super::network::Network;
use super::pipelines::{Pipelines, experiments};
use crate::error::Error;
use crate::flow::{Adapter, GpuOptions, Precision};

/// What cooperative matrices take.
pub(super) const MATRIX_FEATURES: wgpu::Features =
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::PASSTHROUGH_SHADERS);
/// How long the self-test may take.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// An open device.
pub(super) struct Device {
    pub(super) wgpu: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) adapter: Adapter,
    pub(super) limits: wgpu::Limits,
    /// Cooperative matrices that have passed their test, or why there are none.
    pub(super) matrices: Result<Matrices, String>,
    pub(super) pipelines: Pipelines,
    /// Networks by model and precision: sessions of one model share its weights.
    pub(super) networks: Mutex<HashMap<String, Weak<Network>>>,
    health: Arc<Health>,
}

/// After a loss wgpu's calls return as if nothing had happened: whoever waits has to look here.
#[derive(Default)]
struct Health {
    lost: AtomicBool,
    /// Whether it does not answer.
    hung: AtomicBool,
    why: Mutex<String>,
}

impl Health {
    fn fail(&self, why: String) {
        let mut first = lock(&self.why);
        if !self.lost.swap(true, Ordering::SeqCst) {
            *first = why;
        }
    }
}

/// The lock; what it guards is never left half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Open devices by adapter.
fn devices() -> &'static Mutex<HashMap<String, Weak<Device>>> {
    static DEVICES: OnceLock<Mutex<HashMap<String, Weak<Device>>>> = OnceLock::new();
    DEVICES.get_or_init(Mutex::default)
}

impl Device {
    /// The device that `options` ask for, opened if nobody has it open.
    pub(super) fn open(options: &GpuOptions, software: bool) -> Result<Arc<Self>, Failure> {
        let (adapter, description) = adapter::choose(options, software).map_err(Failure::Unable)?;
        let Adapter { name, pci, backend, driver, .. } = &description;
        let folder = options.cache.clone().unwrap_or_default();
        // Matrices have a device of their own: what is experimental is no matter of those who compute in f32.
        let matrices = options.precision == Precision::F16 && options.matrices;
        let key = format!("{name}|{pci}|{backend}|{driver}|{}|{matrices}", folder.display());
        let mut devices = lock(devices());
        if let Some(device) = devices.get(&key).and_then(Weak::upgrade).filter(|d| d.is_well()) {
            return Ok(device);
        }
        let offered = match options.precision {
            Precision::F16 if options.matrices => Matrices::offered(&adapter),
            Precision::F16 => Err("not wanted".into()),
            Precision::F32 => Err("not in f32".into()),
        };
        let mut device = Self::request(&adapter, description.clone(), options, offered.clone())?;
        if let Ok(matrices) = offered
            && let Err(failure) = matrices.multiply(&device)
        {
            if matches!(failure, Failure::Hung(_)) {
                return Err(failure);
            }
            let why = format!("the self-test failed: {}", Error::from(failure));
            device = Self::request(&adapter, description, options, Err(why))?;
        }
        let device = Arc::new(device);
        devices.insert(key, Arc::downgrade(&device));
        Ok(device)
    }

    fn request(
        adapter: &wgpu::Adapter,
        description: Adapter,
        options: &GpuOptions,
        matrices: Result<Matrices, String>,
    ) -> Result<Self, Failure> {
        let mut wanted = wgpu::Features::SHADER_F16
            | wgpu::Features::PIPELINE_CACHE
            | wgpu::Features::TIMESTAMP_QUERY;
        if matrices.is_ok() {
            wanted |= MATRIX_FEATURES;
        }
        let features = adapter.features() & wanted;
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("f2d2"),
            required_features: features,
            required_limits: adapter.limits(),
            experimental_features: experiments(matrices.is_ok()),
            ..wgpu::DeviceDescriptor::default()
        });
        let refused = |error| Failure::Lost(format!("{}: {error}", description.name));
        let (wgpu, queue) = pollster::block_on(request).map_err(refused)?;
        let health = Arc::new(Health::default());
        let of = Arc::clone(&health);
        wgpu.set_device_lost_callback(move |reason, message| {
            of.fail(format!("device lost ({reason:?}): {message}"));
        });
        let of = Arc::clone(&health);
        wgpu.on_uncaptured_error(Arc::new(move |error: wgpu::Error| of.fail(error.to_string())));
        let file = features
            .contains(wgpu::Features::PIPELINE_CACHE)
            .then(|| CacheFile::new(options.cache.as_deref(), &adapter.get_info()))
            .flatten();
        Ok(Self {
            limits: wgpu.limits(),
            matrices,
            pipelines: Pipelines::new(&wgpu, file),
            wgpu,
            queue,
            adapter: description,
            networks: Mutex::default(),
            health,
        })
    }

    pub(super) fn is_well(&self) -> bool {
        !self.health.lost.load(Ordering::SeqCst)
    }

    /// Whether the device is still there.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.is_well() {
            return Ok(());
        }
        let why = lock(&self.health.why).clone();
        Err(if self.is_hung() { Failure::Hung(why) } else { Failure::Lost(why) })
    }

    fn is_hung(&self) -> bool {
        self.health.hung.load(Ordering::SeqCst)
    }

    /// Nobody shall use this device any more.
    pub(super) fn give_up(&self, why: String) {
        self.health.fail(why);
    }

    /// The device does not answer, as `why` says: nobody shall use it any more, nor wait for it.
    pub(super) fn hang(&self, why: String) -> Failure {
        if !self.health.hung.swap(true, Ordering::SeqCst) {
            // Never dropped: wgpu waits for the end of all work before it gives back a queue, without a limit.
            std::mem::forget((self.wgpu.clone(), self.queue.clone()));
        }
        self.health.fail(why.clone());
        Failure::Hung(why)
    }

    /// Where tests lose the device.
    pub(super) fn reach(&self, point: Point) {
        if fault::fires(point) {
            self.wgpu.destroy();
        }
    }

    /// Runs `make`; an error of the device in it becomes a failure.
    pub(super) fn guarded<T>(
        &self,
        what: &'static str,
        bytes: u64,
        make: impl FnOnce() -> T,
    ) -> Result<T, Failure> {
        let memory = self.wgpu.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        // What a driver that cannot compile a shader gives.
        let internal = self.wgpu.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = self.wgpu.push_error_scope(wgpu::ErrorFilter::Validation);
        let made = make();
        let invalid = pollster::block_on(validation.pop());
        let broken = pollster::block_on(internal.pop());
        let full = pollster::block_on(memory.pop());
        self.check()?;
        match (full, invalid.or(broken)) {
            (Some(_), _) => Err(Failure::Memory { what, bytes }),
            (None, Some(error)) => Err(Failure::Unable(format!("{what}: {error}"))),
            (None, None) => Ok(made),
        }
    }

    /// A buffer of at least `bytes` bytes, of undefined content.
    pub(super) fn buffer(
        &self,
        what: &'static str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, Failure> {
        let size = bytes.max(16).next_multiple_of(16);
        let most = match usage.contains(wgpu::BufferUsages::STORAGE) {
            true => self.limits.max_buffer_size.min(self.limits.max_storage_buffer_binding_size),
            false => self.limits.max_buffer_size,
        };
        // wgpu would call this a mistake of the program.
        if size > most || fault::fires(Point::Memory) {
            return Err(Failure::Memory { what, bytes: size });
        }
        let label = Some(what);
        let descriptor = wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false };
        self.guarded(what, size, || self.wgpu.create_buffer(&descriptor))
    }

    /// A buffer that kernels read, holding `data`.
    pub(super) fn filled(
        &self,
        what: &'static str,
        data: &[u8],
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, Failure> {
        let buffer = self.buffer(what, data.len() as u64, usage | wgpu::BufferUsages::COPY_DST)?;
        let mut padded = data.to_vec();
        padded.resize(data.len().next_multiple_of(4), 0);
        if !padded.is_empty() {
            self.queue.write_buffer(&buffer, 0, &padded);
        }
        Ok(buffer)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.is_hung() {
            return;
        }
        self.reach(Point::Destroy);
        self.pipelines.save();
    }
}
