//! The density heat map on the device.

use std::sync::Arc;

use eframe::egui_wgpu::{CallbackResources, CallbackTrait, ScreenDescriptor};
use egui::{Color32, PaintCallbackInfo};
use wgpu::util::DeviceExt as _;

use super::{components, pipeline, plots, texture_entry, uniform_entry};
use crate::app::state::settings::ColourMap;

/// Texels in one row of the texture of densities; more dimensions take more rows.
const TEXTURE_WIDTH: u32 = 2048;

/// One dimension as the shader reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct DensityRow {
    pub mu: f32,
    /// Scale, above 0.
    pub alpha: f32,
    /// Shape, above 0.
    pub beta: f32,
    /// Peak density over the largest peak of all dimensions, 0 to 1.
    pub peak: f32,
}

/// One heat map for one frame.
pub struct DensityPlot {
    /// Which plot it is.
    pub key: u64,
    /// In the order of the plot.
    pub rows: Arc<Vec<DensityRow>>,
    /// First and last dimension seen.
    pub dimensions: [f32; 2],
    /// Lowest and highest value seen.
    pub values: [f32; 2],
    pub panel: Color32,
    pub colour_map: ColourMap,
    pub dark: bool,
    /// Width and height in pixels.
    pub pixels: [f32; 2],
    /// One scale for all dimensions, instead of each by its own peak.
    pub common_scale: bool,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct View {
    dimensions: [f32; 2],
    values: [f32; 2],
    panel: [f32; 4],
    shape: [f32; 4],
}

pub(super) struct Pipeline {
    pipeline: wgpu::RenderPipeline,
    layout: wgpu::BindGroupLayout,
}

impl Pipeline {
    pub fn new(device: &wgpu::Device, format: wgpu::TextureFormat) -> Self {
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("density"),
            entries: &[uniform_entry(0), texture_entry(1), texture_entry(2)],
        });
        let source = include_str!("../../../shaders/density.wgsl");
        Self { pipeline: pipeline(device, format, "density", source, &layout, &[]), layout }
    }
}

/// What one plot has on the device.
pub(super) struct Buffers {
    view: wgpu::Buffer,
    bindings: wgpu::BindGroup,
    rows: Arc<Vec<DensityRow>>,
    colours: (ColourMap, bool),
}

impl Buffers {
    fn new(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        layout: &wgpu::BindGroupLayout,
        plot: &DensityPlot,
    ) -> Self {
        let view = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("density view"),
            size: size_of::<View>() as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let count = plot.rows.len().max(1);
        let width = TEXTURE_WIDTH.min(count as u32);
        let height = count.div_ceil(width as usize) as u32;
        let mut padded = plot.rows.as_ref().clone();
        padded.resize((width * height) as usize, bytemuck::Zeroable::zeroed());
        let texture = |label, width, height, format, bytes: &[u8]| {
            let size = wgpu::Extent3d { width, height, depth_or_array_layers: 1 };
            let descriptor = wgpu::TextureDescriptor {
                label: Some(label),
                size,
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format,
                usage: wgpu::TextureUsages::TEXTURE_BINDING,
                view_formats: &[],
            };
            let order = wgpu::util::TextureDataOrder::LayerMajor;
            let texture = device.create_texture_with_data(queue, &descriptor, order, bytes);
            texture.create_view(&wgpu::TextureViewDescriptor::default())
        };
        let bytes = bytemuck::cast_slice(&padded);
        let rows = texture("densities", width, height, wgpu::TextureFormat::Rgba32Float, bytes);
        let table = super::colour_map::table(plot.colour_map, plot.dark);
        let colours = texture("colours", 256, 1, wgpu::TextureFormat::Rgba8Unorm, &table);
        let entry = |binding, resource| wgpu::BindGroupEntry { binding, resource };
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("density"),
            layout,
            entries: &[
                entry(0, view.as_entire_binding()),
                entry(1, wgpu::BindingResource::TextureView(&rows)),
                entry(2, wgpu::BindingResource::TextureView(&colours)),
            ],
        });
        let colours = (plot.colour_map, plot.dark);
        Self { view, bindings, rows: Arc::clone(&plot.rows), colours }
    }

    fn fits(&self, plot: &DensityPlot) -> bool {
        Arc::ptr_eq(&self.rows, &plot.rows) && self.colours == (plot.colour_map, plot.dark)
    }
}

impl CallbackTrait for DensityPlot {
    fn prepare(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        _screen: &ScreenDescriptor,
        _encoder: &mut wgpu::CommandEncoder,
        resources: &mut CallbackResources,
    ) -> Vec<wgpu::CommandBuffer> {
        let Some(plots) = plots(resources) else { return Vec::new() };
        if plots.densities.get(&self.key).is_none_or(|buffers| !buffers.fits(self)) {
            let buffers = Buffers::new(device, queue, &plots.density.layout, self);
            plots.densities.insert(self.key, buffers);
        }
        let view = View {
            dimensions: self.dimensions,
            values: self.values,
            panel: components(self.panel),
            shape: [
                self.pixels[1].max(1.0),
                self.pixels[0].max(1.0),
                self.rows.len() as f32,
                f32::from(u8::from(self.common_scale)),
            ],
        };
        if let Some(buffers) = plots.densities.get(&self.key) {
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
        let Some(buffers) = plots.densities.get(&self.key) else { return };
        pass.set_pipeline(&plots.density.pipeline);
        pass.set_bind_group(0, &buffers.bindings, &[]);
        pass.draw(0..3, 0..1);
    }
}
