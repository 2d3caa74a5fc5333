//! The result folder: written whole or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};

use image::RgbImage;

use super::metadata::{write_png, write_sheet};
use super::replay::SheetMetadata;
use super::{sheet, tables};
use crate::files::{FileError, create_folder, write_atomic};
use crate::query::{AlphaPolicy, read_image};
use crate::session::result::QueryResult;

/// Name of the recipe in a result folder; also how a result folder is recognised.
pub const RECIPE_FILE: &str = "recipe.json";
/// Name of the sheet in a result folder.
pub const SHEET_FILE: &str = "sheet.png";

/// Why a result folder could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{}: already exists; choose another folder, or add --overwrite to replace an earlier result",
        path.display()
    )]
    Exists { path: PathBuf },
    #[error(
        "{}: exists and is no result folder of Haze (it has no {RECIPE_FILE}); it is left as it is, \
         choose another folder",
        path.display()
    )]
    NotAResult { path: PathBuf },
}

/// A folder being filled: it appears under its name only when [`OutputFolder::finish`] succeeds.
#[derive(Debug)]
pub struct OutputFolder {
    target: PathBuf,
    // Dropped in this order: the folders above can go once the partial one is gone.
    partial: tempfile::TempDir,
    above: CreatedFolders,
}

/// Folders that were made on the way; taken back when dropped, as far as they are empty.
#[derive(Debug, Default)]
struct CreatedFolders(Vec<PathBuf>);

impl CreatedFolders {
    /// Creates `folder` and what is missing above it.
    fn create(folder: &Path) -> Result<Self, FileError> {
        let missing = folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.exists());
        let created = Self(missing.map(Path::to_owned).collect());
        create_folder(folder)?;
        Ok(created)
    }
}

impl Drop for CreatedFolders {
    fn drop(&mut self) {
        for folder in &self.0 {
            // Fails where something else was put inside meanwhile, which is then kept.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

impl OutputFolder {
    /// Reserves a place beside `target`, so that an unwritable disk is noticed before any work.
    ///
    /// # Errors
    /// When `target` exists with something in it (an earlier result is accepted with `overwrite`),
    /// or when its parent cannot be created or written.
    pub fn reserve(target: &Path, overwrite: bool) -> Result<Self, OutputError> {
        if target.exists() && !is_empty_folder(target) {
            if !target.join(RECIPE_FILE).is_file() {
                return Err(OutputError::NotAResult { path: target.to_owned() });
            }
            if !overwrite {
                return Err(OutputError::Exists { path: target.to_owned() });
            }
        }
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let above = CreatedFolders::create(parent)?;
        let partial = tempfile::Builder::new()
            .prefix(".haze-")
            .suffix(".partial")
            .tempdir_in(parent)
            .map_err(FileError::write(target))?;
        Ok(Self { target: target.to_owned(), partial, above })
    }

    /// Where to write until [`OutputFolder::finish`].
    pub fn path(&self) -> &Path {
        self.partial.path()
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    /// When the folder cannot be renamed; an earlier result is then still there.
    pub fn finish(self) -> Result<PathBuf, OutputError> {
        let write_error = || FileError::write(&self.target);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // Temporary folders are private; results are ordinary folders.
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(self.partial.path(), mode).map_err(write_error())?;
        }
        // The earlier result steps aside first and is deleted last.
        let earlier = self.target.exists().then(|| self.partial.path().with_extension("earlier"));
        if let Some(earlier) = &earlier {
            std::fs::rename(&self.target, earlier).map_err(write_error())?;
        }
        if let Err(error) = std::fs::rename(self.partial.path(), &self.target) {
            if let Some(earlier) = &earlier {
                std::fs::rename(earlier, &self.target).map_err(write_error())?;
            }
            return Err(write_error()(error).into());
        }
        if let Some(earlier) = &earlier {
            std::fs::remove_dir_all(earlier).map_err(write_error())?;
        }
        // The folder has moved: nothing is left for the guards to delete.
        let Self { target, partial, mut above } = self;
        let _ = partial.keep();
        above.0.clear();
        Ok(target)
    }
}

/// Writes every file of a result into `folder`, which must exist.
///
/// # Errors
/// When a file cannot be written.
pub fn write_result(result: &QueryResult, folder: &Path) -> Result<(), OutputError> {
    let thumbnails = thumbnails(result);
    let metadata = SheetMetadata::of(result);
    let json = serde_json::to_value(&metadata).map_err(|e| json_error(folder, e))?;
    write_sheet(&folder.join(SHEET_FILE), &sheet::draw(result, &thumbnails), &json)?;
    if let Some(query) = &result.query_image {
        write_png(&folder.join("query.png"), query)?;
    }
    if let Some(mean) = &result.mean_tile {
        let tiles = folder.join("tiles");
        create_folder(&tiles)?;
        write_png(&tiles.join("mean.png"), &mean.image)?;
        for (i, tile) in result.tiles.iter().enumerate() {
            write_png(&tiles.join(tile_name(i)), &tile.image)?;
        }
    }
    tables::write_uncertainty(&folder.join("uncertainty.csv"), result)?;
    tables::write_sample_statistics(&folder.join("samples.csv"), result)?;
    tables::write_samples(&folder.join("samples.npz"), result)?;
    if result.retrieval.is_some() {
        tables::write_retrieval(&folder.join("retrieval.jsonl"), result)?;
    }
    let recipe = serde_json::to_string_pretty(&result.recipe).map_err(|e| json_error(folder, e))?;
    write_atomic(&folder.join(RECIPE_FILE), |file| writeln!(file, "{recipe}"))?;
    Ok(())
}

/// File name of the tile of one sample.
pub fn tile_name(sample: usize) -> String {
    format!("{sample:04}.png")
}

/// The first of `base`, `base-2`, `base-3`, … that does not exist.
pub fn next_free(base: &Path) -> PathBuf {
    if !base.exists() {
        return base.to_owned();
    }
    let name = base.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    (2u32..)
        .map(|i| base.with_file_name(format!("{name}-{i}")))
        .find(|path| !path.exists())
        .unwrap_or_else(|| base.to_owned())
}

/// A file name made from a query: at most 48 letters, digits and hyphens.
pub fn slug(text: &str) -> String {
    let mut slug = String::new();
    for character in text.chars().flat_map(char::to_lowercase) {
        if character.is_alphanumeric() {
            slug.push(character);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
        if slug.chars().count() >= 48 {
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "query".to_owned() } else { slug.to_owned() }
}

/// The gallery images of the retrieved items, in their order; read from disk.
pub fn thumbnails(result: &QueryResult) -> Vec<Option<RgbImage>> {
    let items = result.retrieval.iter().flat_map(|retrieved| &retrieved.items);
    // A gallery may have lost an image since it was indexed; its row then shows an empty frame.
    items
        .map(|item| Some(read_image(item.image_path.as_ref()?).ok()?.to_rgb(AlphaPolicy::White)))
        .collect()
}

fn is_empty_folder(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn json_error(path: &Path, error: serde_json::Error) -> FileError {
    FileError::Write { path: path.to_owned(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_finished_leaves_nothing_behind() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("made/on/the/way/result");
        let output = OutputFolder::reserve(&target, false).unwrap();
        std::fs::write(output.path().join(RECIPE_FILE), "{}").unwrap();
        drop(output);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_earlier_result_is_replaced_only_when_asked_and_other_folders_never() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("result");
        let write = |content: &str, overwrite| -> Result<PathBuf, OutputError> {
            let output = OutputFolder::reserve(&target, overwrite)?;
            std::fs::write(output.path().join(RECIPE_FILE), content).unwrap();
            output.finish()
        };
        write("first", false).unwrap();
        assert!(matches!(write("second", false), Err(OutputError::Exists { .. })));
        write("third", true).unwrap();
        assert_eq!(std::fs::read_to_string(target.join(RECIPE_FILE)).unwrap(), "third");
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);

        std::fs::remove_file(target.join(RECIPE_FILE)).unwrap();
        std::fs::write(target.join("thesis.tex"), "").unwrap();
        assert!(matches!(write("fourth", true), Err(OutputError::NotAResult { .. })));
        assert!(target.join("thesis.tex").exists());
    }

    #[test]
    fn the_next_free_name_counts_up() {
        let parent = tempfile::tempdir().unwrap();
        let base = parent.path().join("cake");
        assert_eq!(next_free(&base), base);
        std::fs::create_dir(&base).unwrap();
        assert_eq!(next_free(&base), parent.path().join("cake-2"));
    }

    #[test]
    fn a_slug_is_a_short_safe_file_name() {
        assert_eq!(slug("A slice of cake!"), "a-slice-of-cake");
        assert_eq!(slug("../../etc/passwd"), "etc-passwd");
        assert_eq!(slug("???"), "query");
        assert!(slug(&"word ".repeat(100)).chars().count() <= 48);
    }
}
