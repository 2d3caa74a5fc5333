//! What a user does, from outside: the program as a process, and the library on the demo bundle.

mod active;
mod bad_input;
mod caches;
mod datasets;
mod demo_models;
mod evaluation;
mod golden_cases;
mod interrupts;
mod main_job;
mod support;
mod training;
mod window;
