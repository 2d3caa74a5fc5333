//! Noise augmentation of image embeddings: the condition that an unCLIP network was trained on.
//!
//! An embedding is whitened by the training set's statistics, noised like a diffusion sample at
//! `noise_level`, and followed by a sinusoidal code of that level (diffusers,
//! `StableUnCLIPImg2ImgPipeline.noise_image_embeddings`).

use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::DecodeError;
use super::scheduler::{NoiseTable, SchedulerConfig, SchedulerKind};
use crate::model::checkpoint;
use crate::model::precision::Precision;

/// Slowest wavelength of the level's code, in units of 2 pi levels.
const MAX_PERIOD: f64 = 10_000.0;

/// Mean and standard deviation of the image embeddings that the decoder was trained on.
#[derive(Debug, Clone)]
pub struct ImageNormalizer {
    /// `[1, D]`
    mean: Tensor<2>,
    /// `[1, D]`, above 0
    std: Tensor<2>,
}

impl ImageNormalizer {
    /// Reads a diffusers `image_normalizer/` folder, whose tensors `mean` and `std` are `[1, D]`.
    ///
    /// # Errors
    /// When the file is missing, the two tensors differ in shape, or a deviation is not above 0.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, DecodeError> {
        let weights = checkpoint::open(folder, checkpoint::DIFFUSERS, Precision::F32)?;
        let mean: Tensor<2> = weights.tensor("mean", device)?;
        let std: Tensor<2> = weights.tensor("std", device)?;
        let (found, expected) = (std.dims(), mean.dims());
        if expected[0] != 1 || found != expected {
            return Err(DecodeError::folder(
                folder,
                format!("mean has shape {expected:?} and std {found:?}, expected [1, D] for both"),
            ));
        }
        let values = std.to_data();
        if let Some(at) = values.iter::<f32>().position(|v| v <= 0.0) {
            return Err(DecodeError::folder(
                folder,
                format!("std of dimension {at} is not above 0"),
            ));
        }
        Ok(Self { mean, std })
    }

    /// Dimension D of the embeddings.
    pub fn dim(&self) -> usize {
        self.mean.dims()[1]
    }

    /// (embeddings - mean) / std, `[B, D]`.
    pub fn normalize(&self, embeddings: Tensor<2>) -> Tensor<2> {
        (embeddings - self.mean.clone()) / self.std.clone()
    }

    /// normalized * std + mean, `[B, D]`.
    pub fn denormalize(&self, normalized: Tensor<2>) -> Tensor<2> {
        normalized * self.std.clone() + self.mean.clone()
    }
}

/// Dimension of the embeddings that the pipeline in that folder decodes, without loading it.
///
/// # Errors
/// When its `image_normalizer/` is missing or has no mean.
pub fn embedding_dim(pipeline: &Path) -> Result<usize, DecodeError> {
    let folder = pipeline.join("image_normalizer");
    let weights = checkpoint::open(&folder, checkpoint::DIFFUSERS, Precision::F32)?;
    match weights.shape("mean").as_deref() {
        Some([1, dim]) => Ok(*dim),
        found => Err(DecodeError::folder(
            &folder,
            format!("mean has shape {:?}, expected [1, D]", found.unwrap_or_default()),
        )),
    }
}

/// Turns image embeddings into the class vectors that the UNet is conditioned on.
#[derive(Debug, Clone)]
pub struct ImageNoiser {
    normalizer: ImageNormalizer,
    table: NoiseTable,
}

impl ImageNoiser {
    /// Reads the folders `image_normalizer/` and `image_noising_scheduler/` of a pipeline.
    ///
    /// # Errors
    /// When either is missing or unusable.
    pub fn load(pipeline: &Path, device: &Device) -> Result<Self, DecodeError> {
        let normalizer = ImageNormalizer::load(&pipeline.join("image_normalizer"), device)?;
        let config = SchedulerConfig::read(&pipeline.join("image_noising_scheduler"))?;
        // Only the noise schedule matters, which every algorithm reads alike.
        let table = config.noise_table(SchedulerKind::Ddpm)?;
        Ok(Self { normalizer, table })
    }

    /// Dimension D of the embeddings; class vectors have 2 D.
    pub fn dim(&self) -> usize {
        self.normalizer.dim()
    }

    /// Number of noise levels; valid ones are 0 up to this, exclusive.
    pub fn levels(&self) -> usize {
        self.table.len()
    }

    /// Class vectors `[B, 2 D]` of `embeddings` `[B, D]`: the embedding noised to `noise_level`
    /// with standard normal `noise` `[B, D]`, then the code of the level. Level 0 still adds a
    /// little noise.
    ///
    /// # Errors
    /// When the level is out of range, or the tensors do not have D columns and equal shapes.
    pub fn noise_image_embeddings(
        &self,
        embeddings: Tensor<2>,
        noise_level: usize,
        noise: Tensor<2>,
    ) -> Result<Tensor<2>, DecodeError> {
        if noise_level >= self.levels() {
            return Err(DecodeError::NoiseLevel { found: noise_level, levels: self.levels() });
        }
        let [batch, found] = embeddings.dims();
        if found != self.dim() {
            return Err(DecodeError::EmbeddingDim { found, expected: self.dim() });
        }
        if noise.dims() != embeddings.dims() {
            return Err(DecodeError::NoiseShape {
                found: noise.dims().to_vec(),
                expected: embeddings.dims().to_vec(),
            });
        }
        let device = embeddings.device();
        let normalized = self.normalizer.normalize(embeddings);
        let noised = self.table.add_noise(normalized, noise, noise_level);
        let code = TensorData::new(level_code(noise_level, self.dim()), [1, self.dim()]);
        let code = Tensor::<2>::from_data(code, (&device, DType::F32)).repeat_dim(0, batch);
        Ok(Tensor::cat(vec![self.normalizer.denormalize(noised), code], 1))
    }
}

/// Sinusoidal code of a noise level (arXiv 1706.03762, section 3.5): cosines, then sines, `[dim]`.
fn level_code(level: usize, dim: usize) -> Vec<f32> {
    let half = dim / 2;
    let angle = |k: usize| level as f64 * MAX_PERIOD.powf(-(k as f64) / half as f64);
    let mut code: Vec<f32> = (0..half).map(|k| angle(k).cos() as f32).collect();
    code.extend((0..half).map(|k| angle(k).sin() as f32));
    code.resize(dim, 0.0);
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::ComputeDevice;
    use safetensors::tensor::{Dtype, TensorView};

    fn normalizer(mean: &[f32], std: &[f32]) -> Result<ImageNormalizer, DecodeError> {
        let folder = tempfile::tempdir().unwrap();
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let (mean_bytes, std_bytes): (Vec<u8>, Vec<u8>) = (bytes(mean), bytes(std));
        let view = |len, bytes| TensorView::new(Dtype::F32, vec![1, len], bytes).unwrap();
        let tensors =
            [("mean", view(mean.len(), &mean_bytes)), ("std", view(std.len(), &std_bytes))];
        let path = folder.path().join("diffusion_pytorch_model.safetensors");
        safetensors::serialize_to_file(tensors, None, &path).unwrap();
        ImageNormalizer::load(folder.path(), &ComputeDevice::cpu().device)
    }

    #[test]
    fn statistics_that_cannot_be_undone_are_refused() {
        let error = normalizer(&[0.5, 0.5], &[1.0, 0.0]).unwrap_err().to_string();
        assert!(error.contains("std of dimension 1"), "{error}");
        let error = normalizer(&[0.5], &[1.0, 1.0]).unwrap_err().to_string();
        assert!(error.contains("[1, 2]") && error.contains("[1, 1]"), "{error}");
        assert_eq!(normalizer(&[0.5, 0.5], &[1.0, 2.0]).unwrap().dim(), 2);
    }

    #[test]
    fn the_level_code_is_cosines_then_sines_and_padded_when_odd() {
        assert_eq!(level_code(0, 5), [1.0, 1.0, 0.0, 0.0, 0.0]);
        let code = level_code(3, 4);
        assert!((code[0] - 3f32.cos()).abs() < 1e-6);
        assert!((code[1] - 0.03f32.cos()).abs() < 1e-6);
        assert!((code[2] - 3f32.sin()).abs() < 1e-6);
        assert!((code[3] - 0.03f32.sin()).abs() < 1e-6);
    }
}
