//! Loading weights takes about the memory that the weights take.
//!
//! Each case runs in a process of its own, which is this test program once more: the peak of a
//! process that has done other work says nothing.

use std::path::Path;

use burn::tensor::{DType, Tensor};
use haze::model::device::ComputeDevice;
use haze::model::weights::Weights;

/// Names the file and the type of the child's tensors.
const CASE: &str = "HAZE_TEST_WEIGHTS";
const MIB: u64 = 1 << 20;

/// 40 tensors of zeros, 160 Mi numbers in all, that take no room on the disk.
fn large_file(path: &Path, dtype: &str, bytes: u64) -> u64 {
    let numbers = 4 * MIB;
    let entries: Vec<String> = (0..40)
        .map(|i| {
            let (from, to) = (i * numbers * bytes, (i + 1) * numbers * bytes);
            format!(
                r#""layer.{i}.weight":{{"dtype":"{dtype}","shape":[4096,1024],"data_offsets":[{from},{to}]}}"#
            )
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut start = (header.len() as u64).to_le_bytes().to_vec();
    start.extend(header.as_bytes());
    std::fs::write(path, &start).unwrap();
    let data = 40 * numbers * bytes;
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(start.len() as u64 + data).unwrap();
    data
}

/// Most memory that this process has had in use, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Not a test of its own: what [`loading_takes_the_memory_of_the_weights`] measures.
#[test]
#[ignore = "run by another test in a process of its own"]
fn child() {
    let case = std::env::var(CASE).unwrap();
    let (dtype, path) = case.split_once(':').unwrap();
    let dtype = if dtype == "f16" { DType::F16 } else { DType::F32 };
    let device = ComputeDevice::cpu().device;
    let before = peak();
    let weights = Weights::open(Path::new(path)).unwrap();
    let names: Vec<String> = weights.names().map(str::to_owned).collect();
    let tensors: Vec<Tensor<2>> =
        names.iter().map(|name| weights.tensor_as(name, &device, dtype).unwrap()).collect();
    println!("peak {} of {} tensors", peak() - before, tensors.len());
}

#[cfg(target_os = "linux")]
#[test]
fn loading_takes_the_memory_of_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    // File and device type, bytes of a number in each, and the peak in file sizes.
    for (file, stored, device, limit) in
        [("F16", 2, "f16", 1.2), ("F32", 4, "f32", 1.2), ("F32", 4, "f16", 0.7)]
    {
        let size = large_file(&path, file, stored);
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["weights_memory::child", "--exact", "--ignored", "--nocapture"])
            .env(CASE, format!("{device}:{}", path.display()))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        let words: Vec<&str> = text.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "peak").unwrap_or_else(|| panic!("{text}"));
        let share = words[at + 1].parse::<f64>().unwrap() / size as f64;
        println!("{file} file as {device}: peak {share:.3} of the file's {} MiB", size / MIB);
        assert!(share < limit, "{file} as {device}: {share} of the file, at most {limit}");
        // All of it was read.
        let least = if device == "f16" { 2.0 } else { 4.0 } / stored as f64;
        assert!(share > 0.95 * least, "{file} as {device}: {share} of the file");
    }
}
