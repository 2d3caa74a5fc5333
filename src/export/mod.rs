//! Results as files: the sheet with its recipe inside, single tiles, tables and arrays.
//!
//! Knows the result of a session and nothing of how it was computed.

pub mod arrays;
pub mod canvas;
pub mod figures;
pub mod folder;
pub mod metadata;
pub mod replay;
pub mod report;
pub mod sheet;
pub mod tables;
