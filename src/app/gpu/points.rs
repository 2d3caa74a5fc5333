//! Point clouds: up to millions of marks, uploaded once and drawn with one call per layer.

use std::collections::HashMap;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use eframe::egui_wgpu::{Callback, CallbackResources, CallbackTrait, ScreenDescriptor};
use egui::{Color32, Id, PaintCallbackInfo, Painter, Pos2, Rect, Vec2, pos2, vec2};
use wgpu::util::DeviceExt as _;

use super::{Gpu, Resources};

pub(super) const SHADER: &str = include_str!("../../../shaders/points.wgsl");

/// Points drawn per layer without the device, at most.
pub const CPU_LIMIT: usize = 4000;

/// Form of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Disc,
    Square,
    Diamond,
}

/// From data to points on screen, each axis by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transform {
    /// Points per unit of data; a negative y turns the axis upward.
    pub scale: Vec2,
    /// Where the data's origin is.
    pub offset: Pos2,
}

impl Transform {
    /// Where a point of the data is on screen.
    pub fn apply(&self, point: [f32; 2]) -> Pos2 {
        self.offset + vec2(point[0], point[1]) * self.scale
    }
}

/// Marks of one look.
#[derive(Debug, Clone)]
pub struct Layer {
    /// `[N]` positions; uploaded when this is another `Arc` than in the frame before.
    pub points: Arc<[[f32; 2]]>,
    /// Half size in points.
    pub radius: f32,
    pub colour: Color32,
    pub shape: Shape,
    /// Width of the outline in points; `None`: filled.
    pub outline: Option<f32>,
}

/// Draws layers, the first at the bottom, cut off at `rect`. `place` names the place they are
/// kept under on the device; without a device every layer is thinned to [`CPU_LIMIT`] points.
pub fn paint(
    painter: &Painter,
    gpu: Option<&Gpu>,
    place: Id,
    rect: Rect,
    transform: Transform,
    layers: Vec<Layer>,
) {
    let painter = painter.with_clip_rect(painter.clip_rect().intersect(rect));
    if gpu.is_none() {
        for layer in &layers {
            paint_on_cpu(&painter, rect, transform, layer);
        }
        return;
    }
    if layers.iter().any(|layer| !layer.points.is_empty()) {
        painter.add(Callback::new_paint_callback(rect, Cloud { place, rect, transform, layers }));
    }
}

fn paint_on_cpu(painter: &Painter, rect: Rect, transform: Transform, layer: &Layer) {
    let stride = layer.points.len().div_ceil(CPU_LIMIT).max(1);
    let reach = rect.expand(layer.radius);
    for &point in layer.points.iter().step_by(stride) {
        let centre = transform.apply(point);
        if reach.contains(centre) {
            mark(painter, centre, layer.radius, layer.shape, layer.colour, layer.outline);
        }
    }
}

/// One mark by egui's own painter.
pub fn mark(
    painter: &Painter,
    centre: Pos2,
    radius: f32,
    shape: Shape,
    colour: Color32,
    outline: Option<f32>,
) {
    let (fill, stroke) = match outline {
        Some(width) => (Color32::TRANSPARENT, egui::Stroke::new(width, colour)),
        None => (colour, egui::Stroke::NONE),
    };
    match shape {
        Shape::Disc => {
            painter.circle(centre, radius, fill, stroke);
        }
        Shape::Square => {
            let rect = Rect::from_center_size(centre, Vec2::splat(2.0 * radius));
            painter.rect(rect, 0.0, fill, stroke, egui::StrokeKind::Inside);
        }
        Shape::Diamond => {
            let corners = [(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)]
                .map(|(x, y)| pos2(centre.x + x * radius, centre.y + y * radius));
            painter.add(egui::Shape::convex_polygon(corners.to_vec(), fill, stroke));
        }
    }
}

struct Cloud {
    place: Id,
    rect: Rect,
    transform: Transform,
    layers: Vec<Layer>,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Uniforms {
    viewport: [f32; 4],
    transform: [f32; 4],
    colour: [f32; 4],
    mark: [f32; 4],
}

/// One layer on the device.
struct Uploaded {
    points: Arc<[[f32; 2]]>,
    /// `None` for a layer without points.
    buffer: Option<wgpu::Buffer>,
    count: u32,
    uniforms: wgpu::Buffer,
    bindings: wgpu::BindGroup,
}

/// Pipeline and uploaded layers of all places.
pub(super) struct Renderer {
    pipeline: wgpu::RenderPipeline,
    layout: wgpu::BindGroupLayout,
    /// The target turns linear values into sRGB by itself.
    encodes: bool,
    places: HashMap<Id, Vec<Uploaded>>,
}

impl Renderer {
    pub(super) fn new(device: &wgpu::Device, format: wgpu::TextureFormat) -> Self {
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("points"),
            entries: &[super::uniform_entry(wgpu::ShaderStages::VERTEX_FRAGMENT)],
        });
        let instances = wgpu::VertexBufferLayout {
            array_stride: size_of::<[f32; 2]>() as u64,
            step_mode: wgpu::VertexStepMode::Instance,
            attributes: &wgpu::vertex_attr_array![0 => Float32x2],
        };
        let pipeline = super::pipeline(
            device,
            "points",
            SHADER,
            &layout,
            &[Some(instances)],
            wgpu::PrimitiveTopology::TriangleStrip,
            format,
        );
        Self { pipeline, layout, encodes: format.is_srgb(), places: HashMap::new() }
    }

    fn upload(
        &self,
        device: &wgpu::Device,
        points: &Arc<[[f32; 2]]>,
        value: &Uniforms,
    ) -> Uploaded {
        // A device with small buffers shows the first points only; the default limit holds 33 M.
        let room = device.limits().max_buffer_size / size_of::<[f32; 2]>() as u64;
        let count = (points.len() as u64).min(room).min(u64::from(u32::MAX)) as usize;
        let buffer = (count > 0).then(|| {
            device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
                label: Some("points"),
                contents: bytemuck::cast_slice(&points[..count]),
                usage: wgpu::BufferUsages::VERTEX,
            })
        });
        let uniforms = super::uniform_buffer(device, "points", value);
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("points"),
            layout: &self.layout,
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: uniforms.as_entire_binding() }],
        });
        Uploaded { points: Arc::clone(points), buffer, count: count as u32, uniforms, bindings }
    }
}

impl CallbackTrait for Cloud {
    fn prepare(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        screen: &ScreenDescriptor,
        _encoder: &mut wgpu::CommandEncoder,
        resources: &mut CallbackResources,
    ) -> Vec<wgpu::CommandBuffer> {
        let Some(Resources { points: renderer, .. }) = resources.get_mut::<Resources>() else {
            return Vec::new();
        };
        let mut kept = renderer.places.remove(&self.place).unwrap_or_default();
        kept.truncate(self.layers.len());
        let viewport = super::viewport(self.rect, screen);
        let ppp = screen.pixels_per_point;
        let Transform { scale, offset } = self.transform;
        for (i, layer) in self.layers.iter().enumerate() {
            let colour = if renderer.encodes {
                egui::Rgba::from(layer.colour).to_array()
            } else {
                layer.colour.to_normalized_gamma_f32()
            };
            let shape = match layer.shape {
                Shape::Disc => 0.0,
                Shape::Square => 1.0,
                Shape::Diamond => 2.0,
            };
            let value = Uniforms {
                viewport,
                transform: [scale.x, scale.y, offset.x, offset.y].map(|v| v * ppp),
                colour,
                mark: [layer.radius * ppp, shape, layer.outline.unwrap_or(0.0) * ppp, 0.0],
            };
            match kept.get(i) {
                Some(uploaded) if Arc::ptr_eq(&uploaded.points, &layer.points) => {
                    queue.write_buffer(&uploaded.uniforms, 0, bytemuck::bytes_of(&value));
                }
                Some(_) => kept[i] = renderer.upload(device, &layer.points, &value),
                None => kept.push(renderer.upload(device, &layer.points, &value)),
            }
        }
        renderer.places.insert(self.place, kept);
        Vec::new()
    }

    fn paint(
        &self,
        _info: PaintCallbackInfo,
        pass: &mut wgpu::RenderPass<'static>,
        resources: &CallbackResources,
    ) {
        let Some(Resources { points: renderer, .. }) = resources.get::<Resources>() else { return };
        let Some(layers) = renderer.places.get(&self.place) else { return };
        pass.set_pipeline(&renderer.pipeline);
        for layer in layers {
            if let Some(buffer) = &layer.buffer {
                pass.set_bind_group(0, &layer.bindings, &[]);
                pass.set_vertex_buffer(0, buffer.slice(..));
                pass.draw(0..4, 0..layer.count);
            }
        }
    }
}
