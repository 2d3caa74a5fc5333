//! Pairs of rows that a pairwise run learns from.

use crate::adapter::training::{Rows, TrainingError};

/// Raw image and text embeddings, and which of them belong together. An image may be in many
/// pairs: one for each of its captions.
#[derive(Debug, Clone)]
pub struct PairRows<'a> {
    pub(super) images: Rows<'a>,
    pub(super) texts: Rows<'a>,
    /// (text row, image row).
    pub(super) pairs: Vec<(usize, usize)>,
}

impl<'a> PairRows<'a> {
    /// `pairs` are (text row, image row).
    ///
    /// # Errors
    /// When there is no pair, a pair names a row that is not there, or the dimensions differ.
    pub fn new(
        images: Rows<'a>,
        texts: Rows<'a>,
        pairs: Vec<(usize, usize)>,
    ) -> Result<Self, TrainingError> {
        if pairs.is_empty() {
            return Err(TrainingError::Data("there are no pairs to learn from".to_owned()));
        }
        if images.dim() != texts.dim() {
            return Err(TrainingError::Data(format!(
                "images have {} dimensions, texts {}; both must come from one encoder",
                images.dim(),
                texts.dim()
            )));
        }
        let missing =
            pairs.iter().find(|(text, image)| *text >= texts.len() || *image >= images.len());
        if let Some((text, image)) = missing {
            return Err(TrainingError::Data(format!(
                "a pair names text row {text} and image row {image}, there are {} texts and {} images",
                texts.len(),
                images.len()
            )));
        }
        Ok(Self { images, texts, pairs })
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Never true: data without pairs cannot be made.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Number of dimensions D.
    pub fn dim(&self) -> usize {
        self.images.dim()
    }
}
