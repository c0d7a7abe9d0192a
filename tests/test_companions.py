"""What people put beside a pipeline: ControlNet, adapters, other autoencoders and schedulers, a refiner, an
inpainting UNet, the way back to the noise. Each is recorded as it acts, or refused in a sentence."""

import pytest
import torch
from conftest import generate, hooks_of, sd_pipeline, unet_model, xl_pipeline
from PIL import Image
from shared_fixtures import bundled_pipe

import ovamnb as ov
from ovamnb.emoji.streams import stream
from ovamnb.evidence import evidence
from ovamnb.images import encode_image
from ovamnb.maps import block_map, keys
from ovamnb.pipelines import quiet

UP = "up_blocks.1.attentions.0.transformer_blocks.0.attn2"


def check_recorded(pipe, call, texts="a cat"):
    """The image is bit-identical, no hook stays, and the map is that of the queries which a hook caught."""
    alone = call()
    rows = []
    projection = pipe.unet.get_submodule(UP)
    with projection.to_q.register_forward_hook(lambda module, inputs, output: rows.append(output.clone())):
        with ov.record(pipe, self_attention=(8,), dtype=torch.float32) as trace:
            watched = call()
    assert torch.equal(alone, watched) and hooks_of(pipe.unet) == 0
    caught = torch.stack(rows)[:, -1]  # (step, h·w, head·head_dim), the conditional half
    assert torch.equal(trace.queries["conditional"][UP][:, 0], caught)
    text = trace.text_encoder.encode(texts)
    weight = torch.cat([projection.to_k.weight.T, torch.zeros(1, projection.inner_dim)])
    block = trace.blocks[UP]
    by_hand = block_map(
        caught, keys(text.states, weight), heads=block.heads, scale=block.scale, grid=block.grid
    )
    torch.testing.assert_close(trace.maps(texts, blocks=UP).values, by_hand.detach(), atol=1e-4, rtol=1e-4)
    return trace


def options(steps=2):
    generator = torch.Generator().manual_seed(0)
    size = {"height": 16, "width": 16}
    return size | {"num_inference_steps": steps, "output_type": "latent", "generator": generator}


def of(kind, pipe, **more):
    with quiet():
        import diffusers

        parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
        made = getattr(diffusers, kind)(**parts, **more, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


def test_a_controlnet(pipe, image):
    from diffusers import ControlNetModel

    net = ControlNetModel.from_unet(pipe.unet, conditioning_channels=3).eval()
    net.config.conditioning_embedding_out_channels = (16,)
    # The picture is as large as the latents' factor makes it: here twice.
    net.controlnet_cond_embedding = torch.nn.Conv2d(3, pipe.unet.config.block_out_channels[0], 2, 2)
    controlled = of("StableDiffusionControlNetPipeline", pipe, controlnet=net)
    hint = Image.fromarray(image[:16, :16])
    for zero in (*net.controlnet_down_blocks, net.controlnet_mid_block):
        torch.nn.init.normal_(zero.weight, std=0.1)  # they begin as zeros, and would change nothing
    drawn = check_recorded(controlled, lambda: controlled("a cat", hint, **options()).images)
    with ov.record(pipe, dtype=torch.float32) as plain:
        generate(pipe, "a cat")
    assert not drawn.queries["conditional"][UP].allclose(plain.queries["conditional"][UP])


def test_a_t2i_adapter(pipe, image):
    from diffusers import T2IAdapter

    channels = list(pipe.unet.config.block_out_channels)
    adapter = T2IAdapter(channels=channels, num_res_blocks=1, downscale_factor=2, in_channels=3).eval()
    adapted = of("StableDiffusionAdapterPipeline", pipe, adapter=adapter)
    hint = Image.fromarray(image[:16, :16])
    check_recorded(adapted, lambda: adapted("a cat", image=hint, **options()).images)


def test_an_ip_adapter(pipe):
    """The picture has keys and values of its own; those of the text stay as they are."""
    state = {"image_proj": {}, "ip_adapter": {}}
    dim = pipe.unet.config.cross_attention_dim
    torch.manual_seed(1)
    state["image_proj"] = {
        "proj.weight": torch.randn(4 * dim, 12), "proj.bias": torch.zeros(4 * dim),
        "norm.weight": torch.ones(dim), "norm.bias": torch.zeros(dim),
    }  # fmt: skip
    number = 1
    for name in pipe.unet.attn_processors:
        if "attn2" in name:
            inner = pipe.unet.get_submodule(name.removesuffix(".processor")).inner_dim
            for part in ("to_k_ip", "to_v_ip"):
                state["ip_adapter"][f"{number}.{part}.weight"] = torch.randn(inner, dim)
            number += 2
    pipe.unet._load_ip_adapter_weights([state])
    assert pipe.unet.config.encoder_hid_dim_type == "ip_image_proj"
    embeds = [torch.randn(2, 1, 12)]  # without and with the picture

    def call():
        return pipe("a cat", ip_adapter_image_embeds=embeds, **options()).images

    check_recorded(pipe, call)


def test_a_tiny_autoencoder(pipe, image):
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    pipe.vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=4,
    ).eval()
    latents = encode_image(pipe, Image.fromarray(image))
    assert latents.shape == (1, 4, 8, 12)
    assert ov.record_image(pipe, image, "a cat", size=(16, 24)).image_size == (16, 24)
    assert ov.segment(pipe, image, ["cat"], samples=1).labels.shape == (16, 24)


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler"])
def test_schedulers_of_other_trainings_are_refused(pipe, image, name):
    import diffusers

    pipe.scheduler = getattr(diffusers, name)()
    for call in (
        lambda: ov.record_image(pipe, image, "a cat"),
        lambda: ov.segment(pipe, image, ["cat"]),
        lambda: evidence(pipe, image, ["a cat"]),
    ):
        with pytest.raises(ValueError, match=rf"{name} has no noise levels .* trained as Stable Diffusion"):
            call()


def test_a_refiner(image):
    """It has the second text encoder alone, and is told a score instead of the size."""
    with quiet():
        from diffusers import StableDiffusionXLImg2ImgPipeline

        whole = xl_pipeline()
        unet = unet_model(
            text_dim=24,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=5 * 4 + 8,
        )
        refiner = StableDiffusionXLImg2ImgPipeline(
            vae=whole.vae, text_encoder=None, tokenizer=None, text_encoder_2=whole.text_encoder_2,
            tokenizer_2=whole.tokenizer_2, unet=unet, scheduler=whole.scheduler,
            requires_aesthetics_score=True, add_watermarker=False,
        )  # fmt: skip
    refiner.set_progress_bar_config(disable=True)
    assert ov.record_image(refiner, image, "a cat").maps("a kitten")["kitten"].isfinite().all()
    with ov.record(refiner) as trace:
        refiner("a cat", image=Image.fromarray(image), num_inference_steps=4)
    assert trace.maps("a cat")["cat"].isfinite().all()


def test_an_inpainting_unet_is_shown_a_picture(image):
    pipe = sd_pipeline()
    torch.manual_seed(0)
    pipe.unet = unet_model(in_channels=9)
    seen = []
    hook = pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(args[0]), with_kwargs=True
    )
    with hook:
        trace = ov.record_image(pipe, image, ["a cat", "a dog"], size=(16, 24))
    assert trace.images == 2 and seen[0].shape == (2, 9, 8, 12)
    assert (seen[0][:, 4] == 1).all(), "all is to be painted"
    unseen = encode_image(pipe, Image.new("RGB", (24, 16), (128, 128, 128)))
    assert torch.equal(seen[0][:1, 5:], unseen)
    assert evidence(pipe, image, ["a cat"]).isfinite().all()
    assert ov.segment(pipe, image, ["cat"], samples=1).labels.shape == (16, 24)


def test_an_inpainting_pipeline(image):
    plain = sd_pipeline()
    torch.manual_seed(0)
    plain.unet = unet_model(in_channels=9)
    inpaint = of("StableDiffusionInpaintPipeline", plain)
    picture = Image.fromarray(image[:16, :16])
    mask = Image.fromarray((image[:16, :16, 0] > 128).astype("uint8") * 255)

    def call(**more):
        return inpaint("a cat", image=picture, mask_image=mask, **options() | more).images

    check_recorded(inpaint, call)
    noise = ov.invert(inpaint, picture, "a cat", steps=2, size=(16, 16))
    with ov.record(inpaint) as trace:
        call(latents=noise, guidance_scale=1)
    assert trace.image_size == (16, 16) and len(trace.steps) == 2


def test_a_unet_that_reads_another_picture_is_refused(image):
    pipe = sd_pipeline()
    pipe.unet = unet_model(in_channels=8)
    with pytest.raises(ValueError, match="reads 4 channels beside the 4 of the latents"):
        ov.record_image(pipe, image, "a cat")


class TestTheWayBack:
    def test_leads_to_the_picture_again(self):
        """PSNR to what the VAE makes of the picture, on the first four scenes (this one's): 9–24 dB after 10
        steps (24), 17–29 after 25 (29), 23–33 after 50 (33), 28–39 after 100 (38); from random noise 14–17.
        """
        pipe = bundled_pipe()
        picture = stream("test", 1, objects=1)[0]
        latents = encode_image(pipe, Image.fromarray(picture.image))

        @torch.no_grad()
        def pixels(latents):
            return pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample.clamp(-1, 1) / 2

        def nearness(noise, steps):
            call = {"guidance_scale": 1, "num_inference_steps": steps, "output_type": "latent"}
            again = pipe(picture.caption, latents=noise, **call).images
            return -10 * (pixels(again) - pixels(latents)).square().mean().log10().item()

        scheduler = pipe.scheduler
        few, many = (nearness(ov.invert(pipe, picture.image, picture.caption, steps=n), n) for n in (10, 50))
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        chance = nearness(noise, 10)
        assert pipe.scheduler is scheduler and hooks_of(pipe.unet) == 0
        assert chance + 3 < few < many - 5 and many > 30, (chance, few, many)

    def test_is_recorded_like_any_drawing(self, pipe, image):
        noise = ov.invert(pipe, image, "a cat", steps=4, size=(16, 24))
        assert noise.shape == (1, 4, 8, 12)
        with ov.record(pipe) as trace:
            pipe("a cat", latents=noise, guidance_scale=1, num_inference_steps=4, output_type="latent")
        assert len(trace.steps) == 4 and trace.image_size == (16, 24)

    @pytest.mark.parametrize(
        ("make", "kind", "spacing"),
        [
            (sd_pipeline, "epsilon", "leading"),
            (sd_pipeline, "v_prediction", "trailing"),
            (xl_pipeline, "v_prediction", "leading"),
        ],
    )
    def test_comes_nearer_with_every_step_for_each_training(self, make, kind, spacing, image):
        """The error falls as 1/steps where the prediction changes slowly, as on any first-order walk: of the
        latents' length .11 after 10 steps and .04 after 40, .24 and .07, .39 and .11."""
        from diffusers import DDIMScheduler

        pipe = make()
        with torch.no_grad():
            pipe.unet.conv_out.weight *= 0.01  # random weights would change wildly, and amplify any error
        pipe.scheduler = DDIMScheduler.from_config(
            pipe.scheduler.config, prediction_type=kind, timestep_spacing=spacing, clip_sample=False
        )
        latents = encode_image(pipe, Image.fromarray(image))
        h, w = image.shape[:2]
        errors = []
        for steps in (10, 40):
            noise = ov.invert(pipe, image, "a cat", steps=steps, size=(h, w))
            call = {"guidance_scale": 1, "num_inference_steps": steps, "output_type": "latent"}
            again = pipe("a cat", latents=noise, height=h, width=w, **call).images
            errors.append(((again - latents).norm() / latents.norm()).item())
        assert errors[1] < errors[0] / 2 < 0.25

    def test_refuses_what_it_cannot_walk(self, pipe, image):
        from diffusers import PNDMScheduler

        with pytest.raises(ValueError, match="steps count passes"):
            ov.invert(pipe, image, "a cat", steps=0)
        with pytest.raises(TypeError, match="prompt is a text"):
            ov.invert(pipe, image, ["a cat"])
        from diffusers import DDIMScheduler

        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="linspace")
        with pytest.raises(ValueError, match="'linspace' cannot be walked backwards: make it 'leading' or"):
            ov.invert(pipe, image, "a cat")
        pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config)
        with pytest.raises(ValueError, match=r"is PNDMScheduler: say pipe.scheduler = diffusers"):
            ov.invert(pipe, image, "a cat")
