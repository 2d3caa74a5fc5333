//! Choosing and opening the device that tensors live on.
//!
//! `auto` takes a real GPU where there is one, through the graphics API wgpu prefers, and burn's
//! CPU backend (`flex`) otherwise. Software rasterisers (llvmpipe, WARP) are never used: they are
//! slower than the CPU backend, and some of them crash on compute kernels. `cuda` is there in builds
//! with that feature, `remote:HOST` is the device of a machine that runs `haze serve`.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use burn::tensor::wgpu::{WgpuBackend, wgpu};
use burn::tensor::{Device, DeviceKind};

use super::precision::{Precision, PrecisionChoice};
use super::remote::address::RemoteAddress;
use super::remote::token::Token;
use super::remote::{RemoteError, client};

/// What the name of a remote device begins with.
pub const REMOTE: &str = "remote:";
/// What `--device` takes.
pub const EXPECTED: &str = "auto, cpu, vulkan, metal, dx12, wgpu, cuda or remote:HOST[:PORT]";

/// Which device the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// A GPU if there is one, else the CPU.
    #[default]
    Auto,
    Cpu,
    Vulkan,
    Metal,
    Dx12,
    /// Whatever graphics API wgpu picks on this machine.
    Wgpu,
    /// The first NVIDIA GPU, in builds with the feature `cuda`.
    Cuda,
    /// The device that `haze serve` offers there.
    Remote(RemoteAddress),
}

impl DeviceChoice {
    /// All devices of this machine, in the order shown to the user.
    pub const LOCAL: [DeviceChoice; 7] =
        [Self::Auto, Self::Cpu, Self::Vulkan, Self::Metal, Self::Dx12, Self::Wgpu, Self::Cuda];

    /// False for what this build leaves out.
    pub fn is_built(&self) -> bool {
        *self != Self::Cuda || cfg!(feature = "cuda")
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Dx12 => "dx12",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
            Self::Remote(address) => return write!(f, "{REMOTE}{address}"),
        })
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        if let Some(address) = text.strip_prefix(REMOTE) {
            return Ok(Self::Remote(RemoteAddress::parse(address)?));
        }
        Self::LOCAL
            .into_iter()
            .find(|choice| choice.to_string() == text)
            .ok_or_else(|| DeviceError::Unknown(text.to_owned()))
    }
}

/// Why no device could be opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("unknown device {0:?}; expected {EXPECTED}")]
    Unknown(String),
    #[error(
        "no GPU for {choice} on this machine (found: {found}; software rasterisers are not used); \
         use --device auto or --device cpu"
    )]
    NoAdapter { choice: DeviceChoice, found: String },
    #[error("the {choice} device {name} could not be opened: {reason}; try --device cpu")]
    Open { choice: DeviceChoice, name: String, reason: String },
    #[error("{device} cannot compute in {precision}; use --precision auto or f32")]
    Precision { device: String, precision: Precision },
    #[error(
        "this build of Haze has no CUDA; build it with cargo build --release --features cuda, or \
         use --device vulkan, which serves NVIDIA GPUs too"
    )]
    NoCuda,
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// One graphics adapter of this machine.
#[derive(Debug, Clone)]
pub struct Adapter {
    pub name: String,
    /// Graphics API: "vulkan", "metal", "dx12" or "gl".
    pub api: String,
    /// "discrete GPU", "integrated GPU", "virtual GPU", "software" or "other".
    pub kind: &'static str,
    pub driver: String,
    /// True where the device multiplies matrices of float16 in units of their own, and burn's
    /// kernels for that API use them.
    pub matrix_units: bool,
    device_type: wgpu::DeviceType,
}

impl Adapter {
    /// True for hardware; false for a software rasteriser.
    pub fn is_gpu(&self) -> bool {
        matches!(
            self.device_type,
            wgpu::DeviceType::DiscreteGpu
                | wgpu::DeviceType::IntegratedGpu
                | wgpu::DeviceType::VirtualGpu
        )
    }

    /// True for a rasteriser that runs on the CPU.
    pub fn is_software(&self) -> bool {
        self.device_type == wgpu::DeviceType::Cpu
    }

    fn device_kind(&self) -> DeviceKind {
        match self.device_type {
            wgpu::DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu(0),
            wgpu::DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu(0),
            wgpu::DeviceType::VirtualGpu => DeviceKind::VirtualGpu(0),
            wgpu::DeviceType::Cpu => DeviceKind::Cpu,
            wgpu::DeviceType::Other => DeviceKind::DefaultDevice,
        }
    }
}

/// An opened device and how to name it to the user.
#[derive(Debug, Clone)]
pub struct ComputeDevice {
    pub device: Device,
    /// For instance "CPU (burn flex, 2 threads)" or "NVIDIA H200 (vulkan)".
    pub label: String,
    /// True when tensors live on a GPU, be it here or there.
    pub is_gpu: bool,
    /// True where matrices of float16 are multiplied in units of their own.
    pub matrix_units: bool,
    /// Where the device is, when it is on another machine.
    pub remote: Option<RemoteAddress>,
}

impl ComputeDevice {
    /// burn's CPU backend.
    pub fn cpu() -> Self {
        let threads = rayon::current_num_threads();
        Self {
            device: Device::flex(),
            label: format!("CPU (burn flex, {threads} threads)"),
            is_gpu: false,
            matrix_units: false,
            remote: None,
        }
    }

    /// The precision to compute in. The CPU has float32 alone, whatever was asked for.
    ///
    /// Without matrix units float16 is no faster, and its convolutions are summed in float16.
    ///
    /// # Errors
    /// When one was named that the device does not support.
    pub fn precision(&self, choice: PrecisionChoice) -> Result<Precision, DeviceError> {
        let supports = |precision: Precision| self.device.supports_dtype(precision.dtype());
        match choice.named() {
            _ if !self.is_gpu => Ok(Precision::F32),
            None if self.matrix_units && supports(Precision::F16) => Ok(Precision::F16),
            None => Ok(Precision::F32),
            Some(precision) if !precision.is_half() || supports(precision) => Ok(precision),
            Some(precision) => {
                Err(DeviceError::Precision { device: self.label.clone(), precision })
            }
        }
    }

    /// Opens the device the user asked for.
    ///
    /// # Errors
    /// When an API was named that this machine has no adapter for, its driver refuses, or the
    /// remote machine cannot be used.
    pub fn open(choice: &DeviceChoice) -> Result<Self, DeviceError> {
        let adapter = match choice {
            DeviceChoice::Cpu => return Ok(Self::cpu()),
            DeviceChoice::Cuda => return Self::open_cuda(),
            DeviceChoice::Remote(address) => return Self::open_remote(address),
            DeviceChoice::Auto => match best(adapters(wgpu::Backends::PRIMARY), Adapter::is_gpu) {
                Some(adapter) => adapter,
                None => return Ok(Self::cpu()),
            },
            DeviceChoice::Vulkan
            | DeviceChoice::Metal
            | DeviceChoice::Dx12
            | DeviceChoice::Wgpu => {
                best(adapters(backends(choice)), |a| !a.is_software()).ok_or_else(|| {
                    DeviceError::NoAdapter { choice: choice.clone(), found: all_names() }
                })?
            }
        };
        Self::open_adapter(choice, &adapter)
    }

    fn open_remote(address: &RemoteAddress) -> Result<Self, DeviceError> {
        let client::RemoteDevice { device, hello } = client::connect(address, &Token::find()?)?;
        Ok(Self {
            device,
            label: format!("{} on {address}", hello.device),
            is_gpu: hello.is_gpu,
            matrix_units: hello.matrix_units,
            remote: Some(address.clone()),
        })
    }

    #[cfg(not(feature = "cuda"))]
    fn open_cuda() -> Result<Self, DeviceError> {
        Err(DeviceError::NoCuda)
    }

    #[cfg(feature = "cuda")]
    fn open_cuda() -> Result<Self, DeviceError> {
        // Without a driver the list is empty, while opening a device would panic.
        let listed = std::panic::catch_unwind(|| Device::enumerate(burn::tensor::DeviceType::Cuda));
        let first = listed.ok().and_then(|devices| devices.iter().next().cloned());
        let device = first.ok_or_else(|| DeviceError::NoAdapter {
            choice: DeviceChoice::Cuda,
            found: all_names(),
        })?;
        let error = |reason: String| DeviceError::Open {
            choice: DeviceChoice::Cuda,
            name: "NVIDIA GPU 0".to_owned(),
            reason,
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| device.sync()))
            .map_err(|panic| {
                let text = crate::panics::message(panic.as_ref());
                error(text.unwrap_or_else(|| "its driver failed".to_owned()))
            })?
            .map_err(|e| error(e.to_string()))?;
        Ok(Self {
            device,
            label: "NVIDIA GPU 0 (cuda)".to_owned(),
            is_gpu: true,
            matrix_units: true,
            remote: None,
        })
    }

    fn open_adapter(choice: &DeviceChoice, adapter: &Adapter) -> Result<Self, DeviceError> {
        let label = format!("{} ({})", adapter.name, adapter.api);
        let (is_gpu, matrix_units) = (adapter.is_gpu(), adapter.matrix_units);
        let opened = |device| Self { device, label, is_gpu, matrix_units, remote: None };
        let mut known = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (adapter.api.clone(), adapter.device_type);
        if let Some((_, device)) = known.iter().find(|(other, _)| *other == key) {
            return Ok(opened(device.clone()));
        }
        let error = |reason| DeviceError::Open {
            choice: choice.clone(),
            name: adapter.name.clone(),
            reason,
        };
        let api = match adapter.api.as_str() {
            "vulkan" => WgpuBackend::Vulkan,
            "metal" => WgpuBackend::Metal,
            "dx12" => WgpuBackend::Dx12,
            _ => WgpuBackend::Auto,
        };
        let options = Device::wgpu_options().device_kind(adapter.device_kind()).graphics_api(api);
        // Drivers make the runtime panic as often as they make it return an error.
        let device = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| options.init()))
            .map_err(|_| error("its driver failed while the device was opened".to_owned()))?
            .map_err(|e| error(e.to_string()))?;
        known.push((key, device.clone()));
        Ok(opened(device))
    }
}

/// Devices that were opened in this process, by graphics API and kind. burn registers each for the
/// life of the process and refuses to open it a second time.
static OPENED: Mutex<Vec<((String, wgpu::DeviceType), Device)>> = Mutex::new(Vec::new());

/// All graphics adapters of this machine that burn could compute on.
pub fn all_adapters() -> Vec<Adapter> {
    adapters(wgpu::Backends::PRIMARY)
}

fn backends(choice: &DeviceChoice) -> wgpu::Backends {
    match choice {
        DeviceChoice::Vulkan => wgpu::Backends::VULKAN,
        DeviceChoice::Metal => wgpu::Backends::METAL,
        DeviceChoice::Dx12 => wgpu::Backends::DX12,
        _ => wgpu::Backends::PRIMARY,
    }
}

/// The fastest kind first: discrete, integrated, virtual, then anything else.
fn best(adapters: Vec<Adapter>, accept: impl Fn(&Adapter) -> bool) -> Option<Adapter> {
    adapters.into_iter().filter(|a| accept(a)).min_by_key(|a| match a.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    })
}

fn all_names() -> String {
    let names: Vec<String> =
        all_adapters().iter().map(|a| format!("{} by {}", a.name, a.api)).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn adapters(backends: wgpu::Backends) -> Vec<Adapter> {
    let listed = std::panic::catch_unwind(|| {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = backends;
        let instance = wgpu::Instance::new(descriptor);
        ready(instance.enumerate_adapters(backends))
    });
    let Ok(Some(listed)) = listed else { return Vec::new() };
    listed
        .iter()
        .map(|adapter| {
            let info = adapter.get_info();
            let kind = match info.device_type {
                wgpu::DeviceType::DiscreteGpu => "discrete GPU",
                wgpu::DeviceType::IntegratedGpu => "integrated GPU",
                wgpu::DeviceType::VirtualGpu => "virtual GPU",
                wgpu::DeviceType::Cpu => "software",
                wgpu::DeviceType::Other => "other",
            };
            Adapter {
                name: info.name,
                api: info.backend.to_str().to_owned(),
                kind,
                driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
                matrix_units: matrix_units(adapter),
                device_type: info.device_type,
            }
        })
        .collect()
}

/// WGSL, which DirectX and OpenGL get, has no instructions for matrix units.
fn matrix_units(adapter: &wgpu::Adapter) -> bool {
    let half =
        |unit: &wgpu::CooperativeMatrixProperties| unit.ab_type == wgpu::CooperativeScalarType::F16;
    matches!(adapter.get_info().backend, wgpu::Backend::Vulkan | wgpu::Backend::Metal)
        && adapter.cooperative_matrix_properties().iter().any(half)
}

/// The value of a future that is complete at once, as wgpu's are outside a browser.
fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_chosen_where_it_pays_and_the_cpu_has_one_precision() {
        let cpu = ComputeDevice::cpu();
        for choice in PrecisionChoice::ALL {
            assert_eq!(cpu.precision(choice).unwrap(), Precision::F32);
        }
        // The CPU backend supports all types, so that it can stand for a GPU here.
        let gpu = ComputeDevice { is_gpu: true, ..cpu };
        assert_eq!(gpu.precision(PrecisionChoice::Auto).unwrap(), Precision::F32);
        assert_eq!(gpu.precision(PrecisionChoice::Bf16).unwrap(), Precision::Bf16);
        let units = ComputeDevice { matrix_units: true, ..gpu };
        assert_eq!(units.precision(PrecisionChoice::Auto).unwrap(), Precision::F16);
        assert_eq!(units.precision(PrecisionChoice::F32).unwrap(), Precision::F32);
    }

    #[test]
    fn every_choice_is_read_back_from_its_name() {
        let remote = DeviceChoice::Remote(RemoteAddress::parse("[::1]:80").unwrap());
        for choice in DeviceChoice::LOCAL.into_iter().chain([remote]) {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
            assert!(EXPECTED.contains(choice.to_string().split(':').next().unwrap()));
        }
        let error = "gpu".parse::<DeviceChoice>().unwrap_err().to_string();
        assert!(error.contains("\"gpu\"") && error.contains("vulkan"), "{error}");
        let error = "remote:".parse::<DeviceChoice>().unwrap_err().to_string();
        assert!(error.contains("host is missing"), "{error}");
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_build_without_cuda_says_how_to_get_one() {
        let error = ComputeDevice::open(&DeviceChoice::Cuda).unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
