//! Deterministic maps from one modality's embeddings to the other's.
use crate::adapter::AdapterError;
use crate::adapter::training::TrainingData;
use std::path::Path;
#[derive(Clone, Copy)]
pub enum BridgeKind {
    LinearMap,
    MeanShift,
}
#[derive(Debug)]
pub struct Bridge {}
impl Bridge {
    pub fn load(_: &Path) -> Result<Self, AdapterError> {
        Ok(Self {})
    }
    pub fn fit(
        _: BridgeKind,
        _: &TrainingData<'_>,
        _: &TrainingData<'_>,
    ) -> Result<Self, AdapterError> {
        Ok(Self {})
    }
    pub fn with_encoder(self, _: String) -> Self {
        self
    }
    pub fn save(&self, _: &Path) -> Result<(), AdapterError> {
        Ok(())
    }
    pub fn apply(&self, v: &[f32]) -> Result<Vec<f32>, AdapterError> {
        Ok(v.to_vec())
    }
    pub fn dim(&self) -> usize {
        0
    }
}
