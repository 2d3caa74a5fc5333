//! Model cards: what an encoder folder is and predicts, and which decoders its image space fits.
//!
//! In: model folders. Out: facts from their configs and a few small tensors; no model is loaded.

mod encoder;
mod space;

pub use encoder::EncoderCard;
pub use space::{DecoderCard, Fit, KnownSpace, fit};
