//! Finding out what a dropped, pasted or opened file is.

use std::path::{Path, PathBuf};

use image::RgbImage;

use super::session_file::SavedSession;
use crate::adapter::AdapterHeader;
use crate::encoder::{EncoderKind, Modality};
use crate::export::folder::slug;
use crate::export::metadata::{SheetError, write_png};
use crate::export::replay::SheetMetadata;
use crate::files::{FileError, create_folder, read_bounded};
use crate::gallery::Layout;
use crate::query::{QueryError, TEXT_LIMIT, pixels_hash, read_image};
use crate::session::SessionError;
use crate::session::cache;
use crate::session::recipe::Recipe;

/// Longest text file that is taken as a query, in bytes.
const QUERY_FILE_LIMIT: usize = 2000;
const IMAGE_ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// What a file turned out to be.
#[derive(Debug, Clone)]
pub enum Intake {
    QueryImage(PathBuf),
    Text(String),
    Sheet(Box<SheetMetadata>),
    Recipe(Box<Recipe>),
    Session {
        path: PathBuf,
        session: Box<SavedSession>,
    },
    /// An image folder, dataset or index.
    Gallery(PathBuf),
    /// A folder with `clip/`, `adapters/` and so on.
    Bundle(PathBuf),
    Adapter {
        path: PathBuf,
        reads: Modality,
    },
    Encoder(PathBuf),
    Decoder(PathBuf),
    /// A diffusion prior that is no decoder too.
    Prior(PathBuf),
}

/// What became of one drop.
#[derive(Debug, Default)]
pub struct TakenIn {
    /// What to act on: the first that can be.
    pub act: Option<Intake>,
    /// Title and detail of what could not be used.
    pub errors: Vec<(String, String)>,
    /// What happened to the other files.
    pub note: Option<String>,
}

/// Finds out what files are. One can be acted on: a query is one image.
pub fn take_in_many(paths: &[PathBuf]) -> TakenIn {
    let mut taken = TakenIn::default();
    for path in paths {
        match take_in(path) {
            Ok(intake) => {
                taken.act = Some(intake);
                break;
            }
            Err(reason) if taken.errors.len() < 3 => {
                taken.errors.push(("This file cannot be used".to_owned(), reason));
            }
            Err(_) => {}
        }
    }
    if paths.len() > 1 && taken.act.is_some() {
        taken.note = Some(format!(
            "{} files: only the first that can be used is taken, a query is one image. Drop their \
             folder to make it the gallery.",
            paths.len()
        ));
    }
    taken
}

/// Finds out what a file is.
///
/// # Errors
/// In words: which file, what it is, what to do instead.
pub fn take_in(path: &Path) -> Result<Intake, String> {
    let shown = path.display();
    if !path.exists() {
        return Err(format!("{shown} does not exist any more; it may have been moved or deleted"));
    }
    if path.is_dir() {
        return folder(path);
    }
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    if ending == "png" {
        match SheetMetadata::read(path) {
            Ok(metadata) => return Ok(Intake::Sheet(Box::new(metadata))),
            // Any other PNG is an image like every other, or is refused as one.
            Err(SheetError::NoRecipe { .. } | SheetError::Png { .. } | SheetError::File(_)) => {}
            Err(error @ SheetError::Damaged { .. }) => return Err(error.to_string()),
        }
    }
    match ending.as_str() {
        "json" => json(path),
        "npy" | "npz" => Err(format!(
            "{shown} holds embeddings; decode them with haze decode, the window asks with texts \
             and images"
        )),
        _ => match read_image(path) {
            Ok(_) => Ok(Intake::QueryImage(path.to_owned())),
            Err(QueryError::NotAnImage { .. }) if !IMAGE_ENDINGS.contains(&ending.as_str()) => {
                text(path)
            }
            Err(error) => Err(error.to_string()),
        },
    }
}

fn folder(path: &Path) -> Result<Intake, String> {
    let has = |name: &str| path.join(name).exists();
    if has("model_index.json") {
        // A pipeline with both is dropped to decode with; its prior is chosen under Models.
        let only_prior = has("prior") && !has("image_normalizer");
        let intake = if only_prior { Intake::Prior } else { Intake::Decoder };
        return Ok(intake(path.to_owned()));
    }
    if has("adapter_config.json") {
        let header = AdapterHeader::read(path).map_err(|error| error.to_string())?;
        return Ok(Intake::Adapter { path: path.to_owned(), reads: header.input_modality });
    }
    if has("clip") && has("adapters") {
        return Ok(Intake::Bundle(path.to_owned()));
    }
    // ProLIP's folders have no image processor; an encoder that is not supported says so on loading.
    if has("config.json")
        && (has("preprocessor_config.json") || EncoderKind::of_folder(path).is_ok())
    {
        return Ok(Intake::Encoder(path.to_owned()));
    }
    if has("img_emb") || Layout::of(path).is_ok_and(|layout| layout.is_described()) {
        return Ok(Intake::Gallery(path.to_owned()));
    }
    let is_image = |path: &Path| {
        path.extension()
            .is_some_and(|e| IMAGE_ENDINGS.contains(&e.to_string_lossy().to_lowercase().as_str()))
    };
    let entries = std::fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
    if entries.flatten().take(10_000).any(|entry| is_image(&entry.path())) {
        return Ok(Intake::Gallery(path.to_owned()));
    }
    Err(format!(
        "{} is a folder without images or models; drop a folder of images to make it the gallery, \
         or a model folder",
        path.display()
    ))
}

fn json(path: &Path) -> Result<Intake, String> {
    match SavedSession::load(path) {
        Ok(session) => {
            return Ok(Intake::Session { path: path.to_owned(), session: Box::new(session) });
        }
        Err(error) if error.is_a_session() => return Err(error.to_string()),
        Err(_) => {}
    }
    let looks_like_dataset = crate::gallery::Dataset::open(path).is_ok();
    if looks_like_dataset {
        return Ok(Intake::Gallery(path.to_owned()));
    }
    match Recipe::read(path) {
        Ok(recipe) => Ok(Intake::Recipe(Box::new(recipe))),
        Err(error) => Err(error.to_string()),
    }
}

/// A short text file is a query; a long one was dropped by mistake.
fn text(path: &Path) -> Result<Intake, String> {
    let shown = path.display();
    let bytes = read_bounded(path, TEXT_LIMIT as u64 * 64, "a file").map_err(|e| e.to_string())?;
    match String::from_utf8(bytes) {
        Ok(text) if text.trim().is_empty() => Err(format!("{shown}: the file is empty")),
        Ok(text) if text.len() <= QUERY_FILE_LIMIT => Ok(Intake::Text(text.trim().to_owned())),
        Ok(text) => Err(format!(
            "{shown} is a text file of {} bytes, too long for a query; paste the sentence you \
             mean into the query box",
            text.len()
        )),
        Err(_) => Err(format!(
            "{shown}: not an image that can be read, nor a text; expected PNG, JPEG, WebP, GIF or \
             BMP, a sheet, a recipe or a session"
        )),
    }
}

/// Files that a pasted text names: one path or `file://` address a line, all of which exist.
pub fn pasted_paths(text: &str) -> Option<Vec<PathBuf>> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() || lines.len() > 1000 {
        return None;
    }
    let path = |line: &&str| -> Option<PathBuf> {
        let path = match line.strip_prefix("file://") {
            Some(address) => PathBuf::from(percent_decoded(address)?),
            None => PathBuf::from(line.trim_matches(['"', '\''])),
        };
        (path.is_absolute() && path.exists()).then_some(path)
    };
    lines.iter().map(path).collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            decoded.push(u8::from_str_radix(text.get(at + 1..at + 3)?, 16).ok()?);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(decoded).ok()
}

/// Keeps pasted pixels as a file in the cache, so that a recipe can name them.
///
/// # Errors
/// When there is no cache folder, or it cannot be written.
pub fn keep_pixels(image: &RgbImage, name: &str) -> Result<PathBuf, SessionError> {
    let folder = cache::folder()?.join("queries");
    create_folder(&folder)?;
    let hash = pixels_hash(image);
    let path = folder.join(format!("{}-{}.png", slug(name), &hash[..12]));
    if !path.exists() {
        write_png(&path, image).map_err(|error: FileError| error)?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn an_image_is_a_query_and_its_folder_a_gallery() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write_png(&path, &RgbImage::new(4, 4)).unwrap();
        assert!(matches!(take_in(&path), Ok(Intake::QueryImage(_))));
        assert!(matches!(take_in(folder.path()), Ok(Intake::Gallery(_))));
    }

    #[test]
    fn a_pipeline_is_a_decoder_and_a_prior_alone_is_a_prior() {
        let folder = tempfile::tempdir().unwrap();
        file(folder.path(), "model_index.json", b"{}");
        std::fs::create_dir(folder.path().join("prior")).unwrap();
        assert!(matches!(take_in(folder.path()), Ok(Intake::Prior(_))));
        std::fs::create_dir(folder.path().join("image_normalizer")).unwrap();
        assert!(matches!(take_in(folder.path()), Ok(Intake::Decoder(_))));
    }

    #[test]
    fn a_short_text_file_is_a_query_and_a_long_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let short = file(folder.path(), "query.txt", b"a red apple\n");
        assert!(matches!(take_in(&short), Ok(Intake::Text(text)) if text == "a red apple"));
        let long = file(folder.path(), "long.txt", "words ".repeat(2000).as_bytes());
        assert!(take_in(&long).unwrap_err().contains("text file"));
    }

    #[test]
    fn pasted_lines_are_paths_only_when_all_of_them_exist() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "a b.png", b"x");
        let address = format!("file://{}", path.display().to_string().replace(' ', "%20"));
        assert_eq!(pasted_paths(&address), Some(vec![path.clone()]));
        assert_eq!(pasted_paths(&format!("{}\n/does/not/exist", path.display())), None);
        assert_eq!(pasted_paths("a slice of cake"), None);
    }

    #[test]
    fn of_ten_images_the_first_is_taken_and_the_rest_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..10)
            .map(|i| {
                let path = folder.path().join(format!("{i}.png"));
                write_png(&path, &RgbImage::new(2, 2)).unwrap();
                path
            })
            .collect();
        let taken = take_in_many(&paths);
        assert!(matches!(taken.act, Some(Intake::QueryImage(path)) if path == paths[0]));
        assert!(taken.note.unwrap().contains("10 files"));
    }
}
