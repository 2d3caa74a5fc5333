//! Things dropped on the window: each gets its own clear answer.

use std::path::PathBuf;

use haze::app::dialogs::Dialogs;

use super::fake_engine::fake_engine;
use super::{drop_files, wait, window};
use crate::support::{Desk, source};

/// Drops and returns the notice that follows.
fn notice_after_drop(paths: &[PathBuf]) -> String {
    let mut harness = window([900.0, 600.0], fake_engine(0), Dialogs::cancelled());
    drop_files(&mut harness, paths);
    wait(&mut harness, "an answer to the drop", 30, |app| !app.core().notices.shown.is_empty());
    let shown = &harness.state().core().notices.shown;
    shown.iter().map(|s| format!("{} {}", s.notice.title, s.notice.detail)).collect::<String>()
}

#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.to_lowercase().contains(word), "{word:?} is not in {text:?}");
    }
}

/// The first bytes of a PNG that claims to be that large.
fn huge_png() -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    let mut header = b"IHDR".to_vec();
    for part in [30_000u32.to_be_bytes(), 30_000u32.to_be_bytes()] {
        bytes.extend(part);
        header.extend(part);
    }
    bytes.extend([8, 2, 0, 0, 0]);
    header.extend([8, 2, 0, 0, 0]);
    bytes.extend(crc32(&header).to_be_bytes());
    // An image that begins, so that its header can be believed.
    bytes.extend(b"\0\0\0\0IDAT");
    bytes.extend(crc32(b"IDAT").to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[test]
fn every_unusable_drop_says_what_it_was() {
    let desk = Desk::new();
    let file = |name: &str, bytes: &[u8]| {
        let path = desk.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let folder = desk.path("empty folder");
    std::fs::create_dir(&folder).unwrap();
    says(&notice_after_drop(&[folder]), &["empty folder", "folder"]);
    let corrupt = file("corrupt.png", b"\x89PNG\r\n\x1a\nrubbish");
    says(&notice_after_drop(&[corrupt]), &["corrupt.png"]);
    let huge = file("huge.png", &huge_png());
    says(&notice_after_drop(&[huge]), &["huge.png", "30000 x 30000"]);
    let long_text = file("notes.txt", "words and words. ".repeat(4000).as_bytes());
    says(&notice_after_drop(&[long_text]), &["notes.txt", "text"]);
    says(&notice_after_drop(&[desk.path("deleted.png")]), &["deleted.png", "exist"]);
    says(&notice_after_drop(&[file("nothing.png", b"")]), &["nothing.png", "empty"]);
}

#[test]
fn ten_files_at_once_give_one_query_and_say_so() {
    let images = source("assets/demo/gallery/images");
    let mut paths: Vec<_> =
        std::fs::read_dir(images).unwrap().take(10).map(|f| f.unwrap().path()).collect();
    paths.sort();
    let mut harness = window([900.0, 600.0], fake_engine(0), Dialogs::cancelled());
    drop_files(&mut harness, &paths);
    wait(&mut harness, "the query", 30, |app| app.state().entry().is_some());
    let shown = &harness.state().core().notices.shown;
    let text: String = shown.iter().map(|s| s.notice.detail.clone()).collect();
    says(&text, &["10 files", "first"]);
    assert_eq!(harness.state().state().history.len(), 1);
}

#[test]
fn a_sheet_of_another_version_is_refused_by_name() {
    let desk = Desk::new();
    let path = desk.path("sheet.png");
    let metadata = serde_json::json!({ "recipe": { "schema": 99 } });
    let pixels = image::RgbImage::new(8, 8);
    haze::export::metadata::write_sheet(&path, &pixels, &metadata).unwrap();
    says(&notice_after_drop(&[path]), &["sheet.png", "99"]);
}
