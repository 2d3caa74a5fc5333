//! What the window draws with shaders of its own: the density heat map and large point clouds.
//!
//! egui runs every callback's `prepare` before any `paint`, so what a plot needs lives under that
//! plot's own key.

pub mod colour_map;
mod density;
mod points;

use std::collections::HashMap;
use std::sync::Arc;

use eframe::egui_wgpu::{CallbackResources, RenderState};
use egui::Color32;

pub use density::{DensityPlot, DensityRow};
pub use points::PointCloud;

/// The device that the window is drawn on.
#[derive(Clone)]
pub struct Gpu {
    render_state: Arc<RenderState>,
}

/// Pipelines, and what each plot has on the device.
struct Plots {
    density: density::Pipeline,
    points: points::Pipeline,
    densities: HashMap<u64, density::Buffers>,
    clouds: HashMap<u64, points::Buffers>,
}

impl Gpu {
    /// Prepares pipelines for the window's target format.
    pub fn new(render_state: &RenderState) -> Self {
        let (device, format) = (&render_state.device, render_state.target_format);
        let plots = Plots {
            density: density::Pipeline::new(device, format),
            points: points::Pipeline::new(device, format),
            densities: HashMap::new(),
            clouds: HashMap::new(),
        };
        render_state.renderer.write().callback_resources.insert(plots);
        Self { render_state: Arc::new(render_state.clone()) }
    }

    /// Largest width of a texture.
    pub fn texture_limit(&self) -> u32 {
        self.render_state.device.limits().max_texture_dimension_2d
    }
}

fn plots(resources: &mut CallbackResources) -> Option<&mut Plots> {
    resources.get_mut()
}

/// Gamma-encoded components, 0 to 1, as the target holds them.
fn components(colour: Color32) -> [f32; 4] {
    colour.to_normalized_gamma_f32()
}

/// Pipelines of both kinds differ in few things.
fn pipeline(
    device: &wgpu::Device,
    format: wgpu::TextureFormat,
    name: &str,
    source: &str,
    bindings: &wgpu::BindGroupLayout,
    buffers: &[Option<wgpu::VertexBufferLayout<'_>>],
) -> wgpu::RenderPipeline {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(name),
        source: wgpu::ShaderSource::Wgsl(source.into()),
    });
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(name),
        bind_group_layouts: &[Some(bindings)],
        immediate_size: 0,
    });
    device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: Some(name),
        layout: Some(&layout),
        vertex: wgpu::VertexState {
            module: &module,
            entry_point: Some("corner"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            buffers,
        },
        primitive: wgpu::PrimitiveState::default(),
        depth_stencil: None,
        multisample: wgpu::MultisampleState::default(),
        fragment: Some(wgpu::FragmentState {
            module: &module,
            entry_point: Some("colour"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            targets: &[Some(wgpu::ColorTargetState {
                format,
                blend: Some(wgpu::BlendState::PREMULTIPLIED_ALPHA_BLENDING),
                write_mask: wgpu::ColorWrites::ALL,
            })],
        }),
        multiview_mask: None,
        cache: None,
    })
}

fn uniform_entry(binding: u32) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::VERTEX_FRAGMENT,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Uniform,
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}

fn texture_entry(binding: u32) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::FRAGMENT,
        ty: wgpu::BindingType::Texture {
            sample_type: wgpu::TextureSampleType::Float { filterable: false },
            view_dimension: wgpu::TextureViewDimension::D2,
            multisampled: false,
        },
        count: None,
    }
}
