//! `haze models inspect`: what a model folder or a weight file holds.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use serde_json::json;

use crate::cli::{Context, Exit, table};
use crate::encoder::EncoderKind;
use crate::model::inspect::{ModelFolder, inspect};
use crate::session::card::{DecoderCard, EncoderCard, Fit, fit};
use crate::session::{SessionError, fingerprint};

/// Say what a model folder or a weight file holds
#[derive(Debug, Args)]
pub struct Inspect {
    /// A model folder, a bundle part such as demo/unclip, a weight file, or a hub name in the cache
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    path: PathBuf,
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Say whether this decoder was trained on the image embeddings of the inspected encoder
    #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
    decoder: Option<PathBuf>,
}

impl Inspect {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let path = context.assets()?.resolve(&self.path, "model")?;
        let mut folders = inspect(&path)?;
        let hash = fingerprint::of_folder(&path)?;
        let cards = Cards::of(&path)?;
        let fits = match &self.decoder {
            Some(decoder) => {
                let decoder = context.assets()?.resolve(decoder, "decoder")?;
                Some(fit(&path, &decoder).map_err(SessionError::from)?)
            }
            None => None,
        };
        let mut text = format!("{}\nblake3 {hash}\n", path.display());
        text += &cards.text(fits.as_ref());
        text += &self.text(&folders);
        if !self.tensors {
            for file in folders.iter_mut().flat_map(|folder| &mut folder.weights) {
                file.tensors.clear();
            }
        }
        let Cards { encoder, decoder } = cards;
        let fits = fits.map(|fit| match fit {
            Fit::Same => json!({ "fits": true }),
            Fit::Unproven(reason) => json!({ "fits": null, "reason": reason }),
            Fit::Different(reason) => json!({ "fits": false, "reason": reason }),
        });
        let report = json!({
            "path": path, "blake3": hash, "encoder": encoder, "decoder": decoder,
            "decoder_fit": fits, "parts": folders,
        });
        context.print(&report, text)?;
        Ok(Exit::Success)
    }

    fn text(&self, folders: &[ModelFolder]) -> String {
        let mut text = String::new();
        for folder in folders {
            let class = folder.class.as_deref().unwrap_or("no class named");
            text += &format!("\n{}  {class}\n", folder.name);
            for (key, value) in &folder.config {
                let value = table::shorten(&value.to_string(), 70);
                text += &format!("    {key:<34} {value}\n");
            }
            for file in &folder.weights {
                let dtypes: Vec<String> =
                    file.dtypes.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect();
                text += &format!(
                    "    {}: {} parameters in {} tensors ({}), {}\n",
                    file.name,
                    file.parameters,
                    file.tensors.len(),
                    dtypes.join(", "),
                    table::bytes(file.bytes)
                );
                for tensor in file.tensors.iter().filter(|_| self.tensors) {
                    text += &format!("      {} {} {:?}\n", tensor.name, tensor.dtype, tensor.shape);
                }
            }
        }
        text
    }
}

/// What a folder is to Haze, where it is something whole.
struct Cards {
    encoder: Option<EncoderCard>,
    decoder: Option<DecoderCard>,
}

impl Cards {
    /// A folder that is no encoder has no encoder card; a damaged encoder is an error.
    fn of(path: &Path) -> Result<Self, SessionError> {
        let encoder = match EncoderKind::of_folder(path) {
            Ok(_) => Some(EncoderCard::read(path)?),
            Err(_) => None,
        };
        let decoder = match path.is_dir() {
            true => DecoderCard::read(path)?,
            false => None,
        };
        Ok(Self { encoder, decoder })
    }

    fn text(&self, fits: Option<&Fit>) -> String {
        let encoder = self.encoder.iter().flat_map(EncoderCard::rows);
        let decoder = self.decoder.iter().flat_map(DecoderCard::rows);
        let fits = fits.map(|fit| {
            let words = match fit {
                Fit::Same => "yes: the vision towers are the same".to_owned(),
                Fit::Unproven(reason) => format!("perhaps: {reason}"),
                Fit::Different(reason) => format!("no: {reason}"),
            };
            ("fits the decoder", words)
        });
        let rows: Vec<(&str, String)> = encoder.chain(decoder).chain(fits).collect();
        let lines = rows.iter().map(|(name, value)| format!("  {name:<16}  {value}\n"));
        match rows.is_empty() {
            true => String::new(),
            false => format!("\n{}", lines.collect::<String>()),
        }
    }
}
