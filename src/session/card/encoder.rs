//! What an encoder folder is.

use std::path::Path;

use serde::Serialize;

use super::KnownSpace;
use crate::encoder::{
    EncoderConfig, EncoderError, EncoderKind, Logits, Modality, Norm, Prediction, TransformerConfig,
};

/// An encoder, as its folder describes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EncoderCard {
    pub kind: EncoderKind,
    /// What it says about one input.
    pub predicts: Prediction,
    /// Dimension of the shared space.
    pub dim: usize,
    pub norm: Norm,
    /// Height and width of the images it takes, in pixels.
    pub image_size: usize,
    /// Height and width of a patch, in pixels.
    pub patch_size: usize,
    /// Most tokens that a text can have, those that the tokenizer adds included.
    pub max_tokens: usize,
    /// Width and layers of the vision tower.
    pub vision: (usize, usize),
    /// Width and layers of the text tower.
    pub text: (usize, usize),
    /// Factor on cosines in the training loss.
    pub logit_scale: f32,
    /// False where the checkpoint does not keep the learnt factor and the one that training began
    /// with stands in.
    pub logit_scale_is_learnt: bool,
    /// What is added to logits, of models with a sigmoid loss.
    pub logit_bias: Option<f32>,
    /// The published space whose vision tower has this very shape.
    #[serde(serialize_with = "space_name")]
    pub space: Option<&'static KnownSpace>,
}

fn space_name<S: serde::Serializer>(
    space: &Option<&'static KnownSpace>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    space.map(|space| space.name).serialize(serializer)
}

impl EncoderCard {
    /// Reads the config and the learnt numbers of a folder.
    ///
    /// # Errors
    /// When it is no encoder folder, or its files are missing or malformed.
    pub fn read(folder: &Path) -> Result<Self, EncoderError> {
        let config = EncoderConfig::load(folder)?;
        let Logits { scale, bias } = config.logits(folder)?;
        let size = |t: &TransformerConfig| (t.hidden_size, t.num_hidden_layers);
        Ok(Self {
            kind: config.kind(),
            predicts: config.predicts(),
            dim: config.dim(),
            norm: config.norm(),
            image_size: config.image_size(),
            patch_size: config.patch_size(),
            max_tokens: config.max_tokens(),
            vision: size(config.transformer(Modality::Image)),
            text: size(config.transformer(Modality::Text)),
            logit_scale: scale,
            logit_scale_is_learnt: config.kind() != EncoderKind::Blip,
            logit_bias: bias,
            space: match &config {
                EncoderConfig::Clip { vision, .. } => KnownSpace::of(vision),
                _ => None,
            },
        })
    }

    /// The card as name and value, for people.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let tower = |(width, layers): (usize, usize)| format!("{layers} layers of width {width}");
        let mut rows = vec![
            ("encoder", self.kind.name().to_owned()),
            ("predicts", self.prediction().to_owned()),
            ("dimension", self.dim.to_string()),
            ("norm", self.norm_in_words().to_owned()),
            (
                "images",
                format!(
                    "{0} x {0} pixels in patches of {1} x {1}; {2}",
                    self.image_size,
                    self.patch_size,
                    tower(self.vision)
                ),
            ),
            ("texts", format!("at most {} tokens; {}", self.max_tokens, tower(self.text))),
            (
                "logit scale",
                match self.logit_scale_is_learnt {
                    true => format!("{:.3}", self.logit_scale),
                    false => {
                        format!("{:.3} (where training began; not in the file)", self.logit_scale)
                    }
                },
            ),
        ];
        if let Some(bias) = self.logit_bias {
            rows.push(("logit bias", format!("{bias:.3}")));
        }
        rows.push(("decoders", self.decoders()));
        rows
    }

    fn prediction(&self) -> &'static str {
        match self.predicts {
            Prediction::Point => {
                "one embedding for each text or image; an adapter adds a distribution"
            }
            Prediction::Gaussian => {
                "a Gaussian with independent dimensions for each text or image: a mean and variances"
            }
        }
    }

    fn norm_in_words(&self) -> &'static str {
        match self.norm {
            Norm::Raw => "raw: embeddings have a length of their own",
            Norm::Unit => "unit: the model scales embeddings to length 1",
        }
    }

    fn decoders(&self) -> String {
        match (self.kind, self.space) {
            (EncoderKind::Clip, Some(space)) => format!(
                "shaped as {}: {} decodes its image embeddings if the weights are those of {}",
                space.name, space.decoder, space.encoder
            ),
            (EncoderKind::Clip, None) => "those whose image_encoder is this very vision tower; of \
                                          the published ones none has this shape"
                .to_owned(),
            _ => "none: unCLIP decoders are trained on raw CLIP image embeddings".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn source(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    fn row(card: &EncoderCard, name: &str) -> String {
        card.rows().into_iter().find(|(n, _)| *n == name).unwrap().1
    }

    #[test]
    fn the_card_of_clip_says_what_its_files_say() {
        let card = EncoderCard::read(&source("assets/demo/clip")).unwrap();
        assert_eq!((card.kind, card.predicts), (EncoderKind::Clip, Prediction::Point));
        assert_eq!((card.dim, card.norm, card.image_size), (192, Norm::Raw, 64));
        assert_eq!((card.max_tokens, card.vision, card.text), (20, (192, 6), (192, 4)));
        assert!(card.logit_scale > 1.0 && card.logit_bias.is_none() && card.space.is_none());
        assert!(row(&card, "norm").starts_with("raw"));
    }

    #[test]
    fn the_cards_of_the_other_kinds_say_norm_bias_and_prediction() {
        let card = EncoderCard::read(&source("tests/fixtures/blip/itc")).unwrap();
        assert_eq!((card.kind, card.dim, card.norm), (EncoderKind::Blip, 20, Norm::Unit));
        assert!(row(&card, "logit scale").starts_with("14.28"), "{}", row(&card, "logit scale"));
        assert!(!card.logit_scale_is_learnt && row(&card, "decoders").starts_with("none"));

        let card = EncoderCard::read(&source("tests/fixtures/siglip/model")).unwrap();
        assert_eq!((card.kind, card.dim, card.norm), (EncoderKind::Siglip, 48, Norm::Raw));
        assert!(card.logit_bias.is_some() && row(&card, "texts").contains("16 tokens"));

        let card = EncoderCard::read(&source("tests/fixtures/prolip/model")).unwrap();
        assert_eq!((card.kind, card.dim, card.norm), (EncoderKind::ProLip, 24, Norm::Unit));
        assert_eq!((card.predicts, card.logit_bias), (Prediction::Gaussian, Some(-7.5)));
        assert!((card.logit_scale - 2.3f32.exp()).abs() < 1e-4);
        assert!(row(&card, "predicts").contains("Gaussian"));
    }

    #[test]
    fn what_is_no_encoder_has_no_card() {
        let error = EncoderCard::read(&source("assets/demo/unclip/unet")).unwrap_err().to_string();
        assert!(error.contains("clip, blip or siglip"), "{error}");
    }
}
