//! Model files: where weights and configs are read from, and which device they run on.

pub mod bare_tensor;
pub mod checkpoint;
pub mod config;
pub mod device;
pub mod device_failure;
pub mod hub;
pub mod inspect;
pub mod precision;
pub mod remote;
pub mod weights;
