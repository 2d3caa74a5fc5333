//! Kernels for the networks of the decoder on the CPU.
//!
//! burn's CPU backend runs element-wise functions on one thread without vector instructions and
//! transposes around every convolution, which leaves a denoising step far behind PyTorch. These
//! kernels work on plain slices, channels last, in float32, on all threads of rayon's pool. Every
//! result is the same for any number of threads.

#![allow(
    clippy::needless_range_loop,
    reason = "loops by index stay one loop where chains of iterators are not always inlined"
)]

pub mod activation;
pub mod attention;
pub mod conv;
pub mod gemm;
pub mod norm;
pub mod scratch;
mod simd;

/// Elements that one task of an element-wise kernel works on.
const TASK: usize = 1 << 14;

/// How many of `total` items a task gets: about `target`, such that no thread waits for a last
/// task that another one has, but not less than `least`.
fn per_task(total: usize, target: usize, least: usize) -> usize {
    let threads = rayon::current_num_threads();
    let tasks = total.div_ceil(target.max(1)).next_multiple_of(threads);
    total.div_ceil(tasks).max(least).max(1)
}
