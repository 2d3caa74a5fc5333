//! Haze shows what a vision-language model is unsure about.
//!
//! A query (text or image) is embedded by a frozen encoder; a probabilistic adapter predicts the
//! *distribution* of that embedding; samples of it are decoded to images by an unCLIP pipeline and
//! ranked against a gallery. Data flows one way, and each module knows only the types of the one
//! before it:
//!
//! ```text
//! query ─► encoder ─► adapter ─► distribution ─► samples ─┬─► decoder ─► images ─┐
//!                                                         ├─► gallery ─► ranks  ─┼─► session ─► cli, export
//!                                                         └─► statistics ────────┘
//! ```

pub mod adapter;
pub mod app;
pub mod archive;
pub mod cli;
pub mod decoder;
pub mod distribution;
pub mod encoder;
pub mod evaluation;
pub mod experiment;
pub mod export;
pub mod files;
pub mod gallery;
pub mod model;
mod panics;
pub mod query;
pub mod random;
pub mod session;
pub mod verify;
