//! What a device says when a stage of decoding fails, as an error that says what helps.

use std::panic::AssertUnwindSafe;

use burn::tensor::{Tensor, TensorData};

use super::DecodeError;
use crate::model::device_failure::DeviceFailure;

/// Where memory can run out.
#[derive(Clone, Copy)]
pub(super) enum Stage {
    Denoising,
    Pixels,
}

/// Reads a tensor back; this is where a device reports what went wrong earlier.
pub(super) fn read<const D: usize>(
    tensor: Tensor<D>,
    stage: Stage,
    batch_size: usize,
) -> Result<TensorData, DecodeError> {
    tensor.try_into_data().map_err(|error| device_error(stage, batch_size, error.to_string()))
}

/// Runs a stage; a panic that says that memory ran out becomes an error, any other goes on.
pub(super) fn within<T>(
    stage: Stage,
    batch_size: usize,
    work: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        match crate::panics::message(panic.as_ref()) {
            Some(text) if DeviceFailure::OutOfMemory.line_in(&text).is_some() => {
                Err(device_error(stage, batch_size, text))
            }
            _ => std::panic::resume_unwind(panic),
        }
    })
}

/// What a device's words mean, and what helps.
fn device_error(stage: Stage, batch_size: usize, reason: String) -> DecodeError {
    let Some(line) = DeviceFailure::OutOfMemory.line_in(&reason) else {
        return DecodeError::Device { batch_size, reason };
    };
    let reason = line.to_owned();
    let mut advice = Vec::new();
    if batch_size > 1 {
        advice.push(format!("--batch-size {}", batch_size / 2));
    }
    let stage = match stage {
        Stage::Denoising => {
            advice.push("--precision f16".to_owned());
            "denoising"
        }
        Stage::Pixels => {
            advice.push("--vae-tiling on".to_owned());
            "making pixels of"
        }
    };
    advice.push("--device cpu".to_owned());
    let advice = format!("try {}", advice.join(", or "));
    DecodeError::OutOfMemory { stage, batch_size, reason, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_runs_out_is_told_from_other_failures_with_what_helps() {
        let of = |stage, batch, reason: &str| device_error(stage, batch, reason.to_owned());
        // The words of cubecl, with the trace that it puts behind them.
        let words = "a task failed:\nout of device memory allocating 9 bytes\n  0: main\n  1: run";
        let error = of(Stage::Denoising, 8, words).to_string();
        let start = "denoising a batch of 8: out of device memory allocating 9 bytes; try";
        assert!(error.contains(start), "{error}");
        assert!(error.contains("--batch-size 4") && error.contains("--precision f16"), "{error}");
        assert!(!error.contains("main"), "{error}");
        let panicking = |text: &'static str| {
            within(Stage::Pixels, 2, || -> Result<(), DecodeError> { std::panic::panic_any(text) })
        };
        let error = panicking("can't allocate buffer of size: 9").unwrap_err();
        assert!(matches!(error, DecodeError::OutOfMemory { batch_size: 2, .. }), "{error}");
        assert!(std::panic::catch_unwind(|| panicking("index out of bounds")).is_err());
        let error = of(Stage::Pixels, 1, "Out of memory").to_string();
        assert!(error.contains("--vae-tiling on") && !error.contains("--batch-size"), "{error}");
        let error = of(Stage::Pixels, 4, "the device was lost");
        assert!(matches!(error, DecodeError::Device { batch_size: 4, .. }), "{error}");
    }
}
