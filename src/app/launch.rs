//! Opening the window.

use std::path::PathBuf;

use crate::model::device::DeviceChoice;
use crate::session::Assets;

/// What the window starts with.
#[derive(Debug, Clone)]
pub struct AppOptions {
    pub assets: Assets,
    /// The device to compute on, where the command line named one.
    pub device: Option<DeviceChoice>,
    /// A text to run at once.
    pub query: Option<String>,
    /// Files to take in, as if dropped.
    pub open: Vec<PathBuf>,
    /// Keep settings, layout and session on disk.
    pub keep_settings: bool,
    /// Save a picture of the window there once the first query is decoded, then close.
    pub screenshot: Option<PathBuf>,
    /// Width and height in points.
    pub size: [f32; 2],
}

impl AppOptions {
    /// An empty window that keeps its settings.
    pub fn new(assets: Assets) -> Self {
        Self {
            assets,
            device: None,
            query: None,
            open: Vec::new(),
            keep_settings: true,
            screenshot: None,
            size: [1440.0, 900.0],
        }
    }
}

/// Why no window could be opened.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    #[error(
        "there is no display to open a window on; use the command line instead, for example haze \
         sample \"a slice of cake\", or haze demo --headless"
    )]
    NoDisplay,
    #[error(
        "the window cannot be opened: {0}; use the command line instead, for example haze sample \
         \"a slice of cake\", or install a Vulkan or OpenGL driver (mesa-vulkan-drivers has one \
         that needs no graphics card)"
    )]
    Failed(String),
}

/// Whether there is a display to open a window on.
pub fn has_display() -> bool {
    if cfg!(any(target_os = "windows", target_os = "macos")) {
        return true;
    }
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set("DISPLAY") || is_set("WAYLAND_DISPLAY") || is_set("WAYLAND_SOCKET")
}

/// Opens the window and returns when it is closed.
///
/// # Errors
/// When there is no display, or nothing to draw with.
pub fn run(options: AppOptions) -> Result<(), WindowError> {
    run_app(options.size, |creation| super::HazeApp::new(creation, options))
}

/// Opens a window with any application inside.
///
/// # Errors
/// As [`run`].
pub fn run_app<A: eframe::App + 'static>(
    size: [f32; 2],
    make: impl FnOnce(&eframe::CreationContext<'_>) -> A,
) -> Result<(), WindowError> {
    if !has_display() {
        return Err(WindowError::NoDisplay);
    }
    let viewport = egui::ViewportBuilder::default()
        .with_title("Haze")
        .with_app_id("haze")
        .with_inner_size(size)
        .with_min_inner_size([600.0, 400.0])
        .with_drag_and_drop(true);
    let native = eframe::NativeOptions { viewport, ..Default::default() };
    // A driver that fails while the window is made may panic instead of returning an error.
    let open = std::panic::AssertUnwindSafe(|| {
        eframe::run_native("Haze", native, Box::new(|creation| Ok(Box::new(make(creation)))))
    });
    match std::panic::catch_unwind(open) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(WindowError::Failed(error.to_string())),
        Err(panic) => Err(WindowError::Failed(
            crate::panics::message(panic.as_ref())
                .unwrap_or_else(|| "the graphics driver failed".to_owned()),
        )),
    }
}
