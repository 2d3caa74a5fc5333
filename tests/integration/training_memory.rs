//! How much memory training takes: embeddings are read from their memory-mapped files, row by row.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::support::Desk;

const DIM: usize = 128;
const HELD_OUT: usize = 100;

/// `image.npy` and `text.npy` of float32 with `rows` rows each, and their splits; gives the bytes
/// of both.
fn write_cache(folder: &Path, rows: usize) -> u64 {
    std::fs::create_dir_all(folder).unwrap();
    let mut bytes = 0;
    for (name, seed) in [("image.npy", 1u32), ("text.npy", 2)] {
        let mut state = seed;
        // Captions are like their images, so that there is something to find.
        let mut number = |row: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let own = (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
            own + ((row * 31 + state as usize % 7) % 11) as f32 * 0.1
        };
        let mut head =
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {DIM}), }}");
        head += &" ".repeat((64 - (head.len() + 11) % 64) % 64);
        head.push('\n');
        let path = folder.join(name);
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
        file.write_all(b"\x93NUMPY\x01\x00").unwrap();
        file.write_all(&(head.len() as u16).to_le_bytes()).unwrap();
        file.write_all(head.as_bytes()).unwrap();
        for row in 0..rows {
            for _ in 0..DIM {
                file.write_all(&number(row).to_le_bytes()).unwrap();
            }
        }
        file.flush().unwrap();
        bytes += std::fs::metadata(&path).unwrap().len();
    }
    let split = |row: usize| match row {
        _ if row < HELD_OUT => "val",
        _ if row < 2 * HELD_OUT => "test",
        _ => "train",
    };
    let splits: Vec<&str> = (0..rows).map(split).collect();
    std::fs::write(folder.join("splits.json"), serde_json::to_vec(&splits).unwrap()).unwrap();
    bytes
}

/// Trains on a cache, and gives the most memory that the process had of its own. Pages of mapped
/// files do not count: the system takes them back when it needs them.
fn peak_of_training(desk: &Desk, cache: &str) -> u64 {
    let [train, val, test] = ["train", "val", "test"].map(|split| format!("{cache}:{split}"));
    let data = ["evaluate", "--train", &train, "--val", &val, "--test", &test];
    let options =
        ["--methods", "gaussian", "--seeds", "1", "--epochs", "1", "--batch-size", "1024"];
    let quick = ["--passes", "2", "--bootstrap", "10", "--permutations", "10", "--json"];
    let mut command = desk.command(&[&data[..], &options, &quick].concat());
    let out = std::fs::File::create(desk.path("out.json")).unwrap();
    let mut process = command.stdout(out).stderr(std::process::Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", process.id());
    let mut peak = 0;
    let exit = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let own = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = own.and_then(|own| own.trim().strip_suffix(" kB")?.trim().parse().ok());
        peak = peak.max(kilobytes.unwrap_or(0u64) << 10);
        match process.try_wait().unwrap() {
            Some(exit) => break exit,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let report = std::fs::read_to_string(desk.path("out.json")).unwrap();
    assert!(exit.success(), "{report}");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert!(!report["report"]["runs"].as_array().unwrap().is_empty(), "nothing was trained");
    peak
}

#[test]
fn training_streams_from_the_memory_map() {
    let desk = Desk::new();
    // The constant densities that a run is held against are fitted to a sample of the training pairs
    // of at most 32,768, evenly spread: to all of 16,000 pairs, and to every second one of 33,000.
    let (few, many) = (16_000, 33_000);
    let small = write_cache(&desk.path("small"), few);
    let large = write_cache(&desk.path("large"), many);
    let (before, after) = (peak_of_training(&desk, "small"), peak_of_training(&desk, "large"));
    let (more_rows, more_memory) = (large - small, after.saturating_sub(before));
    println!("{more_memory} bytes more for {more_rows} bytes of rows; {before} at first");
    assert!(before > 0, "the process was seen");
    // Ids, splits and links of 17,000 pairs take some 3 MB, their rows would take 17 MB.
    assert!(
        more_memory < more_rows / 2,
        "{more_memory} bytes of memory more for {more_rows} bytes of rows more"
    );
}
