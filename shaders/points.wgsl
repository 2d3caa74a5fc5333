// A cloud of marks of one size, colour and shape: one instance of a square per point.

struct Uniforms {
    // What the target's -1..1 stands for, in pixels: left, top, width, height.
    viewport: vec4<f32>,
    // From data to pixels: scale x, scale y, offset x, offset y.
    transform: vec4<f32>,
    // Premultiplied, encoded as the target is.
    colour: vec4<f32>,
    // Half size in pixels, shape (0 disc, 1 square, 2 diamond), width of the outline in pixels
    // (0: filled), unused.
    mark: vec4<f32>,
};

@group(0) @binding(0) var<uniform> u: Uniforms;

struct Corner {
    @builtin(position) position: vec4<f32>,
    // Pixels from the mark's centre.
    @location(0) local: vec2<f32>,
};

@vertex
fn vs_main(@builtin(vertex_index) i: u32, @location(0) point: vec2<f32>) -> Corner {
    let corner = vec2<f32>(f32(i & 1u) * 2.0 - 1.0, f32(i >> 1u) * 2.0 - 1.0);
    // One pixel more, for the smooth edge.
    let local = corner * (u.mark.x + 1.0);
    let pixel = point * u.transform.xy + u.transform.zw + local;
    let unit = (pixel - u.viewport.xy) / u.viewport.zw;
    var out: Corner;
    out.position = vec4<f32>(unit.x * 2.0 - 1.0, 1.0 - unit.y * 2.0, 0.0, 1.0);
    out.local = local;
    return out;
}

@fragment
fn fs_main(in: Corner) -> @location(0) vec4<f32> {
    let p = abs(in.local);
    // Signed distance to the edge, negative inside.
    var distance = length(p) - u.mark.x;
    if u.mark.y > 1.5 {
        distance = (p.x + p.y - u.mark.x) * 0.70710678;
    } else if u.mark.y > 0.5 {
        distance = max(p.x, p.y) - u.mark.x;
    }
    if u.mark.z > 0.0 {
        let half_width = u.mark.z * 0.5;
        distance = abs(distance + half_width) - half_width;
    }
    return u.colour * clamp(0.5 - distance, 0.0, 1.0);
}
