//! A gallery in two dimensions: principal components of its unit embeddings, onto which queries
//! and samples are projected exactly.

/// A gallery's map.
#[derive(Debug, Clone)]
pub struct GalleryMap {
    /// Hash of the gallery.
    pub gallery_hash: String,
    /// `[N]` position of every item.
    pub positions: Vec<[f32; 2]>,
    /// `[D]` mean of the unit embeddings.
    pub centre: Vec<f32>,
    /// Two unit directions `[D]`.
    pub components: [Vec<f32>; 2],
    /// Share of the variance that each component explains, 0 to 1.
    pub explained: [f64; 2],
}

impl GalleryMap {
    /// Position of an embedding `[D]`, which is normalised first.
    pub fn project(&self, embedding: &[f32]) -> [f32; 2] {
        let norm = crate::encoder::norm(embedding).max(f64::MIN_POSITIVE);
        self.components.each_ref().map(|component| {
            let terms = embedding.iter().zip(&self.centre).zip(component);
            terms
                .map(|((&x, &c), &w)| (f64::from(x) / norm - f64::from(c)) * f64::from(w))
                .sum::<f64>() as f32
        })
    }
}
