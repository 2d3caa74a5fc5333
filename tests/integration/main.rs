//! What a user does, from outside: the program as a process, and the library on the demo bundle.

mod active;
mod bad_input;
mod caches;
mod datasets;
mod demo_models;
mod encoders;
mod evaluation;
mod golden_cases;
mod hub;
mod interrupts;
mod main_job;
mod plausible;
mod prompt_embeddings;
mod remote;
mod routes;
mod support;
mod training;
#[cfg(target_os = "linux")]
mod training_memory;
mod weights_memory;
mod window;
