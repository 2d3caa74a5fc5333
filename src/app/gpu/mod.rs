//! What the window draws with shaders of its own: the density heat map and large point clouds.

use std::sync::Arc;

use eframe::egui_wgpu::RenderState;

/// The device that the window is drawn on.
#[derive(Clone)]
pub struct Gpu {
    pub render_state: Arc<RenderState>,
}

impl Gpu {
    /// Prepares pipelines for the window's target format.
    pub fn new(render_state: &RenderState) -> Self {
        Self { render_state: Arc::new(render_state.clone()) }
    }
}
