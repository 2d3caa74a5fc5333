//! Large point clouds on the device: positions go there once, panning and zooming changes a few
//! numbers only.

use std::sync::Arc;

use eframe::egui_wgpu::{CallbackResources, CallbackTrait, ScreenDescriptor};
use egui::{Color32, PaintCallbackInfo};
use wgpu::util::DeviceExt as _;

use super::{components, pipeline, plots, uniform_entry};

/// One cloud for one frame.
pub struct PointCloud {
    /// Which plot it is.
    pub key: u64,
    pub points: Arc<Vec<[f32; 2]>>,
    /// Pixels per unit.
    pub scale: [f32; 2],
    /// Position in the middle of the plot.
    pub centre: [f32; 2],
    /// Width and height of the plot in pixels.
    pub pixels: [f32; 2],
    /// Of a point, in pixels.
    pub radius: f32,
    /// Opacity is that of one point.
    pub colour: Color32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct View {
    scale: [f32; 2],
    centre: [f32; 2],
    size: [f32; 2],
    radius: f32,
    padding: f32,
    colour: [f32; 4],
}

pub(super) struct Pipeline {
    pipeline: wgpu::RenderPipeline,
    layout: wgpu::BindGroupLayout,
}

impl Pipeline {
    pub fn new(device: &wgpu::Device, format: wgpu::TextureFormat) -> Self {
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("points"),
            entries: &[uniform_entry(0)],
        });
        let source = include_str!("../../../shaders/points.wgsl");
        let positions = wgpu::VertexBufferLayout {
            array_stride: size_of::<[f32; 2]>() as u64,
            step_mode: wgpu::VertexStepMode::Instance,
            attributes: &wgpu::vertex_attr_array![0 => Float32x2],
        };
        let pipeline = pipeline(device, format, "points", source, &layout, &[Some(positions)]);
        Self { pipeline, layout }
    }
}

/// What one plot has on the device.
pub(super) struct Buffers {
    view: wgpu::Buffer,
    bindings: wgpu::BindGroup,
    positions: wgpu::Buffer,
    points: Arc<Vec<[f32; 2]>>,
}

impl Buffers {
    fn new(device: &wgpu::Device, layout: &wgpu::BindGroupLayout, cloud: &PointCloud) -> Self {
        let view = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("points view"),
            size: size_of::<View>() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("points"),
            layout,
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: view.as_entire_binding() }],
        });
        let positions = device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: Some("positions"),
            contents: bytemuck::cast_slice(&cloud.points),
            usage: wgpu::BufferUsages::VERTEX,
        });
        Self { view, bindings, positions, points: Arc::clone(&cloud.points) }
    }
}

impl CallbackTrait for PointCloud {
    fn prepare(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        _screen: &ScreenDescriptor,
        _encoder: &mut wgpu::CommandEncoder,
        resources: &mut CallbackResources,
    ) -> Vec<wgpu::CommandBuffer> {
        let Some(plots) = plots(resources).filter(|_| !self.points.is_empty()) else {
            return Vec::new();
        };
        let fits = |buffers: &Buffers| Arc::ptr_eq(&buffers.points, &self.points);
        if !plots.clouds.get(&self.key).is_some_and(fits) {
            let buffers = Buffers::new(device, &plots.points.layout, self);
            plots.clouds.insert(self.key, buffers);
        }
        let [r, g, b, a] = components(self.colour);
        // Components are premultiplied there, and not here.
        let colour = if a > 0.0 { [r / a, g / a, b / a, a] } else { [0.0; 4] };
        let view = View {
            scale: self.scale,
            centre: self.centre,
            size: self.pixels,
            radius: self.radius,
            padding: 0.0,
            colour,
        };
        if let Some(buffers) = plots.clouds.get(&self.key) {
            queue.write_buffer(&buffers.view, 0, bytemuck::bytes_of(&view));
        }
        Vec::new()
    }

    fn paint(
        &self,
        _info: PaintCallbackInfo,
        pass: &mut wgpu::RenderPass<'static>,
        resources: &CallbackResources,
    ) {
        let Some(plots) = resources.get::<super::Plots>() else { return };
        let Some(buffers) = plots.clouds.get(&self.key).filter(|b| !b.points.is_empty()) else {
            return;
        };
        pass.set_pipeline(&plots.points.pipeline);
        pass.set_bind_group(0, &buffers.bindings, &[]);
        pass.set_vertex_buffer(0, buffers.positions.slice(..));
        pass.draw(0..6, 0..buffers.points.len() as u32);
    }
}
