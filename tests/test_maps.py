"""The mathematics: held against the two official implementations, and against diffusers' own attention."""

from pathlib import Path

import pytest
import torch
from conftest import generate, sd_pipeline
from safetensors.torch import load_file

import ovamnb as ov
from ovamnb import maps as mathematics
from ovamnb.pipelines import quiet

PARITY = Path(__file__).parent / "parity"


def deviation(found, expected):
    """Largest difference, relative to the largest expected value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture(scope="module")
def official():
    """A small pipeline with fixed weights, and what the official implementations answer on it."""
    with quiet():
        from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

        pipe = StableDiffusionPipeline(
            unet=UNet2DConditionModel.from_pretrained(PARITY / "unet", dtype=torch.float32),
            vae=AutoencoderKL.from_pretrained(PARITY / "vae", dtype=torch.float32),
            scheduler=DDIMScheduler.from_pretrained(PARITY / "scheduler"),
            text_encoder=None,
            tokenizer=None,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe, load_file(PARITY / "expected.safetensors")


@pytest.fixture(scope="module")
def recorded(official):
    """The official example's trace, its latents as recorded, and its latents without a recorder."""
    pipe, expected = official

    def run():
        return pipe(
            prompt_embeds=expected["prompt_embeds"],
            negative_prompt_embeds=expected["negative_prompt_embeds"],
            latents=expected["latents"].clone(),
            num_inference_steps=3,
            guidance_scale=7.5,
            output_type="latent",
        ).images

    alone = run()
    with ov.record(pipe, queries="both", dtype=torch.float32) as trace:
        watched = run()
    return trace, watched, alone


def test_recording_leaves_the_official_image_as_it_is(official, recorded):
    _, watched, alone = recorded
    assert torch.equal(watched, alone)
    assert deviation(watched, official[1]["final_latents"]) < 1e-4  # made on another processor


@pytest.mark.parametrize("half", ["unconditional", "conditional"])
@pytest.mark.parametrize("softmax", [True, False])
def test_maps_are_those_of_the_official_ovam(official, recorded, half, softmax):
    expected = official[1][f"ovam_{half.removesuffix('itional')}_{'softmax' if softmax else 'linear'}"]
    maps = recorded[0].maps(official[1]["attribution_embeds"], queries=half, softmax=softmax)
    assert maps.values.shape == expected.shape
    assert deviation(maps.values, expected) < 1e-4


def test_resized_map_is_that_of_the_official_ovam(official, recorded):
    maps = recorded[0].maps(official[1]["attribution_embeds"], queries="conditional")
    assert deviation(ov.resize(maps[2], (512, 512)), official[1]["ovam_cond_softmax_512"]) < 1e-4


def test_completion_is_that_of_the_official_diffsegmenter(official):
    pipe, expected = official
    clean, noise = expected["ds_clean_latents"], expected["ds_noise"]
    noised = pipe.scheduler.add_noise(clean, noise, torch.tensor([100]))
    text = torch.cat([expected["negative_prompt_embeds"], expected["prompt_embeds"]])
    with torch.no_grad(), ov.record(pipe, self_attention=(64,), blocks="mid", guidance=True) as trace:
        pipe.unet(torch.cat([noised] * 2), 100, encoder_hidden_states=text)
    refined = ov.complete(expected["ds_fused_cross_token4"], trace.self_attention(64))
    assert deviation(refined, expected["ds_refined_token4"]) < 1e-4


def over_pixels(query, key, **options):
    return mathematics_attention(query, key, **options | {"softmax": False}).softmax(dim=-2)


def heads_averaged_first(query, key, **options):
    scores = mathematics_attention(query, key, **options | {"softmax": False})
    return scores.mean(dim=-3, keepdim=True).expand_as(scores).softmax(dim=-1)


def unscaled(query, key, **options):
    return mathematics_attention(query, key, **options | {"scale": 1.0})


mathematics_attention = mathematics.attention


@pytest.mark.parametrize("wrong", [over_pixels, heads_averaged_first, unscaled])
def test_a_wrong_formula_would_be_noticed(official, recorded, monkeypatch, wrong):
    monkeypatch.setattr(mathematics, "attention", wrong)
    maps = recorded[0].maps(official[1]["attribution_embeds"], queries="conditional")
    assert deviation(maps.values, official[1]["ovam_cond_softmax"]) > 1e-2


def test_the_wrong_half_of_the_batch_would_be_noticed(official, recorded):
    maps = recorded[0].maps(official[1]["attribution_embeds"], queries="unconditional")
    assert deviation(maps.values, official[1]["ovam_cond_softmax"]) > 1e-3


def test_probabilities_are_those_of_diffusers():
    pipe = sd_pipeline()
    seen = {}
    attn = pipe.unet.up_blocks[1].attentions[0].transformer_blocks[0].attn2
    name = "up_blocks.1.attentions.0.transformer_blocks.0.attn2"
    with (
        attn.to_q.register_forward_hook(lambda module, inputs, query: seen.update(query=query)),
        attn.to_k.register_forward_hook(lambda module, inputs, key: seen.update(key=key, text=inputs[0])),
        ov.record(pipe, dtype=torch.float32) as trace,
    ):
        generate(pipe, steps=1)
    query, key = (attn.head_to_batch_dim(seen[part][1:]) for part in ("query", "key"))  # conditional row
    expected = attn.get_attention_scores(query, key)  # (head, h·w, token)
    found = mathematics.attention(
        trace.queries["conditional"][name][0, 0],
        mathematics.keys(seen["text"][1], trace.key_weights[name]),
        heads=trace.blocks[name].heads,
        scale=trace.blocks[name].scale,
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_self_attention_is_that_of_diffusers_however_it_is_cut():
    torch.manual_seed(0)
    query, key = torch.randn(2, 12, 8), torch.randn(2, 12, 8)
    expected = mathematics.attention(query, key, heads=2, scale=0.5).mean(dim=1)
    for elements in (1, 50, 10**6):
        total = torch.ones(2, 12, 12)
        mathematics.add_self_attention(total, query, key, heads=2, scale=0.5, elements=elements)
        torch.testing.assert_close(total, 1 + expected)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("tokens", [1, 3, mathematics.FEW, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_block_map_is_the_formula_however_it_is_cut(steps, tokens, dtype):
    torch.manual_seed(0)
    queries = torch.randn(steps, 2, 7 * 11, 12).to(dtype)[:, 1]  # (step, h·w, head·head_dim)
    key = torch.randn(tokens, 12)
    for softmax in (True, False):
        options = {"heads": 3, "scale": 0.5, "softmax": softmax}
        expected = torch.zeros(tokens, 7, 11)
        for query in queries.float():
            for head in range(3):
                part = slice(4 * head, 4 * head + 4)
                scores = 0.5 * query[:, part] @ key[:, part].T
                expected += (scores.softmax(dim=-1) if softmax else scores).T.unflatten(-1, (7, 11))
        for elements in (1, 13 * 3 * tokens, 2 * 77 * 3 * max(4, tokens), 10**6, None):
            found = mathematics.block_map(queries, key, grid=(7, 11), elements=elements, **options)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert mathematics.block_map(list(queries), key, grid=(7, 11), **options).equal(found)


def test_a_block_map_needs_little_memory_beside_the_queries():
    """No tensor that it makes grows with the number of steps."""
    sizes = []

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and not result._is_view():
                sizes[-1] = max(sizes[-1], result.numel())
            return result

    for steps in (4, 16):
        queries, key = torch.randn(steps, 64, 12, dtype=torch.float16), torch.randn(5, 12)
        sizes.append(0)
        with Largest():
            mathematics.block_map(queries, key, heads=3, scale=0.5, grid=(8, 8), elements=1000)
    assert 0 < sizes[0] == sizes[1] <= 1000


def test_combine_sums_on_the_largest_grid():
    coarse, fine = torch.ones(3, 2, 3), torch.ones(3, 4, 6)
    assert torch.equal(mathematics.combine([coarse, fine]), torch.full((3, 4, 6), 2.0))


def test_maps_by_word_phrase_and_number(trace):
    maps = trace.maps("A cat, the kitten and a cat")
    assert maps.tokens[0] == "<|startoftext|>" and maps.tokens[-1] == "<|endoftext|>"
    assert maps.tokens[1:4] == ("A", "cat", ",")
    places = [i for i, token in enumerate(maps.tokens) if token == "cat"]
    assert len(places) == 2
    torch.testing.assert_close(maps["cat"], maps.values[places].mean(0))
    torch.testing.assert_close(maps["CAT"], maps["cat"])
    kitten = maps.text.find("kitten")
    assert len(kitten) == 1 and len(kitten[0]) > 1
    assert "".join(maps.tokens[i] for i in kitten[0]) == "kitten"
    torch.testing.assert_close(maps["kitten"], maps.values[kitten[0]].mean(0))
    the = maps.text.find("the")[0]
    torch.testing.assert_close(maps["the  kitten"], maps.values[the + kitten[0]].mean(0))
    assert torch.equal(maps[0], maps.values[0])
    with pytest.raises(KeyError, match="No word 'dog' in the attribution text; it has A, cat, the, kitten"):
        maps["dog"]
    with pytest.raises(KeyError):
        maps["kit"]  # a part of a word is no word
    with pytest.raises(KeyError):
        maps[""]


def test_tokens_that_are_not_there(trace):
    maps = trace.maps("a cat")
    assert torch.equal(maps[-1], maps.values[3]) and torch.equal(maps[[1, 2]], maps.values[1:3])
    for wrong in (10, -5, [1, 10]):
        with pytest.raises(IndexError, match=r"no token .*: this text has 4, counted from 0"):
            maps[wrong]
    for wrong in (None, 1.5, True, ..., object()):
        with pytest.raises(TypeError, match="Ask for a word of the text or the number of a token"):
            maps[wrong]


def test_share_is_a_share(trace):
    maps = trace.maps("a cat on grass")
    assert maps.values.min() >= 0
    torch.testing.assert_close(maps.share.values.sum(dim=0), torch.ones(8, 12))
    assert "8×12" in repr(maps) and "cat" in repr(maps)
