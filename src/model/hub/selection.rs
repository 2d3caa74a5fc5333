//! Which files of a repository Haze needs: configs, tokenizers, and one set of safetensors.

use std::collections::{BTreeMap, BTreeSet};

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::Serialize;

use super::HubError;

/// Base names of weight files that transformers, diffusers and Haze write. Where a folder has one
/// of them, other weights beside it are copies in another library's layout.
const STANDARD_WEIGHTS: [&str; 4] =
    ["model", "diffusion_pytorch_model", "adapter", "pytorch_model"];
/// Endings of weights that are pickles or may hold them.
const PICKLES: [&str; 5] = ["bin", "pt", "pth", "ckpt", "pkl"];
/// Endings of configs, tokenizers and licences.
const TEXTS: [&str; 4] = ["json", "txt", "model", "jinja"];
/// Parts of a diffusers pipeline that Haze never loads.
const UNUSED_PARTS: [&str; 2] = ["safety_checker", "onnx"];

/// A file of a repository, as its listing names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepoFile {
    /// Path in the repository, with `/`.
    pub path: String,
    pub bytes: u64,
    /// Checksum of the Git blob; that of a large file is known by another request.
    #[serde(skip)]
    pub oid: String,
    /// True for a file in large file storage.
    #[serde(skip)]
    pub large: bool,
}

/// What the user asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Weights with this word in their name, such as `fp16`, where a folder has them.
    pub variant: Option<String>,
    /// Patterns; where there are any, exactly what they match is taken.
    pub include: Vec<String>,
    /// Patterns of what is left out in any case.
    pub exclude: Vec<String>,
}

/// A file that is left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    pub path: String,
    pub bytes: u64,
    pub why: &'static str,
}

/// The files that are taken and those that are not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    pub taken: Vec<RepoFile>,
    pub skipped: Vec<Skipped>,
}

/// Chooses among the files of `repo`.
///
/// # Errors
/// When the weights are pickles only, when there are none, when no folder has the variant, or when
/// the patterns leave nothing or are none.
pub fn select(repo: &str, files: Vec<RepoFile>, wanted: &Wanted) -> Result<Selection, HubError> {
    let include = patterns("--include", &wanted.include)?;
    let exclude = patterns("--exclude", &wanted.exclude)?;
    let names: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
    let weights = Weights::of(&files, wanted.variant.as_deref());
    if let Some(variant) = &wanted.variant
        && !weights.variants.contains(variant)
    {
        let found = weights.variants.into_iter().collect();
        return Err(HubError::Variant { repo: repo.to_owned(), wanted: variant.clone(), found });
    }
    let mut selection = Selection::default();
    for file in files {
        let why = if exclude.is_match(&file.path) {
            Some("excluded")
        } else if !wanted.include.is_empty() {
            (!include.is_match(&file.path)).then_some("not included")
        } else {
            weights.reason_to_skip(&file.path)
        };
        match why {
            None => selection.taken.push(file),
            Some(why) => {
                selection.skipped.push(Skipped { path: file.path, bytes: file.bytes, why });
            }
        }
    }
    let by_patterns = !wanted.include.is_empty() || !wanted.exclude.is_empty();
    if selection.taken.is_empty() && by_patterns {
        return Err(HubError::NothingSelected { repo: repo.to_owned(), found: names });
    }
    if wanted.include.is_empty() && weights.chosen.is_empty() {
        let pickles: Vec<String> =
            names.iter().filter(|name| PICKLES.contains(&ending(name))).cloned().collect();
        return Err(if pickles.is_empty() {
            HubError::NoWeights { repo: repo.to_owned(), found: names }
        } else {
            HubError::OnlyPickles { repo: repo.to_owned(), files: pickles }
        });
    }
    Ok(selection)
}

/// The safetensors of a repository: one choice for each folder.
struct Weights {
    /// Variants that any folder has.
    variants: BTreeSet<String>,
    /// Base name and variant that are taken, by folder.
    chosen: BTreeMap<String, (String, Option<String>)>,
    /// A diffusers pipeline: weights beside `model_index.json` repeat those of its parts.
    pipeline: bool,
}

impl Weights {
    fn of(files: &[RepoFile], wanted: Option<&str>) -> Self {
        let has = |path: &str| files.iter().any(|file| file.path == path);
        let tensors: Vec<WeightName<'_>> =
            files.iter().filter_map(|file| WeightName::of(&file.path)).collect();
        let in_parts = tensors.iter().any(|weights| !weights.folder.is_empty());
        let pipeline = has("model_index.json") && in_parts;
        let used = |weights: &&WeightName<'_>| {
            let repeated = pipeline && weights.folder.is_empty();
            !repeated && !is_unused_part(weights.folder)
        };
        let mut by_folder: BTreeMap<&str, Vec<&WeightName<'_>>> = BTreeMap::new();
        for weights in tensors.iter().filter(used) {
            by_folder.entry(weights.folder).or_default().push(weights);
        }
        let mut chosen = BTreeMap::new();
        let mut variants = BTreeSet::new();
        for (folder, mut candidates) in by_folder {
            let standard = |w: &&WeightName<'_>| STANDARD_WEIGHTS.contains(&w.base);
            if candidates.iter().any(standard) {
                candidates.retain(standard);
            }
            variants.extend(candidates.iter().filter_map(|w| w.variant).map(str::to_owned));
            // The variant, else the plain weights, else what there is.
            let best = candidates.iter().min_by_key(|w| {
                let rank = match w.variant {
                    variant if variant == wanted => 0,
                    None => 1,
                    Some(_) => 2,
                };
                (rank, w.base, w.variant)
            });
            if let Some(best) = best {
                let choice = (best.base.to_owned(), best.variant.map(str::to_owned));
                chosen.insert(folder.to_owned(), choice);
            }
        }
        Self { variants, chosen, pipeline }
    }

    /// Why a file is left out; `None` when it is taken.
    fn reason_to_skip(&self, path: &str) -> Option<&'static str> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if is_unused_part(folder) {
            return Some("a part that Haze does not use");
        }
        if let Some(weights) = WeightName::of(path) {
            if self.pipeline && folder.is_empty() {
                return Some("repeats the weights of the pipeline's parts");
            }
            let (base, variant) = self.chosen.get(folder)?;
            return match (base == weights.base, variant.as_deref() == weights.variant) {
                (true, true) => None,
                (true, false) => Some("another variant"),
                (false, _) => Some("the same weights in another layout"),
            };
        }
        if name.starts_with('.') {
            return Some("no part of the model");
        }
        match ending(path) {
            ending if PICKLES.contains(&ending) => Some("a pickle; the safetensors are taken"),
            // An index of weights that are left out.
            "json" if name.contains(".bin.index") || name.contains(".msgpack.index") => {
                Some("another format")
            }
            ending if TEXTS.contains(&ending) => None,
            _ if name.to_ascii_uppercase().starts_with("LICENSE") => None,
            "msgpack" | "h5" | "onnx" | "ot" | "tflite" | "gguf" | "pb" | "mlmodel" => {
                Some("another format")
            }
            _ => Some("no part of the model"),
        }
    }
}

/// `folder/base[.variant][-00001-of-00002].safetensors`, or the index of such shards, which puts
/// the variant elsewhere: `base.safetensors.index[.variant].json`.
struct WeightName<'a> {
    folder: &'a str,
    base: &'a str,
    variant: Option<&'a str>,
}

impl<'a> WeightName<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if let Some((base, rest)) = name.split_once(".safetensors.index.") {
            let variant = rest.strip_suffix("json")?.strip_suffix('.');
            let (base, inner) = split_variant(base);
            return Some(Self { folder, base, variant: variant.or(inner) });
        }
        let stem = without_shard(name.strip_suffix(".safetensors")?);
        let (base, variant) = split_variant(stem);
        // diffusers wrote base-00001-of-00002.fp16 once.
        Some(Self { folder, base: without_shard(base), variant })
    }
}

/// Splits `model.fp16`. A word that begins with a digit is a version: `sd-v2.1` is one name.
fn split_variant(stem: &str) -> (&str, Option<&str>) {
    match stem.rsplit_once('.') {
        Some((base, variant)) if variant.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            (base, Some(variant))
        }
        _ => (stem, None),
    }
}

/// `model` of `model-00001-of-00002`.
fn without_shard(stem: &str) -> &str {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts = stem.rsplit_once("-of-").and_then(|(rest, count)| {
        let (base, index) = rest.rsplit_once('-')?;
        (digits(count) && digits(index)).then_some(base)
    });
    parts.unwrap_or(stem)
}

fn is_unused_part(folder: &str) -> bool {
    folder.split('/').any(|part| UNUSED_PARTS.contains(&part))
}

fn ending(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, ending)| ending)
}

fn patterns(what: &'static str, texts: &[String]) -> Result<GlobSet, HubError> {
    let wrong = |found: &str, error: &globset::Error| HubError::Pattern {
        what,
        found: found.to_owned(),
        reason: error.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for text in texts {
        set.add(Glob::new(text).map_err(|error| wrong(text, &error))?);
    }
    set.build().map_err(|error| wrong(&texts.join(" "), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> Vec<RepoFile> {
        let file = |path: &&str| RepoFile {
            path: (*path).to_owned(),
            bytes: 1,
            oid: String::new(),
            large: false,
        };
        paths.iter().map(file).collect()
    }

    fn taken(paths: &[&str], wanted: &Wanted) -> Vec<String> {
        let selection = select("a/b", files(paths), wanted).unwrap();
        selection.taken.into_iter().map(|file| file.path).collect()
    }

    /// The listing of openai/clip-vit-large-patch14.
    const CLIP: [&str; 14] = [
        ".gitattributes",
        "README.md",
        "config.json",
        "flax_model.msgpack",
        "merges.txt",
        "model.safetensors",
        "preprocessor_config.json",
        "pytorch_model.bin",
        "special_tokens_map.json",
        "tf_model.h5",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "onnx/model.onnx",
    ];

    /// The kind of listing that unCLIP repositories have.
    const UNCLIP: [&str; 17] = [
        "README.md",
        "feature_extractor/preprocessor_config.json",
        "image_encoder/config.json",
        "image_encoder/model.fp16.safetensors",
        "image_encoder/model.safetensors",
        "image_encoder/pytorch_model.bin",
        "image_normalizer/config.json",
        "image_normalizer/diffusion_pytorch_model.safetensors",
        "model_index.json",
        "safety_checker/model.safetensors",
        "scheduler/scheduler_config.json",
        "sd21-unclip-l.ckpt",
        "sd21-unclip-l.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
    ];

    #[test]
    fn a_clip_repository_gives_its_safetensors_configs_and_tokenizer() {
        let expected = [
            "config.json",
            "merges.txt",
            "model.safetensors",
            "preprocessor_config.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.json",
        ];
        assert_eq!(taken(&CLIP, &Wanted::default()), expected);
    }

    #[test]
    fn a_pipeline_gives_one_variant_of_every_part_and_no_second_copy() {
        let plain = [
            "feature_extractor/preprocessor_config.json",
            "image_encoder/config.json",
            "image_encoder/model.safetensors",
            "image_normalizer/config.json",
            "image_normalizer/diffusion_pytorch_model.safetensors",
            "model_index.json",
            "scheduler/scheduler_config.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
        ];
        assert_eq!(taken(&UNCLIP, &Wanted::default()), plain);
        let wanted = Wanted { variant: Some("fp16".to_owned()), ..Wanted::default() };
        let half = taken(&UNCLIP, &wanted);
        assert!(half.contains(&"unet/diffusion_pytorch_model.fp16.safetensors".to_owned()));
        assert!(!half.contains(&"unet/diffusion_pytorch_model.safetensors".to_owned()));
        // A part without that variant keeps its plain weights.
        assert!(half.contains(&plain[4].to_owned()));
    }

    #[test]
    fn shards_come_with_their_index_and_without_the_other_librarys_copy() {
        let shards = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "model.fp16-00001-of-00001.safetensors",
            "model.safetensors.index.fp16.json",
            "open_clip_model.safetensors",
            "pytorch_model.bin.index.json",
        ];
        assert_eq!(taken(&shards, &Wanted::default()), shards[..4]);
        let half = Wanted { variant: Some("fp16".to_owned()), ..Wanted::default() };
        assert_eq!(taken(&shards, &half), [shards[0], shards[4], shards[5]]);
    }

    #[test]
    fn pickles_alone_are_refused_with_advice() {
        let error = select("a/b", files(&["config.json", "pytorch_model.bin"]), &Wanted::default())
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("pytorch_model.bin") && text.contains("refs/pr/1"), "{text}");
        let error = select("a/b", files(&["README.md"]), &Wanted::default()).unwrap_err();
        assert!(matches!(error, HubError::NoWeights { .. }));
    }

    #[test]
    fn patterns_decide_where_they_are_given() {
        let only = |include: &[&str], exclude: &[&str]| Wanted {
            variant: None,
            include: include.iter().map(|s| (*s).to_owned()).collect(),
            exclude: exclude.iter().map(|s| (*s).to_owned()).collect(),
        };
        assert_eq!(taken(&CLIP, &only(&["*.txt"], &[])), ["merges.txt"]);
        // As in huggingface_hub, a star also stands for slashes.
        assert_eq!(taken(&UNCLIP, &only(&["*_config.json"], &["scheduler/*"])).len(), 1);
        assert!(!taken(&CLIP, &only(&[], &["vocab*"])).contains(&"vocab.json".to_owned()));
        let none = select("a/b", files(&CLIP), &only(&["*.xyz"], &[])).unwrap_err();
        assert!(matches!(none, HubError::NothingSelected { .. }));
        let wrong = select("a/b", files(&CLIP), &only(&["a["], &[])).unwrap_err();
        assert!(wrong.to_string().contains("--include"), "{wrong}");
    }

    #[test]
    fn a_variant_that_is_not_there_names_those_that_are() {
        let wanted = Wanted { variant: Some("fp8".to_owned()), ..Wanted::default() };
        let error = select("a/b", files(&UNCLIP), &wanted).unwrap_err().to_string();
        assert!(error.contains("fp8") && error.contains("fp16"), "{error}");
    }
}
