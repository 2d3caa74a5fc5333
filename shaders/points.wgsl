// A cloud of points: every instance is one point, drawn as a small disc.

struct View {
    // Pixels per unit, x and y.
    scale: vec2<f32>,
    // Position in the middle of the plot.
    centre: vec2<f32>,
    // Width and height of the plot in pixels.
    size: vec2<f32>,
    // Radius of a point in pixels.
    radius: f32,
    padding: f32,
    // Not premultiplied.
    colour: vec4<f32>,
};

@group(0) @binding(0) var<uniform> view: View;

struct Corner {
    @builtin(position) position: vec4<f32>,
    // From the point's middle, in pixels.
    @location(0) offset: vec2<f32>,
};

@vertex
fn corner(@builtin(vertex_index) index: u32, @location(0) point: vec2<f32>) -> Corner {
    var corners = array<vec2<f32>, 6>(
        vec2<f32>(-1.0, -1.0), vec2<f32>(1.0, -1.0), vec2<f32>(-1.0, 1.0),
        vec2<f32>(-1.0, 1.0), vec2<f32>(1.0, -1.0), vec2<f32>(1.0, 1.0),
    );
    let offset = corners[index] * (view.radius + 1.0);
    let pixel = (point - view.centre) * view.scale + offset;
    var out: Corner;
    out.position = vec4<f32>(2.0 * pixel / view.size, 0.0, 1.0);
    out.offset = offset;
    return out;
}

@fragment
fn colour(in: Corner) -> @location(0) vec4<f32> {
    let alpha = view.colour.a * clamp(view.radius + 0.5 - length(in.offset), 0.0, 1.0);
    return vec4<f32>(view.colour.rgb * alpha, alpha);
}
