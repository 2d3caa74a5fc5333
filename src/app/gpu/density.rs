//! The density heat map: generalised Gaussians side by side, evaluated at the screen's own scale.

use std::collections::HashMap;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use eframe::egui_wgpu::{Callback, CallbackResources, CallbackTrait, ScreenDescriptor};
use egui::{ColorImage, Id, PaintCallbackInfo, Painter, Rect};
use wgpu::util::DeviceExt as _;

use super::Resources;
use super::colour_map::{self, Colours};

pub(super) const SHADER: &str = include_str!("../../../shaders/density.wgsl");

/// Columns per row of their texture, so that thousands of dimensions fit into the smallest
/// texture that a device may allow.
pub(super) const ROW: usize = 1024;

/// Dimensions looked at per pixel, at most; as in the shader.
const LOOKS: usize = 32;

/// mu, alpha, beta and the height of the peak, 0 to 1, of one dimension.
pub type Column = [f32; 4];

/// The part of the plane that is shown: positions along x (column i covers i to i + 1), values
/// along y.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    pub first: f32,
    pub positions: f32,
    pub low: f32,
    pub values: f32,
}

/// Draws the columns into `rect`. `place` names the place they are kept under on the device.
pub fn paint(
    painter: &Painter,
    place: Id,
    rect: Rect,
    columns: &Arc<[Column]>,
    view: View,
    colours: Colours,
) {
    let heat_map = HeatMap { place, rect, columns: Arc::clone(columns), view, colours };
    painter.add(Callback::new_paint_callback(rect, heat_map));
}

/// The same picture without the device, `size` pixels wide and high.
pub fn image(
    columns: &[Column],
    view: View,
    size: [usize; 2],
    colours: Colours,
    panel: egui::Color32,
) -> ColorImage {
    let [width, height] = size;
    let mut pixels = Vec::with_capacity(width * height);
    for y in 0..height {
        let high = view.low + view.values * (1.0 - y as f32 / height as f32);
        let low = high - view.values / height as f32;
        for x in 0..width {
            let left = view.first + x as f32 / width as f32 * view.positions;
            let level = level(columns, left, left + view.positions / width as f32, low, high);
            pixels.push(level.map_or(panel, |level| colour_map::faded(colours, level, panel)));
        }
    }
    ColorImage::new(size, pixels)
}

/// Mean over the columns between two positions of the largest density between two values, as in
/// the shader; `None` beside the columns.
fn level(columns: &[Column], left: f32, right: f32, low: f32, high: f32) -> Option<f32> {
    let first = left.floor().max(0.0) as usize;
    let end = (right.ceil().max(0.0) as usize).min(columns.len());
    if end <= first {
        return None;
    }
    let stride = (end - 1 - first) / LOOKS + 1;
    let (mut sum, mut weight) = (0.0, 0.0);
    for at in (first..end).step_by(stride) {
        let covered = (right.min((at + 1) as f32) - left.max(at as f32)).max(1e-6);
        sum += covered * density(&columns[at], low, high);
        weight += covered;
    }
    Some(sum / weight)
}

/// Largest of peak * exp(-(|y - mu| / alpha)^beta) between two values.
fn density(&[mu, alpha, beta, peak]: &Column, low: f32, high: f32) -> f32 {
    let distance = (low - mu).max(mu - high).max(0.0) / alpha;
    if distance <= 0.0 { peak } else { peak * (-distance.powf(beta)).exp() }
}

struct HeatMap {
    place: Id,
    rect: Rect,
    columns: Arc<[Column]>,
    view: View,
    colours: Colours,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Uniforms {
    plot: [f32; 4],
    view: [f32; 4],
    options: [f32; 4],
}

/// What one place shows.
struct Uploaded {
    columns: Arc<[Column]>,
    colours: Colours,
    uniforms: wgpu::Buffer,
    bindings: wgpu::BindGroup,
}

/// Pipeline and uploaded columns of all places.
pub(super) struct Renderer {
    pipeline: wgpu::RenderPipeline,
    layout: wgpu::BindGroupLayout,
    /// The colours of every map.
    tables: HashMap<Colours, wgpu::TextureView>,
    encodes: bool,
    places: HashMap<Id, Uploaded>,
}

impl Renderer {
    pub(super) fn new(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        format: wgpu::TextureFormat,
    ) -> Self {
        let texture = |binding| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::FRAGMENT,
            ty: wgpu::BindingType::Texture {
                sample_type: wgpu::TextureSampleType::Float { filterable: false },
                view_dimension: wgpu::TextureViewDimension::D2,
                multisampled: false,
            },
            count: None,
        };
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("density"),
            entries: &[super::uniform_entry(wgpu::ShaderStages::FRAGMENT), texture(1), texture(2)],
        });
        let pipeline = super::pipeline(
            device,
            "density",
            SHADER,
            &layout,
            &[],
            wgpu::PrimitiveTopology::TriangleList,
            format,
        );
        let table = |colours: Colours| {
            let texels = colour_map::texels(colours);
            let format = wgpu::TextureFormat::Rgba8Unorm;
            (colours, upload_texture(device, queue, "colours", [256, 1], format, &texels))
        };
        Self {
            pipeline,
            layout,
            tables: Colours::all().map(table).collect(),
            encodes: format.is_srgb(),
            places: HashMap::new(),
        }
    }

    fn upload(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        heat_map: &HeatMap,
        value: &Uniforms,
    ) -> Option<Uploaded> {
        let rows = heat_map.columns.len().div_ceil(ROW).max(1);
        let mut texels = heat_map.columns.to_vec();
        texels.resize(rows * ROW, [0.0, 1.0, 1.0, 0.0]);
        let columns = upload_texture(
            device,
            queue,
            "columns",
            [ROW as u32, rows as u32],
            wgpu::TextureFormat::Rgba32Float,
            bytemuck::cast_slice(&texels),
        );
        let uniforms = super::uniform_buffer(device, "density", value);
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("density"),
            layout: &self.layout,
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: uniforms.as_entire_binding() },
                wgpu::BindGroupEntry {
                    binding: 1,
                    resource: wgpu::BindingResource::TextureView(&columns),
                },
                wgpu::BindGroupEntry {
                    binding: 2,
                    resource: wgpu::BindingResource::TextureView(
                        self.tables.get(&heat_map.colours)?,
                    ),
                },
            ],
        });
        let columns = Arc::clone(&heat_map.columns);
        Some(Uploaded { columns, colours: heat_map.colours, uniforms, bindings })
    }
}

fn upload_texture(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    label: &str,
    [width, height]: [u32; 2],
    format: wgpu::TextureFormat,
    texels: &[u8],
) -> wgpu::TextureView {
    let texture = device.create_texture_with_data(
        queue,
        &wgpu::TextureDescriptor {
            label: Some(label),
            size: wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage: wgpu::TextureUsages::TEXTURE_BINDING,
            view_formats: &[],
        },
        wgpu::util::TextureDataOrder::LayerMajor,
        texels,
    );
    texture.create_view(&wgpu::TextureViewDescriptor::default())
}

impl CallbackTrait for HeatMap {
    fn prepare(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        screen: &ScreenDescriptor,
        _encoder: &mut wgpu::CommandEncoder,
        resources: &mut CallbackResources,
    ) -> Vec<wgpu::CommandBuffer> {
        let Some(Resources { density: renderer, .. }) = resources.get_mut::<Resources>() else {
            return Vec::new();
        };
        let ppp = screen.pixels_per_point;
        let View { first, positions, low, values } = self.view;
        let flag = |on: bool| f32::from(u8::from(on));
        let value = Uniforms {
            // The whole plot, even where the window cuts it off.
            plot: [self.rect.left(), self.rect.top(), self.rect.width(), self.rect.height()]
                .map(|length| length * ppp),
            view: [first, positions, low, values],
            options: [
                self.columns.len() as f32,
                flag(self.colours.reversed),
                flag(renderer.encodes),
                0.0,
            ],
        };
        match renderer.places.get(&self.place) {
            Some(uploaded)
                if Arc::ptr_eq(&uploaded.columns, &self.columns)
                    && uploaded.colours == self.colours =>
            {
                queue.write_buffer(&uploaded.uniforms, 0, bytemuck::bytes_of(&value));
            }
            _ => {
                if let Some(uploaded) = renderer.upload(device, queue, self, &value) {
                    renderer.places.insert(self.place, uploaded);
                }
            }
        }
        Vec::new()
    }

    fn paint(
        &self,
        _info: PaintCallbackInfo,
        pass: &mut wgpu::RenderPass<'static>,
        resources: &CallbackResources,
    ) {
        let Some(Resources { density: renderer, .. }) = resources.get::<Resources>() else {
            return;
        };
        let Some(uploaded) = renderer.places.get(&self.place) else { return };
        pass.set_pipeline(&renderer.pipeline);
        pass.set_bind_group(0, &uploaded.bindings, &[]);
        pass.draw(0..3, 0..1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_thinner_than_a_pixel_keeps_its_full_height() {
        let spike: Column = [0.123, 1e-6, 2.0, 1.0];
        assert_eq!(density(&spike, 0.1, 0.2), 1.0);
        assert!(density(&spike, 0.2, 0.3) < 1e-6);
    }

    #[test]
    fn a_gaussian_column_falls_to_one_over_e_at_alpha() {
        let column: Column = [1.0, 0.5, 2.0, 0.8];
        let at_alpha = density(&column, 1.5, 1.5);
        assert!((at_alpha - 0.8 * (-1.0f32).exp()).abs() < 1e-6);
    }

    #[test]
    fn a_pixel_over_several_columns_shows_their_mean_by_coverage() {
        let columns = [[0.0, 1.0, 2.0, 1.0], [0.0, 1.0, 2.0, 0.5]];
        assert_eq!(level(&columns, 0.0, 2.0, 0.0, 0.0), Some(0.75));
        assert_eq!(level(&columns, 0.0, 1.0, 0.0, 0.0), Some(1.0));
        assert_eq!(level(&columns, 0.5, 2.5, 0.0, 0.0), Some((0.5 + 0.5) / 1.5));
        assert_eq!(level(&columns, 2.0, 3.0, 0.0, 0.0), None);
    }

    #[test]
    fn thousands_of_columns_in_one_pixel_are_looked_at_in_bounded_time() {
        let columns = vec![[0.0, 1.0, 2.0, 1.0]; 100_000];
        assert_eq!(level(&columns, 0.0, 100_000.0, 0.0, 0.0), Some(1.0));
    }
}
