//! `haze decode`: embeddings (or images, by their embeddings) to images.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde_json::json;

use super::embed::load_encoder;
use super::exit::usage;
use super::options::DecodingOptions;
use super::progress::Progress;
use super::{Context, Exit};
use crate::decoder::{DecodeOptions, UnClipPipeline};
use crate::export::arrays::read_rows;
use crate::export::folder::tile_name;
use crate::export::metadata::write_png;
use crate::files::create_folder;
use crate::query::{AlphaPolicy, read_image};
use crate::session::SessionError;
use crate::session::recipe::{Decoding, MAX_SAMPLES};
use crate::session::request::or_demo;

/// Decode embeddings (.npy, .npz) or images to images
#[derive(Debug, Args)]
pub struct Decode {
    /// Image embeddings `[N, D]`, not normalised (.npy, .npz), or image files to go through their
    /// embeddings
    #[arg(value_name = "INPUT", required = true, value_hint = ValueHint::FilePath)]
    inputs: Vec<PathBuf>,
    /// Name of the array in an .npz file [default: embeddings, else samples]
    #[arg(long, value_name = "NAME")]
    array: Option<String>,
    /// Folder for the images; must be new or empty
    #[arg(long, short, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: PathBuf,
    /// Seed of the decoder's noise
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// Diffusers folder of the unCLIP decoder [default: the demo bundle's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    decoder: Option<PathBuf>,
    /// Hugging Face folder of the encoder, for image inputs [default: the demo bundle's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    encoder: Option<PathBuf>,
    #[command(flatten)]
    decoding: DecodingOptions,
}

impl Decode {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let occupied = std::fs::read_dir(&self.out).is_ok_and(|mut e| e.next().is_some());
        if occupied || self.out.is_file() {
            let out = self.out.display();
            return Err(usage(format!("{out}: already exists; choose another folder")));
        }
        let embeddings = self.embeddings(context)?;
        if embeddings.len() > MAX_SAMPLES {
            return Err(usage(format!(
                "{} embeddings, at most {MAX_SAMPLES} can be decoded at a time",
                embeddings.len()
            )));
        }
        let progress = Progress::new(context.options.quiet);
        progress.start("load decoder");
        let named = or_demo(self.decoder.as_deref(), "unclip");
        let path = context.assets()?.resolve(&named, "decoder")?;
        let device = context.device()?;
        let precision = device
            .precision(self.decoding.precision.unwrap_or_default())
            .map_err(SessionError::from)?;
        let decoder = UnClipPipeline::load_in(&path, &device.device, precision)
            .map_err(SessionError::from)?;
        progress.start("decode");
        let images = decoder
            .decode(&embeddings, &self.options(), &mut |step| {
                let done = step.batch * step.steps + step.step;
                progress.advance(done, step.batches * step.steps);
                context.interrupt.flow()
            })
            .map_err(SessionError::from)?;
        progress.finish();
        create_folder(&self.out).map_err(SessionError::from)?;
        let mut files = Vec::with_capacity(images.len());
        for (i, image) in images.iter().enumerate() {
            let file = self.out.join(tile_name(i));
            write_png(&file, image).map_err(SessionError::from)?;
            files.push(file);
        }
        let text = format!("Wrote {} images to {}\n", files.len(), self.out.display());
        context.print(&json!({ "out": self.out, "images": files }), text)?;
        Ok(Exit::Success)
    }

    fn options(&self) -> DecodeOptions {
        let defaults = Decoding::default();
        let decoding = &self.decoding;
        DecodeOptions {
            scheduler: decoding.scheduler,
            steps: decoding.steps.unwrap_or(defaults.steps),
            guidance_scale: decoding.guidance.unwrap_or(defaults.guidance_scale),
            noise_level: decoding.noise_level.unwrap_or(defaults.noise_level),
            prompt: decoding.prompt.clone().unwrap_or_default(),
            seed: self.seed,
            independent_noise: decoding.independent_noise,
            batch_size: decoding.batch_size,
            vae_tiling: decoding.vae_tiling.unwrap_or_default(),
            ..DecodeOptions::default()
        }
    }

    /// One row per embedding, in the order of the inputs.
    fn embeddings(&self, context: &Context) -> anyhow::Result<Vec<Vec<f32>>> {
        let mut rows = Vec::new();
        let mut encoder = None;
        for path in &self.inputs {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("npy" | "npz") => rows.extend(read_rows(path, self.array.as_deref())?),
                _ => {
                    let image = read_image(path).map_err(SessionError::from)?;
                    let encoder = match &mut encoder {
                        Some(encoder) => encoder,
                        None => encoder.insert(load_encoder(self.encoder.as_deref(), context)?),
                    };
                    let embedded = encoder
                        .embed_images(&[image.to_rgb(AlphaPolicy::default())])
                        .map_err(SessionError::from)?;
                    rows.extend(embedded.into_iter().map(|embedding| embedding.values));
                }
            }
        }
        Ok(rows)
    }
}
