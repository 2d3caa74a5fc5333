//! Which rows of a store have a given caption.
//!
//! In go a store's captions, once; out come the rows that may have a caption equal to a text. Only
//! hashes are kept, so a row found here is a candidate until its caption was compared.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{EmbeddingStore, GalleryError};

/// Captions indexed at most: 16 bytes each, so at most 64 MiB.
const MAX_CAPTIONS: usize = 4 << 20;

/// Hashes of captions and the rows that have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptionIndex {
    /// Sorted; one entry per caption.
    entries: Vec<(u64, usize)>,
}

impl CaptionIndex {
    /// Reads all captions of a store. `None` where it has none, or more than can be held.
    ///
    /// # Errors
    /// When the store's table is damaged.
    pub fn of(store: &EmbeddingStore) -> Result<Option<Self>, GalleryError> {
        if store.len() > MAX_CAPTIONS {
            return Ok(None);
        }
        let mut entries = Vec::new();
        let (mut row, mut too_many) = (0, false);
        store.for_each_metadata(|item| {
            too_many |= entries.len() + item.captions.len() > MAX_CAPTIONS;
            if !too_many {
                entries.extend(item.captions.iter().map(|caption| (hash(&caption.text), row)));
            }
            row += 1;
            Ok(())
        })?;
        Ok(if too_many { None } else { Self::new(entries) })
    }

    fn new(mut entries: Vec<(u64, usize)>) -> Option<Self> {
        entries.sort_unstable();
        entries.dedup();
        (!entries.is_empty()).then_some(Self { entries })
    }

    /// Rows, ascending, that may have a caption equal to `text`, see [`same_caption`]. All that
    /// have one are among them.
    pub fn candidates(&self, text: &str) -> impl Iterator<Item = usize> + '_ {
        let wanted = hash(text);
        let first = self.entries.partition_point(|entry| entry.0 < wanted);
        self.entries[first..].iter().take_while(move |entry| entry.0 == wanted).map(|entry| entry.1)
    }
}

/// Whether two captions are the same text, apart from case and white space at the ends.
pub fn same_caption(a: &str, b: &str) -> bool {
    normal(a).eq(normal(b))
}

fn normal(text: &str) -> impl Iterator<Item = char> + '_ {
    text.trim().chars().flat_map(char::to_lowercase)
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    normal(text).for_each(|letter| letter.hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(captions: &[(usize, &str)]) -> Option<CaptionIndex> {
        CaptionIndex::new(captions.iter().map(|&(row, text)| (hash(text), row)).collect())
    }

    #[test]
    fn a_caption_is_found_whatever_its_case_and_outer_white_space() {
        let index =
            index(&[(4, "A red apple"), (2, " a Red apple\n"), (3, "a pear"), (2, "a red apple")]);
        let rows: Vec<usize> = index.unwrap().candidates("a RED apple ").collect();
        assert_eq!(rows, [2, 4]);
        assert!(same_caption("Äpfel ", "äpfel") && !same_caption("a red apple", "a red  apple"));
    }

    #[test]
    fn a_text_that_is_no_caption_has_no_rows_and_no_captions_make_no_index() {
        assert_eq!(index(&[(0, "a pear")]).unwrap().candidates("a plum").count(), 0);
        assert!(index(&[]).is_none());
    }
}
