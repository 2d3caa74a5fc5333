//! Pictures on the graphics device: tiles of results, and thumbnails of image files, which are
//! read by workers and forgotten when they were not seen for long.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};

use egui::{ColorImage, Context, TextureHandle, TextureOptions};
use image::RgbImage;

use crate::query::{AlphaPolicy, read_image};

/// Threads that read image files.
const READERS: usize = 2;
/// Edge of a thumbnail in pixels.
pub const THUMBNAIL_SIDE: u32 = 192;
/// Bytes of textures that are kept.
const BUDGET: usize = 64 << 20;
/// Thumbnails uploaded in one frame.
const UPLOADS: usize = 8;
/// Pixels of pictures in memory that are scaled and uploaded in one frame: about 2 ms of work.
const TILE_PIXELS: usize = 4 << 20;
/// Edges that large pictures are scaled down to, so that a scaled one is not resampled at every
/// change of the tile size.
const STEPS: [u32; 5] = [96, 192, 384, 768, 1536];
/// How much of its colour an unfinished picture loses.
const UNFINISHED_GREY: f32 = 0.15;

/// How a picture in memory is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Longer edge on screen in pixels; larger pictures are scaled down before they are uploaded.
    pub side: u32,
    /// Paler, so that nobody takes an unfinished picture for a result.
    pub unfinished: bool,
    /// Square pixels instead of smoothing, where a picture is shown larger than it is.
    pub pixels: bool,
}

/// A texture and the content it shows.
struct Slot {
    texture: TextureHandle,
    version: u64,
    look: Option<Look>,
    last_seen: u64,
    bytes: usize,
}

/// What is known of an image file.
enum Thumbnail {
    Asked,
    Ready(Slot),
    Failed(String),
}

/// What [`Textures::thumbnail`] gives.
pub enum ThumbnailState {
    Loading,
    Ready(TextureHandle),
    /// Why the file cannot be shown.
    Failed(String),
}

type Read = (PathBuf, Result<RgbImage, String>);

/// The cache.
pub struct Textures {
    context: Context,
    frame: u64,
    /// Pixels that may still be uploaded in this frame.
    tile_pixels: usize,
    tiles: HashMap<egui::Id, Slot>,
    thumbnails: HashMap<PathBuf, Thumbnail>,
    ask: Sender<PathBuf>,
    read: Receiver<Read>,
}

impl Textures {
    pub fn new(context: &Context) -> Self {
        let (ask, asked) = std::sync::mpsc::channel::<PathBuf>();
        let (send, read) = std::sync::mpsc::channel::<Read>();
        let asked = Arc::new(Mutex::new(asked));
        for number in 0..READERS {
            let (asked, send, context) = (Arc::clone(&asked), send.clone(), context.clone());
            let work = move || {
                loop {
                    let next = asked.lock().map(|asked| asked.recv());
                    let Ok(Ok(path)) = next else { return };
                    let image = thumbnail(&path);
                    if send.send((path, image)).is_err() {
                        return;
                    }
                    context.request_repaint_of(egui::ViewportId::ROOT);
                }
            };
            // Without readers thumbnails stay empty; nothing else depends on them.
            let _ = std::thread::Builder::new().name(format!("thumbnails {number}")).spawn(work);
        }
        Self {
            context: context.clone(),
            frame: 0,
            tile_pixels: TILE_PIXELS,
            tiles: HashMap::new(),
            thumbnails: HashMap::new(),
            ask,
            read,
        }
    }

    /// Takes in what the readers have read and forgets what was not seen for long. Once a frame.
    pub fn begin_frame(&mut self) {
        self.frame += 1;
        self.tile_pixels = TILE_PIXELS;
        for (path, image) in self.read.try_iter().take(UPLOADS) {
            let state = match image {
                Ok(image) => {
                    let name = path.display().to_string();
                    Thumbnail::Ready(upload(&self.context, &name, &image, 0, self.frame))
                }
                Err(reason) => Thumbnail::Failed(reason),
            };
            self.thumbnails.insert(path, state);
        }
        self.evict();
    }

    /// The texture of a picture that lives in memory. `id` names the place, `version` the content.
    pub fn picture(&mut self, id: egui::Id, version: u64, image: &RgbImage) -> TextureHandle {
        let frame = self.frame;
        let slot = self.tiles.get_mut(&id).filter(|slot| {
            slot.texture.size() == [image.width() as usize, image.height() as usize]
        });
        match slot {
            Some(slot) => {
                slot.last_seen = frame;
                if slot.version != version {
                    slot.version = version;
                    slot.texture.set_partial([0, 0], colour_image(image), options());
                }
                slot.texture.clone()
            }
            None => {
                let slot = upload(&self.context, "picture", image, version, frame);
                let texture = slot.texture.clone();
                self.tiles.insert(id, slot);
                texture
            }
        }
    }

    /// As [`Textures::picture`], scaled down to the size it is shown at. Only so many pictures are
    /// uploaded in one frame: beyond that it is the picture as it was before, or in another size,
    /// if there was one, and another frame is asked for.
    pub fn tile(
        &mut self,
        id: egui::Id,
        version: u64,
        image: &RgbImage,
        look: Look,
    ) -> Option<TextureHandle> {
        let limit = self.context.input(|input| input.max_texture_side);
        let look = Look { side: step(look.side, image).min(limit as u32), ..look };
        // One texture for each size: two panes may show the same picture at once.
        let place = |side: u32| id.with((side, look.pixels));
        let id = place(look.side);
        if let Some(slot) = self.tiles.get_mut(&id) {
            slot.last_seen = self.frame;
            if slot.version == version && slot.look == Some(look) {
                return Some(slot.texture.clone());
            }
        }
        if self.tile_pixels == 0 {
            self.context.request_repaint();
            let other = std::iter::once(id).chain(STEPS.map(place));
            let kept = other.filter_map(|id| self.tiles.get(&id)).next();
            return kept.map(|slot| slot.texture.clone());
        }
        let pixels = image.width() as usize * image.height() as usize;
        self.tile_pixels = self.tile_pixels.saturating_sub(pixels);
        let content = content(image, look);
        let options = if look.pixels { pixel_options() } else { options() };
        if let Some(slot) = self.tiles.get_mut(&id)
            && slot.texture.size() == content.size
        {
            slot.version = version;
            slot.look = Some(look);
            slot.texture.set_partial([0, 0], content, options);
            return Some(slot.texture.clone());
        }
        let slot = Slot {
            version,
            look: Some(look),
            last_seen: self.frame,
            bytes: content.size[0] * content.size[1] * 4,
            texture: self.context.load_texture("tile", content, options),
        };
        let texture = slot.texture.clone();
        self.tiles.insert(id, slot);
        Some(texture)
    }

    /// The thumbnail of an image file; the first call asks for it.
    pub fn thumbnail(&mut self, path: &Path) -> ThumbnailState {
        match self.thumbnails.get_mut(path) {
            Some(Thumbnail::Ready(slot)) => {
                slot.last_seen = self.frame;
                ThumbnailState::Ready(slot.texture.clone())
            }
            Some(Thumbnail::Asked) => ThumbnailState::Loading,
            Some(Thumbnail::Failed(reason)) => ThumbnailState::Failed(reason.clone()),
            None => {
                self.thumbnails.insert(path.to_owned(), Thumbnail::Asked);
                let _ = self.ask.send(path.to_owned());
                ThumbnailState::Loading
            }
        }
    }

    /// Bytes of all textures held.
    pub fn bytes(&self) -> usize {
        let thumbnails = self.thumbnails.values().map(|thumbnail| match thumbnail {
            Thumbnail::Ready(slot) => slot.bytes,
            _ => 0,
        });
        self.tiles.values().map(|slot| slot.bytes).sum::<usize>() + thumbnails.sum::<usize>()
    }

    fn evict(&mut self) {
        if self.bytes() <= BUDGET {
            return;
        }
        // Keep what was seen in the last frames; of the rest, drop all: it is read again quickly.
        let recent = self.frame.saturating_sub(120);
        self.tiles.retain(|_, slot| slot.last_seen >= recent);
        self.thumbnails.retain(|_, thumbnail| match thumbnail {
            Thumbnail::Ready(slot) => slot.last_seen >= recent,
            _ => true,
        });
    }
}

fn thumbnail(path: &Path) -> Result<RgbImage, String> {
    let read = || -> Result<RgbImage, String> {
        let image = read_image(path).map_err(|error| error.to_string())?;
        let image = image.to_rgb(AlphaPolicy::White);
        let side = image.width().max(image.height());
        if side <= THUMBNAIL_SIDE {
            return Ok(image);
        }
        let scale = f64::from(THUMBNAIL_SIDE) / f64::from(side);
        let scaled = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
        Ok(image::imageops::thumbnail(&image, scaled(image.width()), scaled(image.height())))
    };
    // Decoders may panic on hostile files.
    std::panic::catch_unwind(read)
        .unwrap_or_else(|_| Err(format!("{}: the image decoder failed", path.display())))
}

fn upload(context: &Context, name: &str, image: &RgbImage, version: u64, frame: u64) -> Slot {
    Slot {
        texture: context.load_texture(name, colour_image(image), options()),
        version,
        look: None,
        last_seen: frame,
        bytes: image.width() as usize * image.height() as usize * 4,
    }
}

fn options() -> TextureOptions {
    TextureOptions::LINEAR
}

/// Square pixels when enlarged, smooth when scaled down.
fn pixel_options() -> TextureOptions {
    TextureOptions { magnification: egui::TextureFilter::Nearest, ..TextureOptions::LINEAR }
}

/// The smallest step that is not below `side`, or the picture's own size if that is smaller.
fn step(side: u32, image: &RgbImage) -> u32 {
    let own = image.width().max(image.height());
    STEPS.into_iter().find(|&step| step >= side).map_or(own, |step| step.min(own))
}

/// The pixels that are uploaded for a look.
fn content(image: &RgbImage, look: Look) -> ColorImage {
    let own = image.width().max(image.height());
    let scaled;
    let image = if look.side < own {
        let edge = |length: u32| {
            ((u64::from(length) * u64::from(look.side) / u64::from(own)) as u32).max(1)
        };
        scaled = image::imageops::thumbnail(image, edge(image.width()), edge(image.height()));
        &scaled
    } else {
        image
    };
    let mut content = colour_image(image);
    if look.unfinished {
        for pixel in &mut content.pixels {
            *pixel = paler(*pixel);
        }
    }
    content
}

/// A colour moved towards the grey of the same luma (Rec. 601).
fn paler(colour: egui::Color32) -> egui::Color32 {
    let [r, g, b] = [colour.r(), colour.g(), colour.b()].map(f32::from);
    let grey = 0.299 * r + 0.587 * g + 0.114 * b;
    let [r, g, b] = [r, g, b].map(|c| (c + UNFINISHED_GREY * (grey - c)).round() as u8);
    egui::Color32::from_rgb(r, g, b)
}

/// Pixels as egui takes them.
pub fn colour_image(image: &RgbImage) -> ColorImage {
    ColorImage::from_rgb([image.width() as usize, image.height() as usize], image.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(side: u32) -> Look {
        Look { side, unfinished: false, pixels: false }
    }

    #[test]
    fn a_picture_is_scaled_down_to_the_next_step_and_never_up() {
        let image = RgbImage::new(800, 400);
        assert_eq!(step(100, &image), 192);
        assert_eq!(step(192, &image), 192);
        assert_eq!(step(790, &image), 800);
        assert_eq!(step(4000, &image), 800);
        assert_eq!(content(&image, look(192)).size, [192, 96]);
        assert_eq!(content(&image, look(800)).size, [800, 400]);
    }

    #[test]
    fn an_unfinished_picture_keeps_greys_and_loses_colour() {
        use egui::Color32;
        assert_eq!(paler(Color32::from_rgb(90, 90, 90)), Color32::from_rgb(90, 90, 90));
        let red = paler(Color32::from_rgb(255, 0, 0));
        assert!(red.r() < 255 && red.g() > 0 && red.r() > 200, "{red:?}");
    }

    #[test]
    fn uploads_of_one_frame_are_bounded_and_go_on_in_the_next() {
        let context = Context::default();
        let mut textures = Textures::new(&context);
        let image = RgbImage::new(2048, 1024);
        textures.begin_frame();
        let ask = |textures: &mut Textures, id: u32| {
            textures.tile(egui::Id::unique(("tile", id)), 0, &image, look(96))
        };
        assert!(ask(&mut textures, 0).is_some());
        assert!(ask(&mut textures, 1).is_some());
        assert!(ask(&mut textures, 2).is_none());
        // What is there already costs nothing.
        assert!(ask(&mut textures, 0).is_some());
        textures.begin_frame();
        assert!(ask(&mut textures, 2).is_some());
    }
}
