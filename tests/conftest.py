"""Small pipelines with random weights and real tokenizers, built in the process: no download, no GPU."""

import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the network is a mistake
os.environ.setdefault("OVAMNB_PROGRESS", "off")  # what somebody has solved is no test's business
# One thread for each process that shares the tests, and for those it starts (`make test THREADS=2`: two).
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from ovamnb.pipelines import quiet


def pytest_configure(config):
    # diffusers' Euler scheduler hands NumPy a tensor in a way that NumPy 2 is about to drop.
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning")


WORDS = ["a", "and", "car", "cat", "dog", "grass", "kitten", "on", "red", "the"]
LENGTH = 20  # of the text encoders


def clip_tokenizer():
    """A byte-pair tokenizer like CLIP's: knows "cat" and "dog" whole and spells the other words."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz.,'-0123456789"
    merges = [
        ("c", "a"),
        ("ca", "t</w>"),
        ("d", "o"),
        ("do", "g</w>"),
        ("k", "i"),
        ("t", "t"),
        ("e", "n</w>"),
    ]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=merges, model_max_length=LENGTH
    )


def word_tokenizer():
    """A whole-word tokenizer like the bundled model's: a word outside its list becomes [UNK]."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    start, end, unknown, pad = special = ["<|startoftext|>", "<|endoftext|>", "[UNK]", "[PAD]"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(special + WORDS)}, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, 0), (end, 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        unk_token=unknown,
        pad_token=pad,
        model_max_length=LENGTH,
    )


def text_model(tokenizer, *, layers, dim=16, wide=24, length=LENGTH, projection=None):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=dim,
        intermediate_size=wide,
        num_attention_heads=2,
        num_hidden_layers=layers,
        max_position_embeddings=length,
        projection_dim=projection or dim,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def unet_model(*, text_dim=16, **options):
    from diffusers import UNet2DConditionModel

    options = {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 2,  # diffusers' name for the number of heads
        "cross_attention_dim": text_dim,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        **options,
    }
    return UNet2DConditionModel(**options).eval()


def sd_pipeline(tokenizer=None, *, text_layers=2):
    """Stable Diffusion in small: latents of half the image's size, grids of those and of half of them."""
    torch.manual_seed(0)
    with quiet():
        from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline

        tokenizer = tokenizer or clip_tokenizer()
        pipe = StableDiffusionPipeline(
            vae=AutoencoderKL(
                block_out_channels=(8, 8),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                latent_channels=4,
                norm_num_groups=4,
            ).eval(),
            text_encoder=text_model(tokenizer, layers=text_layers),
            tokenizer=tokenizer,
            unet=unet_model(),
            scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def xl_pipeline():
    """SDXL in small: two text encoders side by side, and two transformer blocks in one attention."""
    torch.manual_seed(0)
    with quiet():
        from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline

        tokenizer = clip_tokenizer()
        pipe = StableDiffusionXLPipeline(
            vae=AutoencoderKL(block_out_channels=(8,), latent_channels=4, norm_num_groups=4).eval(),
            text_encoder=text_model(tokenizer, layers=2, dim=16),
            text_encoder_2=text_model(tokenizer, layers=2, dim=24, projection=8),
            tokenizer=tokenizer,
            tokenizer_2=clip_tokenizer(),
            unet=unet_model(
                text_dim=40,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 2),
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=4,
                projection_class_embeddings_input_dim=6 * 4 + 8,
            ),
            scheduler=EulerDiscreteScheduler(),
            add_watermarker=False,
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generate(pipe, prompt="a cat on grass", *, seed=0, steps=2, height=16, width=16, **options):
    """Latents (image, channel, h, w) of one generation on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    call = {"num_inference_steps": steps, "height": height, "width": width, "output_type": "latent"}
    return pipe(prompt, generator=generator, **call | options).images


def hooks_of(model):
    """How many hooks stand on a model and its parts."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, even where the tests were started in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def pipe():
    return sd_pipeline()


@pytest.fixture(scope="session")
def trace():
    """One recorded image of 16×24 pixels: grids 8×12 and 4×6."""
    import ovamnb as ov

    pipe = sd_pipeline()
    with ov.record(pipe, queries="both", self_attention=(12, 6), dtype=torch.float32) as trace:
        generate(pipe, height=16, width=24, steps=3)
    return trace


@pytest.fixture(scope="session")
def clip():
    """A CLIP in small, with random weights, and its processor."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": LENGTH,
        "eos_token_id": tokenizer.eos_token_id,
    }
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=text | small, vision_config={"image_size": 16, "patch_size": 8} | small, projection_dim=8
    )
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    return CLIPModel(config).eval(), CLIPProcessor(CLIPImageProcessorPil(**size), tokenizer)


@pytest.fixture
def image():
    return np.linspace(0, 255, 16 * 24 * 3).reshape(16, 24, 3).astype(np.uint8)
