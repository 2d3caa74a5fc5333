//! The Hugging Face hub: model names, the shared cache folder, downloads into it.
//!
//! In comes a name such as `openai/clip-vit-large-patch14@main`, out comes a folder that holds the
//! files of one commit. The cache is the one of `huggingface_hub`, read and written in its own
//! layout, so that a model which transformers or diffusers downloaded is found, and the other way
//! round. Requests are made by the `hf-hub` crate; resuming, checksums and the choice of files are
//! ours. Nothing here knows what a model is loaded for.
//!
//! | file | holds |
//! | --- | --- |
//! | `name` | `owner/name[/folder][@revision]` |
//! | `place` | cache folder, endpoint, token and offline mode, from the environment |
//! | `cache` | which commits lie in the cache, and where |
//! | `selection` | which files of a repository Haze needs |
//! | `client` | requests, repeated where that can help |
//! | `plan` | what a pull would do: files, sizes, licence, free disk |
//! | `download` | files into the cache: resumed, checked, placed whole |
//! | `contents` | what a model folder can be used for |

pub mod cache;
mod checksum;
mod client;
pub mod contents;
mod download;
mod error;
pub mod name;
pub mod place;
pub mod plan;
pub mod selection;

pub use cache::HubCache;
pub use client::Connection;
pub use download::download;
pub use error::HubError;
pub use name::HubName;
pub use place::HubPlace;
pub use plan::{PullPlan, PullRequest};

use std::ops::ControlFlow;
use std::time::Duration;

/// What a pull says while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum PullEvent<'a> {
    /// A file begins; `have` of its `bytes` are here from an earlier, interrupted pull.
    File { path: &'a str, bytes: u64, have: u64 },
    /// Bytes of the whole pull: done so far, and in all.
    Bytes { done: u64, total: u64 },
    /// Nothing happens for a while, and why.
    Waiting { why: &'a str, pause: Duration },
    /// Sent several times a second while a request is under way, so that it can be cancelled.
    Tick,
}

/// Receives the events of a pull; `Break` cancels it.
pub type Tell<'a> = dyn FnMut(PullEvent<'_>) -> ControlFlow<()> + 'a;

/// Tells an event; an answer of `Break` is the error that ends the pull.
fn tell_or_stop(tell: &mut Tell<'_>, event: PullEvent<'_>) -> Result<(), HubError> {
    match tell(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(HubError::Cancelled),
    }
}
