//! Image preprocessing against the image processors of transformers and Pillow.

use burn::tensor::Device;

use super::{Case, CaseError, Comparison};
use crate::encoder::preprocess::ImagePreprocessor;
use crate::query::{AlphaPolicy, QueryImage, read_image};

/// The tolerances of the case allow a level of 255; this port of Pillow needs none.
const EXACT: f64 = 1e-5;

pub fn run(case: &mut Case, _device: &Device) -> Result<(), CaseError> {
    let processor = ImagePreprocessor::load(case.folder())?;
    for key in case.expected_names() {
        let Some((kind, name)) = key.split_once('/') else { continue };
        match kind {
            "u8" => {
                let image = open(case, name)?;
                decoded(case, name, &image)?;
                let result = processor.resize_and_crop(&image.to_rgb(AlphaPolicy::Drop))?;
                let shape = [result.height() as usize, result.width() as usize, 3];
                let bytes = result.as_raw().iter().map(|&b| f64::from(b)).collect();
                check(case, &key, &shape, bytes, 0.0)?;
            }
            "pixel_values" => pixel_values(case, &processor, &key, name, AlphaPolicy::Drop)?,
            "white_background" => pixel_values(case, &processor, &key, name, AlphaPolicy::White)?,
            _ => {}
        }
    }
    Ok(())
}

fn pixel_values(
    case: &mut Case,
    processor: &ImagePreprocessor,
    key: &str,
    name: &str,
    policy: AlphaPolicy,
) -> Result<(), CaseError> {
    let rgb = open(case, name)?.to_rgb(policy);
    let size = processor.resize_and_crop(&rgb)?.dimensions();
    let values = processor.pixel_values(&rgb)?.into_iter().map(f64::from).collect();
    check(case, key, &[3, size.1 as usize, size.0 as usize], values, EXACT)
}

fn open(case: &Case, name: &str) -> Result<QueryImage, CaseError> {
    let path = case.folder().join("../images").join(format!("{name}.png"));
    Ok(read_image(&path)?)
}

/// The file itself, decoded to RGB, where the case says what that is.
fn decoded(case: &mut Case, name: &str, image: &QueryImage) -> Result<(), CaseError> {
    let key = format!("rgb/{name}");
    if case.input_names().any(|input| input == key) {
        let rgb = image.to_rgb(AlphaPolicy::Drop);
        let same = rgb.as_raw().iter().map(|&b| f64::from(b)).eq(case.input(&key)?.values.clone());
        record(case, key, if same { 0.0 } else { f64::INFINITY }, 0.0);
    }
    Ok(())
}

/// Compares with the tolerance of the case, and again with one that only an exact port meets.
fn check(
    case: &mut Case,
    key: &str,
    shape: &[usize],
    got: Vec<f64>,
    exact: f64,
) -> Result<(), CaseError> {
    let differences = got.iter().zip(&case.expected(key)?.values).map(|(g, e)| (g - e).abs());
    let worst = differences.fold(0.0, f64::max);
    case.check_values(key, shape, got)?;
    record(case, format!("{key} (exact)"), worst, exact);
    Ok(())
}

fn record(case: &mut Case, name: String, worst_error: f64, tolerance: f64) {
    let passed = worst_error <= tolerance;
    let ratio = if worst_error == 0.0 { 0.0 } else { worst_error / tolerance };
    case.record(Comparison { name, passed, worst_error, ratio, note: None });
}
