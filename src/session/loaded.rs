//! Models that are loaded, and the check that those of a recipe fit each other.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::assets::Assets;
use super::card::{Fit, fit};
use super::error::SessionError;
use super::event::Event;
use super::galleries::Gallery;
use super::recipe::{self, Decoding, ModelRef, Models, Recipe};
use super::{Job, fingerprint};
use crate::adapter::bridge::Bridge;
use crate::adapter::{Adapter, PromptAdapter};
use crate::decoder::prior::Prior;
use crate::decoder::{PromptEncoder, PromptPipeline, UnClipPipeline, noising};
use crate::encoder::{Encoder, Modality};
use crate::model::device::ComputeDevice;
use crate::model::precision::Precision;

/// The model of each role that was used last. Each role has a lock of its own: loading a decoder
/// does not hold up who needs an encoder.
#[derive(Default)]
pub struct Loaded {
    encoder: Slot<Encoder>,
    adapter: Slot<Adapter>,
    bridge: Slot<Bridge>,
    prior: Slot<Prior>,
    prior_draws: Mutex<Option<PriorDraws>>,
    decoder: Slot<UnClipPipeline>,
    prompt_encoder: Slot<PromptEncoder>,
    prompt_adapter: Slot<PromptAdapter>,
    prompt_decoder: Slot<PromptPipeline>,
    gallery: Mutex<Option<Arc<Gallery>>>,
    /// The encoder and decoder that were compared last, and what was found.
    spaces: Mutex<Option<(PathBuf, PathBuf, Fit)>>,
}

/// The last draws from a prior, which take long and do not change with what is listed or decoded.
struct PriorDraws {
    /// The prior's hash, the text, and the numbers.
    key: String,
    values: Vec<Vec<f32>>,
}

type Slot<T> = Mutex<Option<Cached<T>>>;

struct Cached<T> {
    path: PathBuf,
    hash: String,
    model: Arc<T>,
}

impl Loaded {
    pub fn encoder(
        &self,
        reference: &mut ModelRef,
        assets: &Assets,
        device: &ComputeDevice,
        job: &mut Job<'_>,
    ) -> Result<Arc<Encoder>, SessionError> {
        get(&self.encoder, "encoder", reference, assets, Some(device), job, |path| {
            Ok(Encoder::load(path, &device.device)?)
        })
    }

    pub fn adapter(
        &self,
        reference: &mut ModelRef,
        assets: &Assets,
        device: &ComputeDevice,
        job: &mut Job<'_>,
    ) -> Result<Arc<Adapter>, SessionError> {
        get(&self.adapter, "adapter", reference, assets, Some(device), job, |path| {
            Ok(Adapter::load(path, &device.device)?)
        })
    }

    pub fn bridge(
        &self,
        reference: &mut ModelRef,
        assets: &Assets,
        job: &mut Job<'_>,
    ) -> Result<Arc<Bridge>, SessionError> {
        get(&self.bridge, "bridge", reference, assets, None, job, |path| Ok(Bridge::load(path)?))
    }

    pub fn prior(
        &self,
        reference: &mut ModelRef,
        assets: &Assets,
        device: &ComputeDevice,
        job: &mut Job<'_>,
    ) -> Result<Arc<Prior>, SessionError> {
        get(&self.prior, "prior", reference, assets, Some(device), job, |path| {
            Ok(Prior::load(path, &device.device)?)
        })
    }

    /// The draws of that key, made only when they are not those that were made last.
    pub fn prior_draws(
        &self,
        key: String,
        draw: impl FnOnce() -> Result<Vec<Vec<f32>>, SessionError>,
    ) -> Result<Vec<Vec<f32>>, SessionError> {
        if let Some(last) = lock(&self.prior_draws).as_ref().filter(|last| last.key == key) {
            return Ok(last.values.clone());
        }
        let values = draw()?;
        *lock(&self.prior_draws) = Some(PriorDraws { key, values: values.clone() });
        Ok(values)
    }

    /// The decoder, in the precision that `decoding` asks for. What it computes in is written into
    /// `decoding`, with a warning where that is another one than the recipe names.
    pub fn decoder(
        &self,
        reference: &mut ModelRef,
        decoding: &mut Decoding,
        assets: &Assets,
        device: &ComputeDevice,
        job: &mut Job<'_>,
    ) -> Result<Arc<UnClipPipeline>, SessionError> {
        let precision = precision(decoding, device, job)?;
        lock(&self.decoder).take_if(|cached| cached.model.precision() != precision);
        let decoder =
            get(&self.decoder, "decoder", reference, assets, Some(device), job, |path| {
                Ok(UnClipPipeline::load_in(path, &device.device, precision)?)
            })?;
        decoding.precision = decoder.precision().into();
        Ok(decoder)
    }

    /// The text encoder of a Stable Diffusion folder.
    pub fn prompt_encoder(
        &self,
        reference: &mut ModelRef,
        assets: &Assets,
        device: &ComputeDevice,
        job: &mut Job<'_>,
    ) -> Result<Arc<PromptEncoder>, SessionError> {
        get(&self.prompt_encoder, "encoder", reference, assets, Some(device), job, |path| {
            Ok(PromptEncoder::load(path, &device.device)?)
        })
    }

    /// An adapter of prompt embeddings: a folder or a state dict.
    pub fn prompt_adapter(
        &self,
        reference: &mut ModelRef,
        assets: &Assets,
        device: &ComputeDevice,
        job: &mut Job<'_>,
    ) -> Result<Arc<PromptAdapter>, SessionError> {
        get(&self.prompt_adapter, "adapter", reference, assets, Some(device), job, |path| {
            Ok(PromptAdapter::load(path, &device.device)?)
        })
    }

    /// The Stable Diffusion folder that is both decoder and encoder of a route by prompt
    /// embeddings; its text encoder is loaded once for both. The precision is that of
    /// [`Self::decoder`].
    pub fn prompt_decoder(
        &self,
        models: &mut Models,
        decoding: &mut Decoding,
        assets: &Assets,
        device: &ComputeDevice,
        job: &mut Job<'_>,
    ) -> Result<Arc<PromptPipeline>, SessionError> {
        let text = self.prompt_encoder(&mut models.encoder, assets, device, job)?;
        let reference = models
            .decoder
            .as_mut()
            .ok_or_else(|| SessionError::Mismatch("the recipe names no decoder".to_owned()))?;
        let precision = precision(decoding, device, job)?;
        lock(&self.prompt_decoder).take_if(|cached| cached.model.precision() != precision);
        let decoder =
            get(&self.prompt_decoder, "decoder", reference, assets, Some(device), job, |path| {
                Ok(PromptPipeline::load_with(path, text, &device.device, precision)?)
            })?;
        decoding.precision = decoder.precision().into();
        Ok(decoder)
    }

    /// Checks that the decoder of a recipe was trained on the image embeddings of its encoder. Gives
    /// a warning where that cannot be told.
    ///
    /// # Errors
    /// When it was trained on others; says why, and the nearest pair that works.
    pub fn check_spaces(
        &self,
        recipe: &Recipe,
        assets: &Assets,
    ) -> Result<Option<String>, SessionError> {
        let Some(decoder) = &recipe.models.decoder else { return Ok(None) };
        let encoder = assets.resolve(&recipe.models.encoder.path, "encoder")?;
        let decoder = assets.resolve(&decoder.path, "decoder")?;
        let mut last = lock(&self.spaces);
        let found = match last.take().filter(|(e, d, _)| *e == encoder && *d == decoder) {
            Some((_, _, found)) => found,
            None => fit(&encoder, &decoder)?,
        };
        let (e, d) = (encoder.display(), decoder.display());
        let result = match &found {
            Fit::Same => Ok(None),
            Fit::Unproven(reason) => Ok(Some(format!(
                "it is not certain that the decoder {d} draws what the encoder {e} means: {reason}"
            ))),
            Fit::Different(reason) => Err(SessionError::Mismatch(format!(
                "the decoder {d} cannot draw the embeddings of the encoder {e}: {reason}"
            ))),
        };
        *last = Some((encoder, decoder, found));
        result
    }

    /// A gallery is opened anew when its content or the encoder changed.
    pub fn gallery(
        &self,
        reference: &mut ModelRef,
        encoder_reference: &ModelRef,
        assets: &Assets,
        encoder: &Encoder,
        job: &mut Job<'_>,
    ) -> Result<Arc<Gallery>, SessionError> {
        let unchanged = |gallery: &Arc<Gallery>| {
            gallery.path == reference.path && gallery.encoder_hash == encoder_reference.hash
        };
        let mut slot = lock(&self.gallery);
        let gallery = match slot.take().filter(unchanged) {
            Some(gallery) => gallery,
            None => Arc::new(Gallery::open(reference, encoder_reference, assets, encoder, job)?),
        };
        note_hash("gallery", reference, &gallery.hash, job)?;
        *slot = Some(Arc::clone(&gallery));
        Ok(gallery)
    }
}

/// The cached model of that path, or a fresh one. Fills in the reference's hash; warns when the
/// recipe was made with other files. Says what travels when `device` is on another machine.
fn get<T>(
    slot: &Slot<T>,
    what: &'static str,
    reference: &mut ModelRef,
    assets: &Assets,
    device: Option<&ComputeDevice>,
    job: &mut Job<'_>,
    load: impl FnOnce(&Path) -> Result<T, SessionError>,
) -> Result<Arc<T>, SessionError> {
    let path = assets.resolve(&reference.path, what)?;
    reference.path = assets.pin(&reference.path);
    let mut slot = lock(slot);
    let cached = match slot.take().filter(|cached| cached.path == path) {
        Some(cached) => cached,
        None => {
            if let Some(server) = device.and_then(|device| device.remote.as_ref()) {
                let mebibytes = weight_bytes(&path) as f64 / f64::from(1 << 20);
                job.tell(Event::Warning(format!(
                    "the weights of the {what} (files of {mebibytes:.1} MiB) travel to {server} \
                     now and stay there while Haze runs"
                )))?;
            }
            let model = Arc::new(load(&path)?);
            Cached { hash: fingerprint::of_folder(&path)?, path, model }
        }
    };
    note_hash(what, reference, &cached.hash, job)?;
    let model = Arc::clone(&cached.model);
    *slot = Some(cached);
    Ok(model)
}

/// Bytes of the weight files in a model folder and the folders right below it, without those that
/// a decoder does not read. Of several forms of the same weights, the preferred one counts.
fn weight_bytes(folder: &Path) -> u64 {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of_files = |folder: &Path| {
        let sum = |ending: &str, variant: bool| -> u64 {
            entries(folder)
                .filter(|entry| {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    name.ends_with(ending) && name.contains(".fp16.") == variant
                })
                .filter_map(|entry| entry.metadata().ok())
                .map(|file| file.len())
                .sum()
        };
        let forms =
            [".safetensors", ".bin", ".pth"].map(|ending| [false, true].map(|v| (ending, v)));
        forms.concat().into_iter().map(|(ending, v)| sum(ending, v)).find(|&n| n > 0).unwrap_or(0)
    };
    let below = entries(folder)
        .filter(|entry| entry.file_name() != "image_encoder" && entry.path().is_dir())
        .map(|entry| of_files(&entry.path()))
        .sum::<u64>();
    of_files(folder) + below
}

/// A slot whose last holder panicked is empty or holds a whole model: either can be used.
fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a decoder is to compute in. One in another precision is another model.
fn precision(
    decoding: &Decoding,
    device: &ComputeDevice,
    job: &mut Job<'_>,
) -> Result<Precision, SessionError> {
    let precision = device.precision(decoding.precision)?;
    if let Some(named) = decoding.precision.named().filter(|named| *named != precision) {
        job.tell(Event::Warning(format!(
            "the decoder computes in {precision} on {}, not in {named}; the result differs a \
             little from one made in {named}",
            device.label
        )))?;
    }
    Ok(precision)
}

/// Writes the hash of what is used into the reference; warns when the recipe named another.
pub fn note_hash(
    what: &'static str,
    reference: &mut ModelRef,
    hash: &str,
    job: &mut Job<'_>,
) -> Result<(), SessionError> {
    if !reference.hash.is_empty() && reference.hash != hash {
        job.tell(Event::Warning(format!(
            "the {what} {} is not the one the recipe was made with (BLAKE3 {}, expected {}); the \
             result will differ",
            reference.path.display(),
            short(hash),
            short(&reference.hash)
        )))?;
    }
    reference.hash = hash.to_owned();
    Ok(())
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// Checks that query, encoder, adapter, bridge and decoder speak of the same spaces.
///
/// # Errors
/// Names the two that do not fit, and what to change.
pub fn check_route(
    recipe: &Recipe,
    encoder: &Encoder,
    adapter: &Adapter,
    bridge: Option<&Bridge>,
) -> Result<(), SessionError> {
    let mismatch = |text: String| Err(SessionError::Mismatch(text));
    let modality = recipe.query.modality();
    let path = recipe.models.adapter.as_ref().map(|adapter| adapter.path.as_path());
    let named = path.unwrap_or(Path::new("")).display();
    if adapter.input_modality() != modality {
        return mismatch(format!(
            "the adapter {named} reads {} embeddings, but the query is {modality}; name another by \
             --adapter, or none to take the bundle's",
            adapter.input_modality()
        ));
    }
    if adapter.dim() != encoder.dim() {
        return mismatch(format!(
            "the adapter {named} reads embeddings of {} dimensions, the encoder makes {}; use the \
             encoder that the adapter was trained with",
            adapter.dim(),
            encoder.dim()
        ));
    }
    let output = adapter.output_modality();
    match recipe.models.bridge {
        recipe::Bridge::CrossModal if output != Modality::Image => mismatch(format!(
            "the bridge is cross-modal, but the adapter {named} predicts {output} embeddings; name a \
             text to image adapter, or --bridge linear-map, mean-shift or none"
        )),
        recipe::Bridge::LinearMap | recipe::Bridge::MeanShift if output == Modality::Image => {
            mismatch(format!(
                "the adapter {named} predicts image embeddings already; a {} bridge is for text \
                 embeddings, use --bridge {}",
                recipe.models.bridge,
                if modality == Modality::Text { "cross-modal" } else { "none" }
            ))
        }
        _ => match bridge {
            Some(bridge) if bridge.config().input_dim != adapter.dim() => mismatch(format!(
                "the bridge maps {} dimensions, the adapter {named} predicts {}; fit it again with \
                 haze train",
                bridge.config().input_dim,
                adapter.dim()
            )),
            _ => Ok(()),
        },
    }
}

/// Checks that a prior makes embeddings of the encoder's and the decoder's space. The decoder is not
/// loaded for it.
///
/// # Errors
/// Names the two that do not fit, and which would.
pub fn check_prior(
    recipe: &Recipe,
    assets: &Assets,
    encoder: &Encoder,
    prior: &Prior,
) -> Result<(), SessionError> {
    let dim = prior.embedding_dim();
    let decoder = match &recipe.models.decoder {
        Some(model) => {
            let path = assets.resolve(&model.path, "decoder")?;
            Some((noising::embedding_dim(&path)?, "decodes", model.path.display()))
        }
        None => None,
    };
    let encoder = (encoder.dim(), "makes", recipe.models.encoder.path.display());
    for (role, (found, does, path)) in [("encoder", Some(encoder)), ("decoder", decoder)]
        .into_iter()
        .filter_map(|(role, model)| model.map(|model| (role, model)))
    {
        if found != dim {
            return Err(SessionError::Mismatch(format!(
                "the prior makes image embeddings of {dim} dimensions, but the {role} {path} {does} \
                 {found}: they are not of one space. Karlo's prior (768, CLIP ViT-L/14) goes with \
                 the encoder openai/clip-vit-large-patch14 and the decoder \
                 stable-diffusion-2-1-unclip-small; for other decoders use another --bridge"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::recipe::{Bridge, Models, RecipeQuery};

    fn recipe(encoder: &Path, decoder: Option<&Path>) -> Recipe {
        let models = Models {
            encoder: ModelRef::new(encoder),
            adapter: Some(ModelRef::new("none")),
            bridge: Bridge::None,
            bridge_model: None,
            decoder: decoder.map(ModelRef::new),
            gallery: None,
        };
        Recipe::new(RecipeQuery::Text("a cat".to_owned()), models)
    }

    #[test]
    fn a_decoder_of_another_space_is_refused_with_a_pair_that_works() {
        let (assets, loaded) = (Assets::find(None).unwrap(), Loaded::default());
        let (clip, unclip) = (Path::new("demo/clip"), Path::new("demo/unclip"));
        assert_eq!(loaded.check_spaces(&recipe(clip, Some(unclip)), &assets).unwrap(), None);
        let blip = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/blip/itc");
        assert_eq!(loaded.check_spaces(&recipe(&blip, None), &assets).unwrap(), None);
        for _ in 0..2 {
            let error = loaded.check_spaces(&recipe(&blip, Some(unclip)), &assets).unwrap_err();
            for part in ["demo/unclip", "blip", "demo/clip"] {
                assert!(error.to_string().contains(part), "{part}: {error}");
            }
        }
        assert_eq!(loaded.check_spaces(&recipe(clip, Some(unclip)), &assets).unwrap(), None);
    }

    #[test]
    fn a_decoder_that_does_not_say_its_space_is_used_with_a_warning() {
        let (assets, loaded) = (Assets::find(None).unwrap(), Loaded::default());
        let folder = tempfile::tempdir().unwrap();
        let normalizer = folder.path().join("image_normalizer");
        std::fs::create_dir(&normalizer).unwrap();
        std::fs::write(normalizer.join("config.json"), r#"{"embedding_dim": 192}"#).unwrap();
        let recipe = recipe(Path::new("demo/clip"), Some(folder.path()));
        let warning = loaded.check_spaces(&recipe, &assets).unwrap().unwrap();
        assert!(warning.contains("not certain") && warning.contains("image_encoder"), "{warning}");
    }

    #[test]
    fn weights_are_counted_once_where_a_folder_holds_them_in_several_forms() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: usize| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![0; bytes]).unwrap();
        };
        write("unet/model-00001-of-00002.safetensors", 100);
        write("unet/model-00002-of-00002.safetensors", 50);
        write("unet/model.fp16.safetensors", 75);
        write("unet/model.bin", 150);
        write("vae/model.fp16.safetensors", 7);
        write("image_encoder/model.safetensors", 1000);
        write("model_index.json", 10_000);
        assert_eq!(weight_bytes(folder.path()), 157);
        assert_eq!(weight_bytes(&folder.path().join("missing")), 0);
    }
}
