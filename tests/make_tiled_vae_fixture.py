"""Writes tests/fixtures/vae/autoencoder_kl/tiled/expected.safetensors: latents, and the images that
diffusers decodes them to in tiles (AutoencoderKL.enable_vae_tiling).

Run in the root of the repository, with torch, diffusers and safetensors installed:
    python tests/make_tiled_vae_fixture.py
"""

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

FOLDER = "tests/fixtures/vae/autoencoder_kl"

vae = AutoencoderKL.from_pretrained(FOLDER).eval()
vae.enable_tiling()
# Two rows and three columns of tiles; the last of each is smaller than the others.
latents = torch.randn(2, 4, 11, 15, generator=torch.Generator().manual_seed(7))
with torch.no_grad():
    images = vae.decode(latents).sample
assert vae.tile_latent_min_size == 8, vae.tile_latent_min_size
save_file(
    {"latents": latents, "images": images.contiguous()}, f"{FOLDER}/tiled/expected.safetensors"
)
