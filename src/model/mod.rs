//! Model files: where weights and configs are read from, and which device they run on.

pub mod bare_tensor;
pub mod config;
pub mod device;
pub mod inspect;
pub mod weights;
