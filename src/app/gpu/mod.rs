//! What the window draws with shaders of its own: the density heat map and large point clouds.
//!
//! In: parameters of densities, positions, a view of them. Out: paint callbacks for egui. Nothing
//! here knows of queries, galleries or panes. What is uploaded stays on the device until its place
//! shows something else, so that panning and zooming send a few numbers per frame.

pub mod colour_map;
mod colour_tables;
pub mod density;
pub mod points;

use std::sync::Arc;

use eframe::egui_wgpu::{RenderState, ScreenDescriptor};
use egui::epaint::ViewportInPixels;
use wgpu::util::DeviceExt as _;

/// The device that the window is drawn on.
#[derive(Clone)]
pub struct Gpu {
    pub render_state: Arc<RenderState>,
}

impl Gpu {
    /// Prepares pipelines for the window's target format.
    pub fn new(render_state: &RenderState) -> Self {
        let (device, queue) = (&render_state.device, &render_state.queue);
        let format = render_state.target_format;
        let resources = Resources {
            density: density::Renderer::new(device, queue, format),
            points: points::Renderer::new(device, format),
        };
        render_state.renderer.write().callback_resources.insert(resources);
        Self { render_state: Arc::new(render_state.clone()) }
    }
}

/// Everything kept on the device; egui hands it to the callbacks by its type.
struct Resources {
    density: density::Renderer,
    points: points::Renderer,
}

/// Left, top, width and height, in pixels, of what the target's -1..1 stands for while a callback
/// paints `rect`: egui rounds it and cuts it off at the window's edge.
fn viewport(rect: egui::Rect, screen: &ScreenDescriptor) -> [f32; 4] {
    let viewport =
        ViewportInPixels::from_points(&rect, screen.pixels_per_point, screen.size_in_pixels);
    [
        viewport.left_px as f32,
        viewport.top_px as f32,
        viewport.width_px.max(1) as f32,
        viewport.height_px.max(1) as f32,
    ]
}

/// A pipeline as egui's own pass wants it: one sample, no depth, premultiplied alpha.
fn pipeline(
    device: &wgpu::Device,
    label: &'static str,
    source: &str,
    bindings: &wgpu::BindGroupLayout,
    buffers: &[Option<wgpu::VertexBufferLayout<'_>>],
    topology: wgpu::PrimitiveTopology,
    format: wgpu::TextureFormat,
) -> wgpu::RenderPipeline {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(label),
        source: wgpu::ShaderSource::Wgsl(source.into()),
    });
    let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(label),
        bind_group_layouts: &[Some(bindings)],
        immediate_size: 0,
    });
    device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: Some(label),
        layout: Some(&layout),
        vertex: wgpu::VertexState {
            module: &module,
            entry_point: Some("vs_main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            buffers,
        },
        primitive: wgpu::PrimitiveState { topology, ..Default::default() },
        depth_stencil: None,
        multisample: wgpu::MultisampleState::default(),
        fragment: Some(wgpu::FragmentState {
            module: &module,
            entry_point: Some("fs_main"),
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

fn uniform_entry(visibility: wgpu::ShaderStages) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding: 0,
        visibility,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Uniform,
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}

fn uniform_buffer<T: bytemuck::Pod>(device: &wgpu::Device, label: &str, value: &T) -> wgpu::Buffer {
    device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: Some(label),
        contents: bytemuck::bytes_of(value),
        usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
    })
}

#[cfg(test)]
mod tests {
    use wgpu::naga;

    fn check(source: &str) {
        let module = naga::front::wgsl::parse_str(source)
            .unwrap_or_else(|error| panic!("{}", error.emit_to_string(source)));
        // No capabilities: what every device has, GL included.
        let mut validator = naga::valid::Validator::new(
            naga::valid::ValidationFlags::all(),
            naga::valid::Capabilities::empty(),
        );
        if let Err(error) = validator.validate(&module) {
            panic!("{}", error.emit_to_string(source));
        }
        let mut names: Vec<_> = module.entry_points.iter().map(|e| e.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["fs_main", "vs_main"]);
    }

    #[test]
    fn the_density_shader_is_valid_without_optional_features() {
        check(super::density::SHADER);
    }

    #[test]
    fn the_points_shader_is_valid_without_optional_features() {
        check(super::points::SHADER);
    }

    #[test]
    fn the_density_shader_and_the_program_agree_on_the_width_of_a_row() {
        let line = format!("const ROW: i32 = {};", super::density::ROW);
        assert!(super::density::SHADER.contains(&line));
    }
}
