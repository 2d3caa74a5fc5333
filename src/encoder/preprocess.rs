//! From pixels to what a vision tower takes: resize, centre crop, rescale, normalise, as the
//! image processors of transformers do (`CLIPImageProcessor`, `BlipImageProcessor`,
//! `SiglipImageProcessor`), driven by `preprocessor_config.json`.

use std::ops::Range;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use image::{RgbImage, imageops};
use rayon::prelude::*;
use serde_json::Value;

use super::resample::{Filter, resize_window};
use crate::model::config::{ConfigError, read_json};

/// Where a model folder describes its preprocessing.
pub const FILE_NAME: &str = "preprocessor_config.json";
/// Largest side that a config may ask for, in pixels.
const SIDE_LIMIT: u64 = 4096;
/// Most pixels that one preprocessed image may have.
const OUTPUT_LIMIT: u64 = 1 << 26;

const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];
const HALF: [f64; 3] = [0.5; 3];

/// Why an image could not be preprocessed.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessError {
    #[error("an image without pixels cannot be embedded")]
    Empty,
    #[error(
        "an image of {width} x {height} pixels would become {new_width} x {new_height}, which is \
         too large; crop it to a less extreme shape"
    )]
    TooLarge { width: u32, height: u32, new_width: u64, new_height: u64 },
    #[error(
        "image {index} becomes {found:?} (height, width) and the first one {expected:?}; \
         this processor keeps the shape, so only images of one shape go into a batch"
    )]
    Uneven { index: usize, found: (u32, u32), expected: (u32, u32) },
}

/// Turns images into pixel values.
#[derive(Debug, Clone, PartialEq)]
pub struct ImagePreprocessor {
    resize: Option<TargetSize>,
    filter: Filter,
    crop: Option<Size>,
    /// What each 8-bit level of each channel becomes.
    levels: Vec<[f32; 256]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    height: u32,
    width: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TargetSize {
    /// The shorter side gets this length and the shape is kept.
    ShortestEdge(u32),
    Exact(Size),
}

impl ImagePreprocessor {
    /// Reads `preprocessor_config.json` of `folder`. Keys that are not there take the defaults of
    /// the processor class that the file names (`CLIPImageProcessor` if it names none).
    ///
    /// # Errors
    /// When the file is missing or malformed, names an unknown processor or filter, or asks for a
    /// size that is zero or above 4096 pixels.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join(FILE_NAME);
        let json: Value = read_json(&path)?;
        Reader { path: &path, json: &json }.read()
    }

    /// OpenAI's processing for images of `side` x `side` pixels: `CLIPImageProcessor` with that size,
    /// which is also that of open_clip's models by default.
    pub fn clip(side: usize) -> Self {
        let side = side as u32;
        Self {
            resize: Some(TargetSize::ShortestEdge(side)),
            filter: Filter::Bicubic,
            crop: Some(Size { height: side, width: side }),
            levels: (0..3).map(|c| level_table(1.0 / 255.0, CLIP_MEAN[c], CLIP_STD[c])).collect(),
        }
    }

    /// Size of every output as (height, width), or `None` when it depends on the image.
    pub fn output_size(&self) -> Option<(usize, usize)> {
        let size = match (self.crop, self.resize) {
            (Some(crop), _) => crop,
            (None, Some(TargetSize::Exact(size))) => size,
            (None, _) => return None,
        };
        Some((size.height as usize, size.width as usize))
    }

    /// The resized and cropped image, before any arithmetic on its values. Where the crop is
    /// larger than the resized image, black is added around it.
    ///
    /// # Errors
    /// When the image has no pixels, or a shape so extreme that the result would be too large.
    pub fn resize_and_crop(&self, image: &RgbImage) -> Result<RgbImage, PreprocessError> {
        let (new_width, new_height) = self.resized(image)?;
        let (x, left) = crop_axis(new_width, self.crop.map(|c| c.width));
        let (y, top) = crop_axis(new_height, self.crop.map(|c| c.height));
        let window = resize_window(image, (new_width, new_height), self.filter, x, y);
        let Some(Size { height, width }) = self.crop else { return Ok(window) };
        if window.dimensions() == (width, height) {
            return Ok(window);
        }
        let mut padded = RgbImage::new(width, height);
        imageops::replace(&mut padded, &window, left.into(), top.into());
        Ok(padded)
    }

    /// Pixel values of one image, `[3, H, W]` in row-major order.
    ///
    /// # Errors
    /// As [`Self::resize_and_crop`].
    pub fn pixel_values(&self, image: &RgbImage) -> Result<Vec<f32>, PreprocessError> {
        let resized = self.resize_and_crop(image)?;
        let mut values = vec![0.0; resized.as_raw().len()];
        self.normalise(&resized, &mut values);
        Ok(values)
    }

    /// Pixel values of a batch, `[B, 3, H, W]` in float32.
    ///
    /// # Errors
    /// As [`Self::resize_and_crop`], and when the images come out in different sizes.
    pub fn batch(
        &self,
        images: &[RgbImage],
        device: &Device,
    ) -> Result<Tensor<4>, PreprocessError> {
        let resized: Vec<RgbImage> =
            images.par_iter().map(|image| self.resize_and_crop(image)).collect::<Result<_, _>>()?;
        let (width, height) = resized.first().map_or((0, 0), RgbImage::dimensions);
        let shape = [images.len(), 3, height as usize, width as usize];
        let mut values = vec![0.0; shape.iter().product()];
        let each = values.len() / images.len().max(1);
        for (index, image) in resized.iter().enumerate() {
            if image.dimensions() != (width, height) {
                let found = (image.height(), image.width());
                return Err(PreprocessError::Uneven { index, found, expected: (height, width) });
            }
            self.normalise(image, &mut values[index * each..][..each]);
        }
        Ok(Tensor::from_data(TensorData::new(values, shape), (device, DType::F32)))
    }

    /// Fills `values` `[3, H, W]`.
    fn normalise(&self, image: &RgbImage, values: &mut [f32]) {
        let pixels = image.as_raw().as_chunks::<3>().0;
        for (channel, (values, levels)) in
            values.chunks_exact_mut(pixels.len().max(1)).zip(&self.levels).enumerate()
        {
            for (value, pixel) in values.iter_mut().zip(pixels) {
                *value = levels[usize::from(pixel[channel])];
            }
        }
    }

    /// Width and height after resizing (`get_resize_output_image_size` of transformers: the longer
    /// side is truncated).
    fn resized(&self, image: &RgbImage) -> Result<(u32, u32), PreprocessError> {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return Err(PreprocessError::Empty);
        }
        let (new_width, new_height) = match self.resize {
            None => (u64::from(width), u64::from(height)),
            Some(TargetSize::Exact(size)) => (size.width.into(), size.height.into()),
            Some(TargetSize::ShortestEdge(edge)) => {
                let long =
                    |long: u32, short: u32| u64::from(edge) * u64::from(long) / u64::from(short);
                if width <= height {
                    (edge.into(), long(height, width))
                } else {
                    (long(width, height), edge.into())
                }
            }
        };
        let out_width = self.crop.map_or(new_width, |c| new_width.min(c.width.into()));
        let out_height = self.crop.map_or(new_height, |c| new_height.min(c.height.into()));
        let error = PreprocessError::TooLarge { width, height, new_width, new_height };
        match (u32::try_from(new_width), u32::try_from(new_height)) {
            (Ok(w), Ok(h)) if out_width.saturating_mul(out_height) <= OUTPUT_LIMIT => Ok((w, h)),
            _ => Err(error),
        }
    }
}

/// Which of `length` pixels a centre crop keeps, and where they start in the result.
fn crop_axis(length: u32, crop: Option<u32>) -> (Range<u32>, u32) {
    match crop {
        None => (0..length, 0),
        Some(crop) if crop <= length => {
            let start = (length - crop) / 2;
            (start..start + crop, 0)
        }
        Some(crop) => (0..length, (crop - length).div_ceil(2)),
    }
}

/// What a processor class does where its config is silent.
struct Defaults {
    size: TargetSize,
    /// A bare number as `size` is the shortest edge, not a square.
    number_is_edge: bool,
    crop: Option<Size>,
    mean: [f64; 3],
    std: [f64; 3],
}

impl Defaults {
    fn of(class: &str) -> Option<Self> {
        let square = |side| Size { height: side, width: side };
        Some(match class.trim_end_matches("Fast").trim_end_matches("Pil") {
            "CLIPImageProcessor" | "CLIPFeatureExtractor" => Self {
                size: TargetSize::ShortestEdge(224),
                number_is_edge: true,
                crop: Some(square(224)),
                mean: CLIP_MEAN,
                std: CLIP_STD,
            },
            "BlipImageProcessor" => Self {
                size: TargetSize::Exact(square(384)),
                number_is_edge: false,
                crop: None,
                mean: CLIP_MEAN,
                std: CLIP_STD,
            },
            "SiglipImageProcessor" => Self {
                size: TargetSize::Exact(square(224)),
                number_is_edge: false,
                crop: None,
                mean: HALF,
                std: HALF,
            },
            _ => return None,
        })
    }
}

struct Reader<'a> {
    path: &'a Path,
    json: &'a Value,
}

impl Reader<'_> {
    fn read(&self) -> Result<ImagePreprocessor, ConfigError> {
        let class = ["image_processor_type", "feature_extractor_type"]
            .into_iter()
            .find_map(|key| self.json[key].as_str())
            .unwrap_or("CLIPImageProcessor");
        let defaults = Defaults::of(class).ok_or_else(|| {
            let known = "CLIPImageProcessor, BlipImageProcessor or SiglipImageProcessor";
            self.error("image_processor_type", class, known)
        })?;
        let resize = match self.flag("do_resize", true)? {
            true => Some(self.target_size(&defaults)?),
            false => None,
        };
        let crop = match self.flag("do_center_crop", defaults.crop.is_some())? {
            true => Some(self.crop_size(&defaults)?),
            false => None,
        };
        let filter = match &self.json["resample"] {
            Value::Null => Filter::Bicubic,
            code => match code.as_u64() {
                Some(2) => Filter::Bilinear,
                Some(3) => Filter::Bicubic,
                _ => return Err(self.error("resample", code, "2 (bilinear) or 3 (bicubic)")),
            },
        };
        let factor = match self.flag("do_rescale", true)? {
            true => self.number("rescale_factor", 1.0 / 255.0)?,
            false => 1.0,
        };
        let (mean, std) = match self.flag("do_normalize", true)? {
            true => (
                self.channels("image_mean", defaults.mean)?,
                self.channels("image_std", defaults.std)?,
            ),
            false => ([0.0; 3], [1.0; 3]),
        };
        if let Some(zero) = std.iter().find(|&&s| s <= 0.0) {
            return Err(self.error("image_std", zero, "numbers above 0"));
        }
        let levels = mean.iter().zip(std).map(|(&m, s)| level_table(factor, m, s)).collect();
        Ok(ImagePreprocessor { resize, filter, crop, levels })
    }

    fn target_size(&self, defaults: &Defaults) -> Result<TargetSize, ConfigError> {
        match &self.json["size"] {
            Value::Null => Ok(defaults.size),
            Value::Object(size) if size.contains_key("shortest_edge") => {
                if size.get("longest_edge").is_some_and(|v| !v.is_null()) {
                    return Err(self.error("size", &self.json["size"], "no longest_edge"));
                }
                Ok(TargetSize::ShortestEdge(self.side("size", &size["shortest_edge"])?))
            }
            Value::Object(_) => Ok(TargetSize::Exact(self.size("size")?)),
            number if defaults.number_is_edge => {
                Ok(TargetSize::ShortestEdge(self.side("size", number)?))
            }
            _ => Ok(TargetSize::Exact(self.size("size")?)),
        }
    }

    fn crop_size(&self, defaults: &Defaults) -> Result<Size, ConfigError> {
        match (&self.json["crop_size"], defaults.crop) {
            (Value::Null, Some(size)) => Ok(size),
            _ => self.size("crop_size"),
        }
    }

    /// `{height, width}`, or one number for both.
    fn size(&self, key: &str) -> Result<Size, ConfigError> {
        let value = &self.json[key];
        if value.is_object() {
            let height = self.side(key, &value["height"])?;
            return Ok(Size { height, width: self.side(key, &value["width"])? });
        }
        let side = self.side(key, value)?;
        Ok(Size { height: side, width: side })
    }

    fn side(&self, key: &str, value: &Value) -> Result<u32, ConfigError> {
        match value.as_u64() {
            Some(side @ 1..=SIDE_LIMIT) => Ok(side as u32),
            _ => {
                Err(self.error(key, &self.json[key], format!("sides of 1 to {SIDE_LIMIT} pixels")))
            }
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match &self.json[key] {
            Value::Null => Ok(default),
            Value::Bool(flag) => Ok(*flag),
            other => Err(self.error(key, other, "true or false")),
        }
    }

    fn number(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        match &self.json[key] {
            Value::Null => Ok(default),
            value => value.as_f64().ok_or_else(|| self.error(key, value, "a number")),
        }
    }

    fn channels(&self, key: &str, default: [f64; 3]) -> Result<[f64; 3], ConfigError> {
        let value = &self.json[key];
        if value.is_null() {
            return Ok(default);
        }
        let numbers: Option<Vec<f64>> =
            value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
        numbers
            .and_then(|list| <[f64; 3]>::try_from(list).ok())
            .ok_or_else(|| self.error(key, value, "three numbers"))
    }

    fn error(
        &self,
        key: &str,
        found: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> ConfigError {
        ConfigError::value(self.path, key, found, expected)
    }
}

/// Rescaling in f64 rounded to f32, then normalising in f32, as the numpy code of transformers.
fn level_table(factor: f64, mean: f64, std: f64) -> [f32; 256] {
    let (mean, std) = (mean as f32, std as f32);
    std::array::from_fn(|level| ((level as f64 * factor) as f32 - mean) / std)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::ComputeDevice;
    use image::Rgb;
    use serde_json::json;

    fn read(json: Value) -> Result<ImagePreprocessor, ConfigError> {
        Reader { path: Path::new(FILE_NAME), json: &json }.read()
    }

    #[test]
    fn the_key_forms_of_2021_and_of_today_mean_the_same() {
        let old = json!({
            "crop_size": 33, "do_center_crop": true, "do_normalize": true, "do_resize": true,
            "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "size": 40,
            "image_mean": CLIP_MEAN, "image_std": CLIP_STD,
        });
        let new = json!({
            "crop_size": {"height": 33, "width": 33}, "size": {"shortest_edge": 40},
            "image_processor_type": "CLIPImageProcessorFast", "rescale_factor": 1.0 / 255.0,
        });
        assert_eq!(read(old).unwrap(), read(new).unwrap());
    }

    #[test]
    fn an_empty_config_is_that_of_openai_clip() {
        let processor = read(json!({})).unwrap();
        assert_eq!(processor.resize, Some(TargetSize::ShortestEdge(224)));
        assert_eq!(processor.output_size(), Some((224, 224)));
        assert_eq!(processor.filter, Filter::Bicubic);
        assert!((processor.levels[2][255] - 2.1459).abs() < 1e-4);
        assert_eq!(processor, ImagePreprocessor::clip(224));
    }

    #[test]
    fn a_bare_number_is_a_square_for_blip_and_siglip() {
        for class in ["BlipImageProcessor", "SiglipImageProcessor"] {
            let processor = read(json!({"image_processor_type": class, "size": 48})).unwrap();
            assert_eq!(processor.output_size(), Some((48, 48)), "{class}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_an_error_that_names_the_key() {
        for (json, key) in [
            (json!({"image_processor_type": "ViTImageProcessor"}), "ViTImageProcessor"),
            (json!({"resample": 1}), "resample"),
            (json!({"size": 0}), "size"),
            (json!({"size": {"shortest_edge": 1e12}}), "size"),
            (json!({"size": {"height": 7}}), "size"),
            (json!({"crop_size": 5000}), "crop_size"),
            (json!({"image_mean": [0.5, 0.5]}), "image_mean"),
            (json!({"image_std": [0.5, 0.5, 0.0]}), "image_std"),
            (json!({"do_resize": 1}), "do_resize"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(FILE_NAME), "{error}");
        }
    }

    #[test]
    fn a_very_long_image_is_cropped_without_being_resized_whole_and_an_empty_one_refused() {
        let strip = RgbImage::from_fn(20_000, 1, |x, _| Rgb([(x % 251) as u8, 0, 0]));
        let pixels = read(json!({})).unwrap().resize_and_crop(&strip).unwrap();
        assert_eq!(pixels.dimensions(), (224, 224));
        let none = read(json!({})).unwrap().resize_and_crop(&RgbImage::new(0, 4));
        assert!(matches!(none, Err(PreprocessError::Empty)));
        let uncropped = read(json!({"do_center_crop": false})).unwrap();
        let error = uncropped.resize_and_crop(&strip).unwrap_err().to_string();
        assert!(error.contains("20000 x 1") && error.contains("4480000 x 224"), "{error}");
    }

    #[test]
    fn images_of_different_output_sizes_do_not_form_a_batch() {
        let device = ComputeDevice::cpu().device;
        let processor = read(json!({"do_center_crop": false, "size": 8})).unwrap();
        let images = [RgbImage::new(10, 10), RgbImage::new(10, 20)];
        let error = processor.batch(&images, &device).unwrap_err();
        assert!(matches!(error, PreprocessError::Uneven { index: 1, .. }), "{error}");
        assert_eq!(processor.batch(&images[..1], &device).unwrap().dims(), [1, 3, 8, 8]);
    }
}
