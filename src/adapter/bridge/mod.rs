//! Deterministic maps from one modality's embeddings to the other's.
