"""From nothing to a `StableDiffusionPipeline`, and the two networks that judge it.

model.py          the three stages: words, VAE, UNet
stages.py         what the UNet sees, in which order, and for how long
latents.py        scenes as latents, in batches
text_table.py     word vectors, distilled
autoencoder.py    the VAE and its loss
denoiser.py       the UNet and its loss
replay.py         a training step as one CUDA graph
oracle.py         a segmenter that saw exact masks
clip_training.py  a tiny CLIP of scenes
"""
