"""Images of any origin, shown to small pipelines with random weights."""

import numpy as np
import pytest
import torch
from conftest import hooks_of, sd_pipeline, word_tokenizer, xl_pipeline
from PIL import Image

import ovamnb as ov
from ovamnb.evidence import evidence, target
from ovamnb.images import as_rgb, encode_image, noised, prepare
from ovamnb.unet import attention_grids


@pytest.mark.parametrize("make", [sd_pipeline, xl_pipeline])
def test_an_image_answers_for_any_word(make, image):
    pipe = make()
    trace = ov.record_image(pipe, image, ["a cat", "a dog"], timesteps=(100, 500), samples=2)
    assert trace.images == 2 and trace.timesteps == (100, 500, 100, 500)
    heat = trace.maps("a kitten", image=1)["kitten"]
    h, w = heat.shape
    assert h < w and heat.isfinite().all(), "as wide as the image"
    assert hooks_of(pipe.unet) == 0
    again = ov.record_image(pipe, image, ["a cat", "a dog"], timesteps=(100, 500), samples=2)
    assert torch.equal(again.maps("a kitten", image=1)["kitten"], heat), "the same seed, the same noise"


def test_prompts_and_noise_change_what_is_seen(pipe, image):
    def seen(**options):
        return ov.record_image(pipe, image, **{"prompt": "a cat", **options}).maps("a dog")["dog"]

    plain = seen()
    for options in ({"prompt": "a dog"}, {"timesteps": 900}, {"seed": 1}):
        assert not torch.equal(seen(**options), plain), options


def test_noise_is_on_the_scale_of_training_whatever_the_scheduler(image):
    pipe = xl_pipeline()  # Euler, whose own add_noise is not
    latents = torch.randn(1, 4, 64, 64)
    [(noisy, noise, t)] = noised(pipe, latents, 999, 1, 0)
    assert int(t) == 999 and abs(noisy.std().item() - 1) < 0.05
    kept = pipe.scheduler.alphas_cumprod[999]
    torch.testing.assert_close(noisy, kept.sqrt() * latents + (1 - kept).sqrt() * noise)


def test_proportions_are_kept_at_the_area_of_training(pipe):
    native = pipe.unet.config.sample_size * 2  # pixels
    for size in ((400, 400), (300, 600), (1000, 90)):
        ready = prepare(pipe, np.zeros((*size, 3), np.uint8))
        assert ready.height % 4 == ready.width % 4 == 0
        assert abs(ready.height * ready.width / native**2 - 1) < 0.4
        assert (ready.height > ready.width) == (size[0] > size[1])
    assert prepare(pipe, np.zeros((50, 50, 3), np.uint8), (24, 30)).size == (32, 24)
    assert prepare(pipe, np.zeros((300, 90, 3), np.uint8), "native").size == (native, native)


def test_latents_are_scaled_and_without_chance(pipe, image):
    latents = encode_image(pipe, as_rgb(image))
    assert latents.shape == (1, 4, 8, 12)
    assert torch.equal(latents, encode_image(pipe, as_rgb(image)))


def test_with_a_seed_they_are_drawn_from_the_posterior(pipe, image):
    mode, one, again, other = (encode_image(pipe, as_rgb(image), seed) for seed in (None, 3, 3, 4))
    assert torch.equal(one, again) and not torch.equal(one, other)
    with torch.no_grad():
        posterior = pipe.vae.encode(torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1).latent_dist
    drawn = (one - mode) / (pipe.vae.config.scaling_factor * posterior.std)
    assert abs(drawn.mean()) < 0.2 and abs(drawn.std() - 1) < 0.2, "as much noise as the posterior says"
    [(_, noise, _)] = noised(pipe, mode, 100, 1, 3)
    assert abs(torch.corrcoef(torch.stack([drawn.flatten(), noise.flatten()]))[0, 1]) < 0.2, "not the same"
    assert torch.equal(encode_image(pipe, as_rgb(image), -1), encode_image(pipe, as_rgb(image), -1))


def test_the_grids_are_those_that_the_model_shows(image):
    for pipe in (sd_pipeline(), xl_pipeline(), ov.load_pipeline(device="cpu")):
        size = encode_image(pipe, prepare(pipe, image)).shape[-2:]
        blocks = ov.record_image(pipe, image).blocks.items()
        shown = {block.grid for name, block in blocks if "mid" not in name}
        assert attention_grids(pipe.unet, size) == sorted(shown, reverse=True)


def test_the_grids_of_a_model_s_own_size():
    assert attention_grids(xl_pipeline().unet) == [(4, 4)]
    assert attention_grids(ov.load_pipeline(device="cpu").unet) == [(32, 32), (16, 16), (8, 8)]


class TestWhatIsAnImage:
    def test_modes_of_eight_bits_become_rgb(self, image):
        picture = Image.fromarray(image)
        for mode in ("RGB", "L", "P", "1", "CMYK", "YCbCr"):
            assert as_rgb(picture.convert(mode)).mode == "RGB"
        for array in (image, image[..., 0], image / 255.0, image.astype(np.float32) / 255):
            assert as_rgb(array).size == (24, 16)
        assert np.array_equal(np.asarray(as_rgb(image / 255.0)), image)

    def test_what_is_transparent_is_white_as_a_viewer_shows_it(self, image):
        clear = np.dstack([image, np.zeros((16, 24), np.uint8)])
        assert (np.asarray(as_rgb(clear)) == 255).all()
        assert (np.asarray(as_rgb(Image.fromarray(clear))) == 255).all()

    @pytest.mark.parametrize(
        ("wrong", "remedy"),
        [
            (np.zeros((16, 16), np.uint16), "257"),
            (Image.fromarray(np.zeros((16, 16), np.uint16)), "257"),
            (np.zeros((1, 40, 3), np.uint8), "at least 8×8"),
            (np.full((16, 16, 3), 200.0), "floats 0 to 1"),
            (np.zeros((16, 16, 5), np.uint8), "shape"),
            (torch.zeros(3, 16, 16), "PIL image or an array"),
            (None, "An image array has the shape"),
            ("cat.png", "An image array has the shape"),
            ([[1, 2], [3]], "Give a PIL image or an array"),
            (np.full((16, 16, 3), np.nan), "floats 0 to 1"),
        ],
    )
    def test_what_is_none_is_refused_with_the_remedy(self, wrong, remedy):
        with pytest.raises(ValueError, match=remedy):
            as_rgb(wrong)


def test_timesteps_that_do_not_exist_are_refused(pipe, image):
    for wrong in (1000, -1, ()):
        with pytest.raises(ValueError, match="0 to 999"):
            ov.record_image(pipe, image, timesteps=wrong)
    with pytest.raises(ValueError, match="draws of noise"):
        ov.record_image(pipe, image, samples=0)


class TestRecordingRefuses:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"size": (0, 0)}, "1 or more each way"),
            ({"size": (4, 90)}, "shows nothing"),
            ({"size": "32"}, r"a size \(h, w\) in pixels"),
            ({"size": (16.5, 24)}, r"a size \(h, w\) in pixels"),
            ({"size": (10**12, 8)}, "at most 67,108,864 pixels"),
            ({"timesteps": 2.5}, "timesteps are noise levels: a whole number from 0 to 999"),
            ({"timesteps": "100"}, "timesteps are noise levels"),
            ({"timesteps": None}, "timesteps are noise levels"),
            ({"samples": 1.5}, "samples counts draws of noise"),
            ({"samples": 10**12}, "samples counts draws of noise"),
            ({"seed": None}, "seed is a whole number"),
            ({"seed": 2**64}, "at most 64 bits"),
            ({"prompt": None}, "prompt is a list of texts"),
            ({"prompt": []}, "no prompt in an empty list"),
            ({"prompt": ["a cat", 3]}, "prompt is a text"),
            ({"prompt": "a kiten on grass"}, "no word 'kiten': did you mean 'kitten'"),
            ({"prompt": "a 🐱 on grass"}, "no word '🐱'"),
        ],
    )
    def test_before_the_model_runs(self, image, options, says, monkeypatch):
        pipe = sd_pipeline(word_tokenizer(), text_layers=0)
        for part in (pipe.unet, pipe.vae.encoder, pipe.text_encoder):
            monkeypatch.setattr(part, "forward", None)
        with pytest.raises((ValueError, TypeError), match=says):
            ov.record_image(pipe, image, **options)

    def test_pipelines_that_lack_a_part(self, pipe, image):
        with pytest.raises(TypeError, match="takes a diffusers pipeline"):
            ov.record_image("bundled", image)
        pipe.vae = None
        for see in (ov.record_image, lambda pipe, image: ov.segment(pipe, image, ["cat"])):
            with pytest.raises(ValueError, match="has no VAE"):
                see(pipe, image)
        pipe = sd_pipeline()
        pipe.text_encoder = None
        with pytest.raises(ValueError, match="has no text encoder"):
            ov.record_image(pipe, image)

    def test_a_long_prompt_is_cut_off_with_a_warning(self, pipe, image):
        """It is what the pipeline does itself; the words that are lost are named."""
        with pytest.warns(UserWarning, match=r"takes 20: 'dog .*' falls off, and the UNet does not read it"):
            long = ov.record_image(pipe, image, "cat " * 18 + "dog " * 10)
        short = ov.record_image(pipe, image, "cat " * 18)
        assert torch.equal(long.maps("a cat").values, short.maps("a cat").values)

    def test_no_prompt_is_no_words(self, image):
        pipe = sd_pipeline(word_tokenizer(), text_layers=0)
        assert ov.record_image(pipe, image, "").images == 1


class TestEvidence:
    def test_no_text_is_no_evidence_and_texts_differ(self, pipe, image):
        gains = evidence(pipe, image, ["", "a cat", "a dog"])
        assert gains[0].abs() < 1e-5 and gains[1] != gains[2]

    def test_the_batch_does_not_matter(self, pipe, image):
        texts = ["a cat", "a dog", "grass"]
        torch.testing.assert_close(
            evidence(pipe, image, texts, batch=1), evidence(pipe, image, texts, batch=16)
        )

    def test_a_perfect_answer_has_no_error_in_any_parametrisation(self, pipe):
        latents = torch.randn(1, 4, 8, 8)
        [(noisy, noise, t)] = noised(pipe, latents, 300, 1, 0)
        kept = pipe.scheduler.alphas_cumprod[300]
        found = {}
        pipe.scheduler.set_timesteps(1000)
        for kind in ("epsilon", "sample", "v_prediction"):
            pipe.scheduler.register_to_config(prediction_type=kind)
            found[kind] = pipe.scheduler.step(target(pipe, latents, noise, t), t, noisy).pred_original_sample
            torch.testing.assert_close(found[kind], latents, atol=1e-4, rtol=1e-4)
        assert kept < 1 and len(found) == 3

    def test_nothing_to_judge_is_refused(self, pipe, image):
        with pytest.raises(ValueError, match="at least one"):
            evidence(pipe, image, [])
