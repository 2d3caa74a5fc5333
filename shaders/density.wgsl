// The density of every dimension of an embedding as a heat map: x is the dimension, y the value.
//
// Each dimension is a generalised Gaussian, evaluated here at the scale of the screen, so that
// zooming in stays sharp. Along y a pixel shows the largest density within its height, so that a
// spike thinner than a pixel stays visible; along x it shows the mean of the dimensions it covers.

struct Uniforms {
    // The plot in pixels of the target: left, top, width, height.
    plot: vec4<f32>,
    // What it shows: first position, positions across the width, lowest value, values over the height.
    view: vec4<f32>,
    // Number of dimensions, 1 to reverse the colours, 1 when the target encodes sRGB itself, unused.
    options: vec4<f32>,
};

@group(0) @binding(0) var<uniform> u: Uniforms;
// mu, alpha, beta and height of the peak, 0 to 1, of the dimension at each position.
@group(0) @binding(1) var columns: texture_2d<f32>;
// 256 colours, low to high, in sRGB.
@group(0) @binding(2) var colours: texture_2d<f32>;

// Positions per row of `columns`; as in density.rs.
const ROW: i32 = 1024;
// Dimensions looked at per pixel, at most.
const LOOKS: i32 = 32;
// Share of the scale that fades into the panel.
const FADE: f32 = 0.02;

@vertex
fn vs_main(@builtin(vertex_index) i: u32) -> @builtin(position) vec4<f32> {
    // One triangle that covers the viewport.
    let x = f32(i & 1u) * 4.0 - 1.0;
    let y = f32(i >> 1u) * 4.0 - 1.0;
    return vec4<f32>(x, y, 0.0, 1.0);
}

// The largest of peak * exp(-(|y - mu| / alpha)^beta) between two values.
fn density(position: i32, low: f32, high: f32) -> f32 {
    let column = textureLoad(columns, vec2<i32>(position % ROW, position / ROW), 0);
    let distance = max(max(low - column.x, column.x - high), 0.0) / column.y;
    if distance <= 0.0 {
        return column.w;
    }
    // The exponent is bounded: beyond 2^8 the density is 0 in any case.
    let power = exp2(min(column.z * log2(distance), 8.0));
    return column.w * exp(-power);
}

fn colour(level: f32) -> vec3<f32> {
    let t = clamp(select(level, 1.0 - level, u.options.y > 0.5), 0.0, 1.0) * 255.0;
    let low = i32(floor(t));
    let high = min(low + 1, 255);
    let a = textureLoad(colours, vec2<i32>(low, 0), 0).rgb;
    let b = textureLoad(colours, vec2<i32>(high, 0), 0).rgb;
    return mix(a, b, t - f32(low));
}

fn linear_from_srgb(c: vec3<f32>) -> vec3<f32> {
    let low = c / 12.92;
    let high = pow((c + vec3<f32>(0.055)) / 1.055, vec3<f32>(2.4));
    return select(high, low, c <= vec3<f32>(0.04045));
}

@fragment
fn fs_main(@builtin(position) position: vec4<f32>) -> @location(0) vec4<f32> {
    let corner = position.xy - vec2<f32>(0.5) - u.plot.xy;
    let left = u.view.x + corner.x / u.plot.z * u.view.y;
    let right = left + u.view.y / u.plot.z;
    let high = u.view.z + u.view.w * (1.0 - corner.y / u.plot.w);
    let low = high - u.view.w / u.plot.w;

    let count = i32(u.options.x);
    let first = max(i32(floor(left)), 0);
    let last = min(i32(ceil(right)) - 1, count - 1);
    if last < first {
        return vec4<f32>(0.0);
    }
    let stride = (last - first) / LOOKS + 1;
    var sum = 0.0;
    var weight = 0.0;
    for (var look = 0; look < LOOKS; look++) {
        let at = first + look * stride;
        if at > last {
            break;
        }
        let covered = max(min(right, f32(at + 1)) - max(left, f32(at)), 1e-6);
        sum += covered * density(at, low, high);
        weight += covered;
    }
    let level = sum / weight;
    let alpha = smoothstep(0.0, FADE, level);
    var rgb = colour(level);
    if u.options.z > 0.5 {
        rgb = linear_from_srgb(rgb);
    }
    return vec4<f32>(rgb * alpha, alpha);
}
