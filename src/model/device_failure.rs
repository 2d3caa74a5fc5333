//! What went wrong on a device, in words.
//!
//! burn, CubeCL, wgpu and CUDA say it in texts and panics alone. In goes such a text, out comes
//! which kind of failure it is and what to do about it.

/// Kinds of failure that a user can do something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceFailure {
    /// The link to a remote device is gone, or its server.
    LinkDropped,
    /// The device no longer answers: driver reset, unplugged, a fault that the driver keeps.
    Lost,
    OutOfMemory,
    /// The device does not compute in float16.
    NoHalfPrecision,
    /// No kernel suits the device.
    NoKernel,
    /// The graphics driver refused what it was asked.
    Driver,
}

impl DeviceFailure {
    /// All kinds; the first that fits is the cause where a text has several.
    pub const ALL: [Self; 6] = [
        Self::LinkDropped,
        Self::Lost,
        Self::OutOfMemory,
        Self::NoHalfPrecision,
        Self::NoKernel,
        Self::Driver,
    ];

    /// The kind of a text from burn or below it; `None` when it says nothing known.
    pub fn classify(text: &str) -> Option<Self> {
        let text = text.to_lowercase();
        Self::ALL.into_iter().find(|kind| kind.marks().iter().any(|mark| text.contains(mark)))
    }

    /// The line of a text from burn or below it that says so, without the trace behind it.
    pub fn line_in(self, text: &str) -> Option<&str> {
        let says_so = |line: &&str| {
            let line = line.to_lowercase();
            self.marks().iter().any(|mark| line.contains(mark))
        };
        text.lines().find(says_so).map(str::trim)
    }

    /// The kind that a message made by [`explain`] tells of.
    pub fn told_in(message: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| message.contains(kind.what()))
    }

    /// Lower-case pieces of the libraries' texts.
    fn marks(self) -> &'static [&'static str] {
        match self {
            // burn-remote: client/service.rs, client/runner.rs, client/base.rs.
            Self::LinkDropped => &[
                "remote response channel closed",
                "failed to read tensor: recverror",
                "failed to open a remote session",
                "service call failed",
            ],
            // cubecl-runtime server/base.rs; wgpu-core device/mod.rs; wgpu-hal; cubecl-common
            // device/handle; ash vk::Result; CUresult.
            Self::Lost => &[
                "device is poisoned",
                "device was poisoned",
                "device is lost",
                "device runner channel disconnected",
                "the logical device has been lost",
                "cuda_error_illegal_address",
                "cuda_error_launch_failed",
                "cuda_error_ecc_uncorrectable",
            ],
            // cubecl-runtime server/base.rs (IoError, LaunchError); wgpu api/device.rs and wgpu-core
            // device/mod.rs; cubecl-wgpu compute/{stream,mem_manager}.rs.
            Self::OutOfMemory => &[
                "out of device memory",
                "out-of-memory error",
                "out of memory",
                "out_of_memory",
                "outofmemory",
                "a device memory allocation has failed",
                "a host memory allocation has failed",
                "not enough memory left",
                "can't allocate buffer of size",
                "every page size the memory tracks",
                "couldn't map storage",
                "no staging buffer could be allocated",
                "must have enough memory for a uniform",
            ],
            // naga valid/type.rs and front/wgsl/error.rs.
            Self::NoHalfPrecision => {
                &["using `f16` values requires", "`f16` extension is not supported"]
            }
            // cubecl-runtime tune/local.rs.
            Self::NoKernel => {
                &["all autotune operations failed", "should run when selected by autotune"]
            }
            // cubecl-wgpu runtime.rs, backend/*.rs, compute/device_poison.rs; cubecl-runtime
            // server/base.rs.
            Self::Driver => &[
                "wgpu error:",
                "unable to acquire wgpu device",
                "unable to initialize wgpu runtime",
                "unable to request",
                "no adapter available for",
                "a compilation error happened during launch",
                "too many resources were requested during launch",
                "cuda_error_",
            ],
        }
    }

    /// What happened, as the beginning of a sentence.
    pub fn what(self) -> &'static str {
        match self {
            Self::LinkDropped => "the link to the remote device dropped, or haze serve ended there",
            Self::Lost => "the device was lost (driver reset, unplugged or faulted)",
            Self::OutOfMemory => "the device is out of memory",
            Self::NoHalfPrecision => "the device does not compute in float16",
            Self::NoKernel => "no kernel for this computation works on the device",
            Self::Driver => "the graphics driver refused the computation",
        }
    }

    /// What to do about it, as its end.
    pub fn advice(self) -> &'static str {
        match self {
            Self::LinkDropped => {
                "check the network and that haze serve runs there, then start the job again: it \
                 connects anew"
            }
            Self::Lost => {
                "start Haze again; if it comes back, update the graphics driver or use --device cpu"
            }
            Self::OutOfMemory => {
                "use a smaller batch or a smaller image, close other programs that use the GPU, or \
                 use --device cpu"
            }
            Self::NoHalfPrecision => "load the model in float32, or use another device",
            Self::NoKernel | Self::Driver => {
                "update the graphics driver, try another --device (vulkan, cuda), or use --device cpu"
            }
        }
    }
}

/// A text from burn or below it as a clause for people: what happened and what to do, with the
/// library's own words in brackets.
pub fn explain(text: &str) -> String {
    let brief = brief(text);
    match DeviceFailure::classify(text) {
        Some(kind) => format!("{}; {} ({brief})", kind.what(), kind.advice()),
        None => format!("{brief}; try a smaller batch, or --device cpu"),
    }
}

/// Characters of a library's text that are shown.
const SHOWN: usize = 200;

/// The innermost cause of a nested text, without its backtrace, on one line.
fn brief(text: &str) -> String {
    let cause = text.rsplit("Caused by:").next().unwrap_or(text);
    let lines = cause.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.clone().next().unwrap_or("no reason given");
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}\u{2026}", &line[..at]),
        None => line.trim_end_matches(['.', ';']).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DeviceFailure::*;

    #[test]
    fn the_texts_of_the_libraries_are_known_for_what_they_are() {
        for (text, kind) in [
            ("Remote response channel closed before dtype_usage completed", LinkDropped),
            ("Remote response channel closed before sync completed", LinkDropped),
            (
                "An error happened during execution\nCaused by:\n  Failed to read tensor: \
                 RecvError(())",
                LinkDropped,
            ),
            (
                "Failed to open a remote session at ws://gpu:7420: the server cannot be reached: \
                 nothing answered after trying for 15.75s",
                LinkDropped,
            ),
            (
                "Service call failed: CallError(device runner channel disconnected before \
                 producing a result)",
                LinkDropped,
            ),
            ("The device is poisoned\nCaused by:\n  Unknown: Device is lost", Lost),
            ("The device was poisoned during launch\nCaused by:\n  DriverError(..)", Lost),
            ("device runner channel disconnected before producing a result", Lost),
            ("wgpu error: Validation Error\n\nCaused by:\n  Parent device is lost\n", Lost),
            ("CUDA allocation error: DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"..\")", Lost),
            ("out of device memory allocating 1073741824 bytes\n   0: backtrace", OutOfMemory),
            ("wgpu error: Out of Memory", OutOfMemory),
            ("wgpu error: Validation Error\n\nCaused by:\n  Not enough memory left.", OutOfMemory),
            ("can't allocate buffer of size: 5368709120\n", OutOfMemory),
            (
                "An out-of-memory error happened during launch\nCaused by:\n  pool\nBacktrace\n",
                OutOfMemory,
            ),
            (
                "couldn't map storage for a deferred allocation of 64 bytes\nCaused by:\n  ..",
                OutOfMemory,
            ),
            (
                "wgpu error: Validation Error\n\nCaused by:\n  Using `f16` values requires the \
                 `naga::valid::Capabilities::FLOAT16` flag",
                NoHalfPrecision,
            ),
            ("the `f16` extension is not supported in the current environment", NoHalfPrecision),
            ("All autotune operations failed, no viable operation found.", NoKernel),
            ("wgpu error: Validation Error\n\nCaused by:\n  In Device::create_bind_group", Driver),
            (
                "Unable to acquire wgpu device: AdapterUnavailable { device: .., message: .. }",
                Driver,
            ),
            ("A compilation error happened during launch\nCaused by:\n  ..", Driver),
        ] {
            assert_eq!(DeviceFailure::classify(text), Some(kind), "{text}");
            let message = explain(text);
            assert_eq!(DeviceFailure::told_in(&message), Some(kind), "{message}");
            assert!(message.contains(kind.advice()) && !message.contains('\n'), "{message}");
        }
        for text in ["index out of bounds: the len is 3", "assertion failed", ""] {
            assert_eq!(DeviceFailure::classify(text), None, "{text}");
            assert_eq!(DeviceFailure::told_in(&explain(text)), None);
        }
    }

    #[test]
    fn the_innermost_cause_is_shown_on_one_line_and_cut() {
        let nested =
            "An error happened\nCaused by:\n  A launch error\nCaused by:\n  the root.\n  0: x";
        assert_eq!(brief(nested), "the root");
        assert_eq!(brief("  \n"), "no reason given");
        let long = brief(&"\u{e4}".repeat(500));
        assert_eq!(long.chars().count(), SHOWN + 1);
    }
}
