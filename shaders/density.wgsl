// The density of every dimension of an embedding: x is the dimension, y the value, the colour the
// density of that dimension's generalised Gaussian, exp(-(|y - mu| / alpha)^beta).

struct View {
    // First and last dimension seen, in the order of the plot.
    dimensions: vec2<f32>,
    // Lowest and highest value seen, in embedding units.
    values: vec2<f32>,
    // Colour of the panel, into which the lowest densities fade.
    panel: vec4<f32>,
    // Height of the plot in pixels, width in pixels, number of dimensions, 1: one scale for all.
    shape: vec4<f32>,
};

@group(0) @binding(0) var<uniform> view: View;
// One texel per dimension: mu, alpha, beta, peak density over the largest peak.
@group(0) @binding(1) var densities: texture_2d<f32>;
// 256 colours, from low to high.
@group(0) @binding(2) var colours: texture_2d<f32>;

struct Corner {
    @builtin(position) position: vec4<f32>,
    @location(0) place: vec2<f32>,
};

@vertex
fn corner(@builtin(vertex_index) index: u32) -> Corner {
    // One triangle that covers the plot.
    let x = f32(i32(index & 1u) * 4 - 1);
    let y = f32(i32(index >> 1u) * 4 - 1);
    var out: Corner;
    out.position = vec4<f32>(x, y, 0.0, 1.0);
    out.place = vec2<f32>(0.5 * x + 0.5, 0.5 * y + 0.5);
    return out;
}

fn texel(index: i32) -> vec4<f32> {
    let width = i32(textureDimensions(densities).x);
    return textureLoad(densities, vec2<i32>(index % width, index / width), 0);
}

@fragment
fn colour(in: Corner) -> @location(0) vec4<f32> {
    let span = view.dimensions.y - view.dimensions.x;
    let step = span / view.shape.y;
    let count = i32(view.shape.z);
    let first = view.dimensions.x + in.place.x * span - 0.5 * step;
    let value = mix(view.values.x, view.values.y, in.place.y);
    let pixel = (view.values.y - view.values.x) / view.shape.x;
    // Where several dimensions share a pixel, the densest shows; at most 32 are looked at.
    let covered = clamp(i32(ceil(step)), 1, 32);
    var best = 0.0;
    var inside = false;
    for (var i = 0; i < covered; i++) {
        let index = i32(floor(first + (f32(i) + 0.5) * step / f32(covered)));
        if index < 0 || index >= count {
            continue;
        }
        inside = true;
        let density = texel(index);
        // A spike thinner than a pixel is drawn a pixel wide.
        let distance = abs(value - density.x) / max(density.y, 0.75 * pixel);
        var height = exp(-pow(distance, density.z));
        if view.shape.w > 0.5 {
            height *= density.w;
        }
        best = max(best, height);
    }
    if !inside {
        return view.panel;
    }
    let at = clamp(best, 0.0, 1.0) * 255.0;
    let low = textureLoad(colours, vec2<i32>(i32(floor(at)), 0), 0);
    let high = textureLoad(colours, vec2<i32>(min(i32(floor(at)) + 1, 255), 0), 0);
    let mapped = mix(low, high, fract(at));
    return mix(view.panel, mapped, smoothstep(0.0, 0.02, best));
}
