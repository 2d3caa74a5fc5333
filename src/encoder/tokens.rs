//! Checked token ids on a device.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::EncoderError;
use super::tokenizer::TokenIds;

/// The first `length` ids of each text, `[B, length]`.
///
/// # Errors
/// When there are no texts, they are longer than `limit`, or an id is `vocab_size` or more: a GPU
/// does not check indices.
pub fn token_ids(
    tokens: &TokenIds,
    length: usize,
    limit: usize,
    vocab_size: usize,
    device: &Device,
) -> Result<Tensor<2, Int>, EncoderError> {
    if tokens.batch() == 0 {
        return Err(EncoderError::EmptyBatch);
    }
    if tokens.length() > limit {
        return Err(EncoderError::TextLength { found: tokens.length(), limit });
    }
    let mut ids = Vec::with_capacity(tokens.batch() * length);
    for (text, row) in tokens.rows().enumerate() {
        if let Some(position) = row.iter().position(|&id| id as usize >= vocab_size) {
            let id = row[position];
            return Err(EncoderError::TokenOutOfVocabulary { text, position, id, vocab_size });
        }
        ids.extend(row[..length].iter().map(|&id| id as i32));
    }
    Ok(Tensor::from_data(TensorData::new(ids, [tokens.batch(), length]), device))
}
