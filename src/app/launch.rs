//! Opening the window: what it is started with, and in words why none can be opened.

use std::path::PathBuf;
use std::sync::Arc;

use eframe::egui_wgpu::{WgpuConfiguration, WgpuSetup, WgpuSetupCreateNew};

use super::HazeApp;
use crate::model::device::DeviceChoice;
use crate::session::Assets;

/// Name that desktops file the window under.
const APP_ID: &str = "haze";
const DEFAULT_SIZE: [f32; 2] = [1440.0, 900.0];
const SMALLEST_SIZE: [f32; 2] = [600.0, 400.0];

/// What the window starts with.
#[derive(Debug, Clone)]
pub struct AppOptions {
    pub assets: Assets,
    /// `None`: as in the settings.
    pub device: Option<DeviceChoice>,
    /// A text that is run at once.
    pub query: Option<String>,
    /// Images, sheets, recipes or sessions to take in.
    pub open: Vec<PathBuf>,
    /// Points; `None`: the default size.
    pub window_size: Option<[f32; 2]>,
    /// Writes a picture of the window there once it is at rest, and closes it.
    pub screenshot_to: Option<PathBuf>,
    /// Whether settings, layout and session are kept on disk.
    pub keep_settings: bool,
}

impl AppOptions {
    /// An empty window.
    pub fn new(assets: Assets) -> Self {
        Self {
            assets,
            device: None,
            query: None,
            open: Vec::new(),
            window_size: None,
            screenshot_to: None,
            keep_settings: true,
        }
    }
}

/// Why there is no window.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    #[error("no display was found (neither DISPLAY nor WAYLAND_DISPLAY is set)")]
    NoDisplay,
    #[error("the display refused a window: {reason}")]
    Refused { reason: String },
    #[error("no graphics adapter can draw a window: {reason}")]
    NoAdapter { reason: String },
    #[error("the window failed: {0}")]
    Other(String),
}

impl WindowError {
    /// Whether nothing was shown at all, so that going on without a window makes sense.
    pub fn is_unavailable(&self) -> bool {
        !matches!(self, WindowError::Other(_))
    }
}

/// Whether this session has a display that windows could be shown on.
pub fn has_display() -> bool {
    if cfg!(any(target_os = "macos", target_os = "windows")) {
        return true;
    }
    ["WAYLAND_DISPLAY", "WAYLAND_SOCKET", "DISPLAY"]
        .into_iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Opens the window and returns when it is closed.
///
/// # Errors
/// When there is no display or no graphics adapter, or the window system fails.
pub fn run(options: AppOptions) -> Result<(), WindowError> {
    open(options.window_size, |cc| Box::new(HazeApp::new(cc, options)))
}

/// Opens a window with any app inside.
///
/// # Errors
/// As [`run`].
pub fn open(
    size: Option<[f32; 2]>,
    make: impl FnOnce(&eframe::CreationContext<'_>) -> Box<dyn eframe::App>,
) -> Result<(), WindowError> {
    if !has_display() {
        return Err(WindowError::NoDisplay);
    }
    let result = eframe::run_native("Haze", native_options(size), Box::new(|cc| Ok(make(cc))));
    result.map_err(|error| match error {
        eframe::Error::Wgpu(error) => WindowError::NoAdapter { reason: error.to_string() },
        // The event loop ran and was left by a failure: something had been shown.
        eframe::Error::WinitEventLoop(error @ winit::error::EventLoopError::ExitFailure(_)) => {
            WindowError::Other(error.to_string())
        }
        eframe::Error::WinitEventLoop(error) => WindowError::Refused { reason: error.to_string() },
        eframe::Error::Winit(error) => WindowError::Refused { reason: error.to_string() },
        other => WindowError::Other(other.to_string()),
    })
}

fn native_options(size: Option<[f32; 2]>) -> eframe::NativeOptions {
    let viewport = egui::ViewportBuilder::default()
        .with_title("Haze")
        .with_app_id(APP_ID)
        .with_inner_size(size.unwrap_or(DEFAULT_SIZE))
        .with_min_inner_size(SMALLEST_SIZE);
    // A device of its own: one shared with the computing threads would wait for them at every
    // resize. Vulkan, Metal or DirectX 12 before OpenGL, hardware before software; WGPU_BACKEND
    // and WGPU_POWER_PREF overrule it.
    let mut setup = WgpuSetupCreateNew::without_display_handle();
    setup.device_descriptor = Arc::new(|adapter| wgpu::DeviceDescriptor {
        label: Some("window"),
        required_limits: adapter.limits(),
        ..wgpu::DeviceDescriptor::default()
    });
    eframe::NativeOptions {
        viewport,
        renderer: eframe::Renderer::Wgpu,
        wgpu_options: WgpuConfiguration {
            wgpu_setup: WgpuSetup::CreateNew(setup),
            ..eframe::NativeOptions::default().wgpu_options
        },
        ..eframe::NativeOptions::default()
    }
}
