//! Choosing and opening the device that tensors live on.
//!
//! `auto` takes a real GPU where there is one, through the graphics API wgpu prefers, and burn's
//! CPU backend (`flex`) otherwise. Software rasterisers (llvmpipe, WARP) are never used: they are
//! slower than the CPU backend, and some of them crash on compute kernels.

use std::fmt;
use std::str::FromStr;

use burn::tensor::wgpu::{WgpuBackend, wgpu};
use burn::tensor::{Device, DeviceKind};

/// Which device the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
}

impl DeviceChoice {
    /// All choices, in the order shown to the user.
    pub const ALL: [DeviceChoice; 6] =
        [Self::Auto, Self::Cpu, Self::Vulkan, Self::Metal, Self::Dx12, Self::Wgpu];
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
        })
    }
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.to_string() == text)
            .ok_or_else(|| DeviceError::Unknown(text.to_owned()))
    }
}

/// Why no device could be opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("unknown device {0:?}; expected auto, cpu, vulkan, metal, dx12 or wgpu")]
    Unknown(String),
    #[error(
        "no GPU for {choice} on this machine (found: {found}; software rasterisers are not used); \
         use --device auto or --device cpu"
    )]
    NoAdapter { choice: DeviceChoice, found: String },
    #[error("the {choice} device {name} could not be opened: {reason}; try --device cpu")]
    Open { choice: DeviceChoice, name: String, reason: String },
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
    /// True when tensors live on a GPU.
    pub is_gpu: bool,
}

impl ComputeDevice {
    /// burn's CPU backend.
    pub fn cpu() -> Self {
        let threads = rayon::current_num_threads();
        Self {
            device: Device::flex(),
            label: format!("CPU (burn flex, {threads} threads)"),
            is_gpu: false,
        }
    }

    /// Opens the device the user asked for.
    ///
    /// # Errors
    /// When an API was named that this machine has no adapter for, or its driver refuses.
    pub fn open(choice: DeviceChoice) -> Result<Self, DeviceError> {
        let adapter = match choice {
            DeviceChoice::Cpu => return Ok(Self::cpu()),
            DeviceChoice::Auto => match best(adapters(wgpu::Backends::PRIMARY), Adapter::is_gpu) {
                Some(adapter) => adapter,
                None => return Ok(Self::cpu()),
            },
            DeviceChoice::Vulkan
            | DeviceChoice::Metal
            | DeviceChoice::Dx12
            | DeviceChoice::Wgpu => best(adapters(backends(choice)), |a| !a.is_software())
                .ok_or_else(|| DeviceError::NoAdapter { choice, found: all_names() })?,
        };
        Self::open_adapter(choice, &adapter)
    }

    fn open_adapter(choice: DeviceChoice, adapter: &Adapter) -> Result<Self, DeviceError> {
        let error = |reason| DeviceError::Open { choice, name: adapter.name.clone(), reason };
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
        Ok(Self {
            device,
            label: format!("{} ({})", adapter.name, adapter.api),
            is_gpu: adapter.is_gpu(),
        })
    }
}

/// All graphics adapters of this machine that burn could compute on.
pub fn all_adapters() -> Vec<Adapter> {
    adapters(wgpu::Backends::PRIMARY)
}

fn backends(choice: DeviceChoice) -> wgpu::Backends {
    match choice {
        DeviceChoice::Vulkan => wgpu::Backends::VULKAN,
        DeviceChoice::Metal => wgpu::Backends::METAL,
        DeviceChoice::Dx12 => wgpu::Backends::DX12,
        DeviceChoice::Auto | DeviceChoice::Cpu | DeviceChoice::Wgpu => wgpu::Backends::PRIMARY,
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
                device_type: info.device_type,
            }
        })
        .collect()
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
    fn every_choice_is_read_back_from_its_name() {
        for choice in DeviceChoice::ALL {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
        }
        let error = "gpu".parse::<DeviceChoice>().unwrap_err().to_string();
        assert!(error.contains("\"gpu\"") && error.contains("vulkan"), "{error}");
    }
}
