//! Which decoder a diffusers pipeline folder holds, told by its `model_index.json` alone.

use std::path::Path;

use serde_json::Value;

use super::DecodeError;
use crate::model::config::read_json;

/// The file that makes a folder a pipeline.
const INDEX_FILE: &str = "model_index.json";

/// The pipelines that can decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PipelineKind {
    /// Decodes image embeddings: [`UnClipPipeline`](super::UnClipPipeline).
    UnClip,
    /// Decodes prompt embeddings: [`PromptPipeline`](super::PromptPipeline).
    StableDiffusion,
}

impl PipelineKind {
    const ALL: [PipelineKind; 2] = [PipelineKind::UnClip, PipelineKind::StableDiffusion];

    /// The pipeline in a folder.
    ///
    /// # Errors
    /// When the folder has no readable `model_index.json`, or it names another class.
    pub fn of(folder: &Path) -> Result<Self, DecodeError> {
        let index = folder.join(INDEX_FILE);
        let json: Value = read_json(&index)?;
        let class = json["_class_name"].as_str().unwrap_or("missing");
        let known = |kind: &PipelineKind| kind.classes().contains(&class);
        PipelineKind::ALL.into_iter().find(known).ok_or_else(|| {
            let classes: Vec<&str> =
                PipelineKind::ALL.iter().flat_map(|kind| kind.classes()).copied().collect();
            DecodeError::folder(
                &index,
                format!(
                    "_class_name is {class}, expected {}: image embeddings are decoded by an \
                     unCLIP pipeline in the layout of diffusers, such as \
                     sd2-community/stable-diffusion-2-1-unclip-small",
                    classes.join(", ")
                ),
            )
        })
    }

    /// True for a folder that has a `model_index.json` of this kind.
    pub fn is_in(self, folder: &Path) -> bool {
        folder.join(INDEX_FILE).is_file() && Self::of(folder).is_ok_and(|kind| kind == self)
    }

    /// Classes of diffusers with the parts that are needed.
    fn classes(self) -> &'static [&'static str] {
        match self {
            PipelineKind::UnClip => &["StableUnCLIPImg2ImgPipeline", "StableUnCLIPPipeline"],
            PipelineKind::StableDiffusion => &["StableDiffusionPipeline"],
        }
    }

    /// Refuses a folder of another kind than `wanted`.
    pub(super) fn require(self, wanted: PipelineKind, folder: &Path) -> Result<(), DecodeError> {
        if self == wanted {
            return Ok(());
        }
        let advice = match self {
            PipelineKind::UnClip => "it decodes image embeddings, not prompt embeddings",
            PipelineKind::StableDiffusion => {
                "it decodes prompt embeddings, not image embeddings; it goes with an adapter of \
                 kind prompt-probvlm (haze sample TEXT --decoder FOLDER --adapter ADAPTER)"
            }
        };
        Err(DecodeError::folder(
            &folder.join(INDEX_FILE),
            format!(
                "_class_name is {}, expected {}: {advice}",
                self.classes()[0],
                wanted.classes().join(" or ")
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_decides_and_others_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(!PipelineKind::UnClip.is_in(path));
        for (class, kind) in [
            ("StableUnCLIPPipeline", Some(PipelineKind::UnClip)),
            ("StableDiffusionPipeline", Some(PipelineKind::StableDiffusion)),
            ("StableDiffusionXLPipeline", None),
        ] {
            let json = format!(r#"{{"_class_name": "{class}"}}"#);
            std::fs::write(path.join(INDEX_FILE), json).unwrap();
            match (PipelineKind::of(path), kind) {
                (Ok(found), Some(kind)) => assert!(found == kind && kind.is_in(path)),
                (Err(error), None) => {
                    let error = error.to_string();
                    assert!(error.contains(class) && error.contains("StableDiffusionPipeline"));
                }
                (found, expected) => panic!("{class}: {found:?}, expected {expected:?}"),
            }
        }
    }
}
