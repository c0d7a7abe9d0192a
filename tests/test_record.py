"""Recording: the image unchanged, nothing left behind, and the right rows kept."""

import psutil
import pytest
import torch
from conftest import generate, hooks_of, sd_pipeline, unet_model, xl_pipeline

import ovamnb as ov
from ovamnb import pipelines, recorder
from ovamnb.pipelines import quiet

UP = "up_blocks.1.attentions.0.transformer_blocks.0.attn2"


def rows_of(pipe, name=UP):
    """All that the query projection of one block puts out, pass by pass: (batch, h·w, head·head_dim)."""
    rows = []
    module = pipe.unet.get_submodule(name).to_q
    return rows, module.register_forward_hook(lambda module, inputs, query: rows.append(query.clone()))


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize("make", [sd_pipeline, xl_pipeline])
def test_the_image_is_the_same_and_no_hook_remains(make, guidance_scale):
    pipe = make()
    options = {"guidance_scale": guidance_scale, "height": 24, "width": 16}
    alone = generate(pipe, **options)
    before = hooks_of(pipe.unet)
    forwards = {name: vars(module).get("forward") for name, module in pipe.unet.named_modules()}
    processors = dict(pipe.unet.attn_processors)
    with ov.record(pipe, self_attention=(12,)) as trace:
        watched = generate(pipe, **options)
    assert torch.equal(alone, watched)
    assert hooks_of(pipe.unet) == before == 0
    assert forwards == {name: vars(module).get("forward") for name, module in pipe.unet.named_modules()}
    assert all(pipe.unet.attn_processors[name] is processor for name, processor in processors.items())
    assert trace.maps("a cat").values.isfinite().all()


def test_no_hook_remains_after_an_exception(pipe):
    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ov.record(pipe) as trace:
        generate(pipe, callback_on_step_end=fail)
    assert hooks_of(pipe.unet) == 0
    with pytest.raises(ValueError, match="This trace is empty: generate an image inside"):
        trace.maps("a cat")


def test_no_hook_remains_after_an_exception_inside_the_unet(pipe):
    def fail(*_):
        raise MemoryError

    with pipe.unet.mid_block.register_forward_hook(fail), ov.record(pipe, self_attention=(8,)) as trace:
        with pytest.raises(MemoryError):
            generate(pipe)
        with pytest.raises(RuntimeError, match="broke off"):
            generate(pipe)
    assert hooks_of(pipe.unet) == 0 and trace.steps == ()


def test_recordings_nest(pipe):
    with ov.record(pipe, dtype=torch.float32) as outer:
        with ov.record(pipe, queries="unconditional", dtype=torch.float32) as inner:
            generate(pipe)
        assert hooks_of(pipe.unet) > 0
    assert hooks_of(pipe.unet) == 0
    assert list(outer.queries) == ["conditional"] and list(inner.queries) == ["unconditional"]
    assert outer.blocks == inner.blocks


def test_the_halves_are_told_apart(pipe):
    rows, hook = rows_of(pipe)
    with hook, ov.record(pipe, queries="both", dtype=torch.float32) as trace:
        generate(pipe, ["a cat", "a dog"], num_images_per_prompt=2)
    unconditional, conditional = torch.stack(rows).chunk(2, dim=1)  # (step, image, h·w, head·head_dim)
    assert trace.images == 4
    assert torch.equal(trace.queries["conditional"][UP], conditional)
    assert torch.equal(trace.queries["unconditional"][UP], unconditional)
    assert not torch.equal(conditional, unconditional)


def test_a_negative_prompt_has_maps_by_a_name_of_its_own(pipe):
    rows, hook = rows_of(pipe)
    with hook, ov.record(pipe, queries="negative", dtype=torch.float32) as trace:
        generate(pipe, negative_prompt="a dog")
    assert torch.equal(trace.queries["unconditional"][UP][:, 0], torch.stack(rows)[:, 0])
    named, half = (trace.maps("a dog", queries=name).values for name in ("negative", "unconditional"))
    assert torch.equal(named, half) and torch.equal(trace.maps("a dog").values, half)
    for nothing in ({}, {"negative_prompt": ""}):
        with pytest.raises(ValueError, match="no negative queries: give the pipeline a text as negative_pro"):
            with ov.record(pipe, queries="negative"):
                generate(pipe, **nothing)
    with ov.record(pipe) as trace:
        generate(pipe, negative_prompt="a dog")
    with pytest.raises(ValueError, match=r"Queries 'negative' were not recorded \(recorded: conditional\)"):
        trace.maps("a dog", queries="negative")


def test_each_image_of_a_batch_has_its_own_maps(pipe):
    noise = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with ov.record(pipe, self_attention=(8,), dtype=torch.float32) as together:
        generate(pipe, ["a cat", "a dog"], num_images_per_prompt=2, latents=noise)
    for i, prompt in enumerate(["a cat", "a cat", "a dog", "a dog"]):
        with ov.record(pipe, self_attention=(8,), dtype=torch.float32) as alone:
            generate(pipe, prompt, latents=noise[i : i + 1])
        options = {"rtol": 1e-3, "atol": 1e-4}
        torch.testing.assert_close(
            together.maps("a red cat", image=i).values, alone.maps("a red cat").values, **options
        )
        torch.testing.assert_close(together.self_attention(8, image=i), alone.self_attention(8), **options)


def test_without_guidance_every_row_is_conditional(pipe):
    with ov.record(pipe) as trace:
        generate(pipe, ["a cat", "a dog", "a car"], guidance_scale=1.0)
    assert trace.images == 3 and list(trace.queries) == ["conditional"]
    with (
        pytest.raises(ValueError, match="no unconditional queries: this image is made without guidance"),
        ov.record(pipe, queries="both"),
    ):
        generate(pipe, guidance_scale=1.0)


def test_perturbed_attention_guidance_has_a_third_part():
    with quiet():
        from diffusers import StableDiffusionPAGPipeline
    pipe = StableDiffusionPAGPipeline.from_pipe(sd_pipeline(), pag_applied_layers=["mid"])
    pipe.set_progress_bar_config(disable=True)
    rows, hook = rows_of(pipe)
    with hook, ov.record(pipe, self_attention=(8, 4), dtype=torch.float32) as trace:
        generate(pipe, ["a cat", "a dog"], pag_scale=3.0)
    assert len(rows[0]) == 6 and trace.images == 2
    assert torch.equal(trace.queries["conditional"][UP], torch.stack(rows)[:, 2:4])


def test_a_loop_by_hand(pipe):
    def unet(rows, prompt="a cat"):
        states = pipe.encode_prompt(prompt, "cpu", 1, False)[0]
        return pipe.unet(torch.randn(rows, 4, 8, 8), 10, encoder_hidden_states=states.expand(rows, -1, -1))

    generate(pipe)  # leaves its guidance scale on the pipeline, which must not count below
    with ov.record(pipe) as trace:
        unet(1)
        unet(1)
    assert trace.images == 1 and trace.steps == (0, 1)
    with pytest.raises(ValueError, match=r"called by hand with 2 rows: say .*guidance=True"), ov.record(pipe):
        unet(2)
    for guidance, images in ((True, 2), (False, 4)):
        with ov.record(pipe, guidance=guidance) as trace:
            unet(4)
        assert trace.images == images
    with (
        pytest.raises(ValueError, match="3 rows are no batch of unconditional"),
        ov.record(pipe, guidance=True),
    ):
        unet(3)


def test_a_layout_of_its_own_is_refused(pipe):
    class Odd(type(pipe)):  # such as InstructPix2Pix: three different rows an image
        def __call__(self):
            self._guidance_scale = 7.5
            self.unet(torch.randn(6, 4, 8, 8), 10, encoder_hidden_states=torch.randn(6, 5, 16))

    with (
        pytest.raises(ValueError, match=r"6 rows are no batch of unconditional \+ conditional"),
        torch.no_grad(),
        ov.record(pipe),
    ):
        Odd(**pipe.components, requires_safety_checker=False)()


def test_a_black_image_is_told_from_a_bad_layout(pipe):
    with ov.record(pipe) as trace:
        generate(pipe, latents=torch.full((1, 4, 8, 8), torch.nan))
    with pytest.raises(ValueError, match="the image itself failed"):
        trace.maps("a cat")


def test_gradients_pass_through_a_recorded_loop(pipe):
    latents = torch.randn(1, 4, 8, 8, requires_grad=True)
    with ov.record(pipe) as trace:
        pipe.unet(latents, 10, encoder_hidden_states=torch.randn(1, 5, 16)).sample.sum().backward()
    assert latents.grad is not None
    assert not any(q.requires_grad for q in trace.queries["conditional"].values())


def test_a_trace_made_in_inference_mode_can_be_optimised_against(pipe):
    with torch.inference_mode(), ov.record(pipe, self_attention=(8,)) as trace:
        generate(pipe)
    states = torch.randn(3, 16, requires_grad=True)
    trace.maps(states).values.square().sum().backward()
    assert states.grad.abs().sum() > 0


def test_image_to_image(pipe):
    with quiet():
        from diffusers import StableDiffusionImg2ImgPipeline
    again = StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    again.set_progress_bar_config(disable=True)
    for recorded in (again, pipe):  # either pipeline may be named: they share the UNet
        with ov.record(recorded, dtype=torch.float32) as trace:
            again("a cat", image=torch.rand(1, 3, 16, 24), strength=0.5, num_inference_steps=4)
        assert trace.steps == (0, 1) and trace.images == 1
        assert trace.maps("a cat").values.shape[-2:] == (8, 12)


@pytest.mark.parametrize("channels", [4, 9])
def test_inpainting(pipe, channels):
    """Both kinds: a mask blended in outside the UNet, and a UNet that reads mask and picture."""
    with quiet():
        from diffusers import StableDiffusionInpaintPipeline
    if channels == 9:
        pipe.unet = unet_model(in_channels=9)
    inpaint = StableDiffusionInpaintPipeline(**pipe.components, requires_safety_checker=False)
    inpaint.set_progress_bar_config(disable=True)
    mask = torch.zeros(1, 1, 16, 24)
    mask[..., :12] = 1
    call = {"image": torch.rand(1, 3, 16, 24), "mask_image": mask, "height": 16, "width": 24}

    def paint():
        generator = torch.Generator().manual_seed(0)
        options = {"num_inference_steps": 3, "strength": 1.0, "output_type": "latent"}
        return inpaint("a cat", generator=generator, **call, **options).images

    alone = paint()
    with ov.record(inpaint) as trace:
        watched = paint()
    assert torch.equal(alone, watched)
    assert trace.images == 1 and trace.maps("a cat")["cat"].shape == (8, 12)


def test_sizes_that_are_odd(pipe):
    with ov.record(pipe, self_attention=((8, 11),)) as trace:
        generate(pipe, latents=torch.randn(1, 4, 15, 21))
    assert {block.grid for block in trace.blocks.values()} == {(15, 21), (8, 11)}
    heat = trace.maps("a cat")["cat"]
    assert heat.shape == (15, 21)
    assert ov.complete(heat, trace.self_attention(11)).shape == (8, 11)


def test_lora_is_recorded_as_it_acts(pipe):
    from peft import LoraConfig

    config = LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
    pipe.unet.add_adapter(config, adapter_name="style")
    text = torch.randn(4, 16)
    seen = {}
    attn = pipe.unet.get_submodule(UP)
    for scale in (0.0, 0.5):
        hook = attn.to_q.register_forward_hook(lambda module, inputs, query: seen.update(query=query))
        probe = attn.to_k.register_forward_hook(
            lambda module, inputs, key: seen.update(key=key) if inputs[0].shape[-2] == len(text) else None
        )
        with hook, probe, ov.record(pipe, dtype=torch.float32) as trace:
            pipe(
                prompt_embeds=text[None],
                num_inference_steps=1,
                guidance_scale=1.0,
                height=16,
                width=16,
                output_type="latent",
                cross_attention_kwargs={"scale": scale},
            )
        assert torch.equal(trace.queries["conditional"][UP][0], seen["query"])
        weight = trace.key_weights[UP]
        torch.testing.assert_close(text @ weight[:-1] + weight[-1], seen["key"][0], rtol=1e-4, atol=1e-5)
        plain = attn.to_k.base_layer.weight.T
        assert torch.allclose(weight[:-1], plain, atol=1e-6) == (scale == 0)
    assert hooks_of(pipe.unet) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    pipe = sd_pipeline()
    with ov.record(pipe, self_attention=(8,), dtype=torch.float32) as exact:
        generate(pipe, latents=torch.ones(1, 4, 8, 8), steps=1)
    pipe.to(dtype)
    with ov.record(pipe, self_attention=(8,), dtype=dtype) as trace:
        generate(pipe, latents=torch.ones(1, 4, 8, 8, dtype=dtype), steps=1)
    assert all(query.dtype == dtype for query in trace.queries["conditional"].values())
    maps = trace.maps("a cat on grass")
    assert maps.values.dtype == torch.float32
    torch.testing.assert_close(maps.values, exact.maps("a cat on grass").values, rtol=0.1, atol=0.02)
    affinity = trace.self_attention(8)
    assert affinity.dtype == torch.float32
    torch.testing.assert_close(affinity.sum(dim=1), torch.ones(64))


def test_sliced_attention_is_recorded_alike(pipe):
    traces = []
    for slices in (None, 1):
        if slices:
            pipe.unet.set_attention_slice(slices)
        with ov.record(pipe, self_attention=(8,), dtype=torch.float32) as trace:
            generate(pipe)
        traces.append(trace.maps("a cat").values)
    torch.testing.assert_close(*traces, rtol=1e-3, atol=1e-4)


def test_compiled_parts_are_recorded_and_stay_compiled(pipe):
    expected = generate(pipe)
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    pipe.unet.get_submodule(UP.removesuffix(".attn2")).compile(backend=backend)
    generate(pipe)
    assert compiled
    with ov.record(pipe, self_attention=(8,)) as trace:
        assert torch.equal(generate(pipe), expected)
    assert UP in trace.blocks and len(trace.blocks) == 7
    assert hooks_of(pipe.unet) == 0
    assert torch.equal(generate(pipe), expected) and torch.compiler.is_compiling() is False


def test_a_compiled_unet_is_recorded(pipe):
    expected = generate(pipe)
    pipe.unet = torch.compile(pipe.unet, backend="eager")
    with ov.record(pipe) as trace:
        assert torch.equal(generate(pipe), expected)
    assert len(trace.blocks) == 7 and not any("_orig_mod" in name for name in trace.blocks)


def test_an_offloaded_unet_is_recorded(pipe):
    from accelerate import cpu_offload

    with ov.record(pipe, self_attention=(8,), dtype=torch.float32) as expected:
        generate(pipe)
    cpu_offload(pipe.unet, execution_device=torch.device("cpu"))
    assert pipe.unet.get_submodule(UP).to_k.weight.is_meta
    with ov.record(pipe, self_attention=(8,), dtype=torch.float32) as trace:
        generate(pipe)
    assert torch.equal(trace.maps("a cat").values, expected.maps("a cat").values)
    assert torch.equal(trace.self_attention(8), expected.self_attention(8))


def test_steps_and_blocks_that_are_kept(pipe):
    with ov.record(pipe, steps=range(1, 3), blocks=["up", 4]) as trace:
        generate(pipe, steps=5)
    assert trace.steps == (1, 2) and len(trace.timesteps) == 2
    assert trace.timesteps[0] > trace.timesteps[1]
    assert all("up" in name or max(block.grid) == 4 for name, block in trace.blocks.items())
    assert len(trace.blocks) == 6


def test_steps_beyond_the_last_are_refused_in_the_first(pipe):
    passes = []
    with pipe.unet.register_forward_hook(lambda *_: passes.append(1)):
        with pytest.raises(ValueError, match="Step 9 is to be recorded, and this generation has 2, counted"):
            with ov.record(pipe, steps=(1, 9)):
                generate(pipe, steps=2)
    assert not passes


def test_a_loop_by_hand_that_ends_before_a_step_is_told(pipe):
    latents, states = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 16)
    with pytest.warns(UserWarning, match="had 3 steps, counted from 0, so that 7 could not be recorded"):
        with ov.record(pipe, steps=(1, 7)) as trace, torch.no_grad():
            for t in (900, 600, 300):
                pipe.unet(latents, t, encoder_hidden_states=states)
    assert trace.steps == (1,) and trace.timesteps == (600,) and trace.passes == 3


def test_self_attention_without_queries(pipe):
    with ov.record(pipe, self_attention=8, blocks=()) as trace:
        generate(pipe)
    torch.testing.assert_close(trace.self_attention(8).sum(dim=1), torch.ones(64))
    with pytest.raises(ValueError, match="No down or up block was recorded"):
        trace.maps("a cat")


def test_memory_does_not_grow_with_steps_of_self_attention(pipe):
    sizes = []
    for steps in (1, 4):
        with ov.record(pipe, self_attention=(8,), blocks=()) as trace:
            generate(pipe, steps=steps)
        sizes.append(trace.nbytes)
    assert sizes[0] == sizes[1] == 4 * 64 * 64


@pytest.mark.parametrize("room", ["too little", "enough"])
def test_a_recording_that_will_not_fit_is_told_after_the_first_step(pipe, monkeypatch, recwarn, room):
    with ov.record(pipe, steps=0) as one:
        generate(pipe, steps=1)
    step = sum(q.numel() * q.element_size() for q in one.queries["conditional"].values())
    told_at = []
    monkeypatch.setattr(recorder, "free_bytes", lambda device: 3 * step - (room == "too little"))

    def note(pipe, number, timestep, tensors):
        told_at.append(len(recwarn))
        return tensors

    with ov.record(pipe, steps=(0, 2, 3, 4)):  # after step 0 three more are to be kept
        generate(pipe, steps=5, callback_on_step_end=note)
    expected = 1 if room == "too little" else 0
    assert told_at == [expected] * 5
    assert all("keep fewer steps" in str(warning.message) for warning in recwarn)


def test_self_attention_that_will_not_fit_is_refused_in_the_first_step(pipe, monkeypatch):
    size = 4 * 2 * 64**2  # two images on 8×8
    for room in (size, size - 1):
        monkeypatch.setattr(recorder, "free_bytes", lambda device, room=room: room)
        if room == size:
            with ov.record(pipe, self_attention=8, blocks=()) as trace:
                generate(pipe, ["a cat", "a dog"])
            assert trace.self_attention(8, image=1).shape == (64, 64)
    with pytest.raises(ValueError, match=r"on 8×8 takes 0.0 GB, and .* a coarser resolution"):
        with ov.record(pipe, self_attention=8, blocks=()):
            generate(pipe, ["a cat", "a dog"])


def test_a_shared_server_counts_what_it_grants(monkeypatch):
    used = psutil.Process().memory_info().rss
    monkeypatch.setenv("MEM_LIMIT", str(used + 10**8))
    assert 0 < pipelines.free_bytes(torch.device("cpu")) <= 1.1 * 10**8
    monkeypatch.setenv("MEM_LIMIT", "1")
    assert pipelines.free_bytes(torch.device("cpu")) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queries": "cond"}, "queries is one of 'conditional', 'unconditional', 'negative', 'both', not 'c"),
        ({"dtype": torch.int8}, "floating-point dtype"),
        ({"steps": -1}, "counted from 0"),
        ({"steps": ()}, "counted from 0"),
        ({"steps": "last"}, "counted from 0"),
        ({"blocks": "middle"}, r"No block matches 'middle'.*mid_block.*\(8, 4\)"),
        ({"blocks": ["up", 5]}, "No block matches 5"),
        ({"self_attention": (8, 5)}, "no self-attention at resolution 5: .* the model has 8×8, 4×4"),
        ({"self_attention": ((8, 4),)}, r"no self-attention at resolution \(8, 4\)"),
        ({"device": "cuda:99"}, "Asked for device 'cuda:99', but this machine has"),
        ({"device": "gpu"}, "Unknown device 'gpu'"),
    ],
)
def test_requests_that_cannot_be_met(pipe, options, message):
    with pytest.raises(ValueError, match=message), ov.record(pipe, **options):
        generate(pipe)
    assert hooks_of(pipe.unet) == 0


def test_guidance_that_ends_on_the_way(pipe):
    """As diffusers documents it: a callback switches it off, and half of the batch is left."""

    def stop(pipe, number, timestep, tensors):
        if number == 1:
            pipe._guidance_scale = 0.0
            tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[-1]
        return tensors

    rows, hook = rows_of(pipe)
    with hook, ov.record(pipe, dtype=torch.float32) as trace:
        generate(
            pipe, steps=4, callback_on_step_end=stop, callback_on_step_end_tensor_inputs=["prompt_embeds"]
        )
    assert [len(row) for row in rows] == [2, 2, 1, 1] and len(trace.steps) == 4
    caught = torch.stack([row[-1] for row in rows])
    assert torch.equal(trace.queries["conditional"][UP][:, 0], caught)


def test_a_loop_that_counts_in_place(pipe):
    latents, states, t = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 16), torch.tensor(900)
    with ov.record(pipe) as trace, torch.no_grad():
        for _ in range(3):
            pipe.unet(latents, t, encoder_hidden_states=states)
            t -= 300
    assert trace.timesteps == (900, 600, 300) and all(isinstance(t, int) for t in trace.timesteps)


def test_two_generations_need_two_recordings(pipe):
    for options in ({}, {"prompt": ["a cat", "a dog"]}, {"width": 24}):
        with pytest.raises(ValueError, match="A second generation began"), ov.record(pipe):
            generate(pipe)
            generate(pipe, **options)


@pytest.mark.parametrize("first", [1, 25])
def test_a_second_generation_is_known_by_its_call_not_by_its_timestep(pipe, first):
    """Generations of one step begin at the timestep at which the one before ended; so does one after another
    that broke off."""

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(ValueError, match="A second generation began"), ov.record(pipe):
        if first == 1:
            generate(pipe, steps=1)
        else:
            with pytest.raises(KeyboardInterrupt):
                generate(pipe, steps=first, callback_on_step_end=stop)
        generate(pipe, steps=1)
    assert hooks_of(pipe.unet) == 0


def test_views_of_a_panorama_are_not_summed_as_one_picture(pipe):
    with quiet():
        from diffusers import StableDiffusionPanoramaPipeline

        panorama = StableDiffusionPanoramaPipeline(**pipe.components, requires_safety_checker=False)
    panorama.set_progress_bar_config(disable=True)
    options = {"height": 16, "num_inference_steps": 3, "output_type": "latent"}
    with pytest.raises(
        ValueError, match=r"PanoramaPipeline runs its UNet more than once at timestep 667, as pano"
    ):
        with ov.record(panorama):
            panorama("a cat", width=1024, **options)
    with ov.record(panorama) as trace:
        panorama("a cat", width=16, **options)  # in a single view
    assert len(trace.steps) == 3


@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "PNDMScheduler"])
def test_schedulers_that_repeat_a_timestep(pipe, name):
    import diffusers

    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    with ov.record(pipe) as trace:
        generate(pipe, steps=5)
    assert len(trace.timesteps) > len(set(trace.timesteps))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"queries": None}, "queries is one of"),
        ({"queries": []}, "queries is one of"),
        ({"self_attention": "32"}, "Give a resolution"),
        ({"self_attention": ("32",)}, "Give a resolution"),
        ({"self_attention": None}, "Give a resolution"),
        ({"self_attention": 32.5}, "Give a resolution"),
        ({"steps": "all"}, "Steps are numbers"),
        ({"blocks": 1.5}, "blocks is a part of a name"),
        ({"blocks": ""}, "blocks is a part of a name"),
        ({"device": 3.5}, "Unknown device"),
        ({"dtype": "half precision"}, "dtype is a floating-point dtype"),
        ({"dtype": torch.int64}, "dtype is a floating-point dtype"),
        ({"dtype": torch.float8_e4m3fn}, "dtype is a floating-point dtype"),
        ({"guidance": "yes"}, "guidance is True or False"),
    ],
)
def test_requests_of_a_wrong_kind_are_refused_before_the_first_pass(pipe, options, says):
    with pytest.raises((ValueError, TypeError), match=says), ov.record(pipe, **options):
        raise AssertionError("it went on")
    assert hooks_of(pipe.unet) == 0


def test_a_dtype_by_its_name(pipe):
    with ov.record(pipe, dtype="bfloat16") as trace:
        generate(pipe, steps=1)
    assert trace.queries["conditional"][UP].dtype == torch.bfloat16


def test_attention_that_is_skipped_is_noticed(pipe):
    attn = pipe.unet.get_submodule(UP)
    passes = []

    def cached(hidden_states, *args, **options):
        passes.append(1)
        return hidden_states if len(passes) > 1 else type(attn).forward(attn, hidden_states, *args, **options)

    attn.forward = cached  # what a step cache does
    with (
        pytest.raises(RuntimeError, match=rf"{UP} ran 0 times in step 1, not once: a step cache"),
        ov.record(pipe),
    ):
        generate(pipe)
    assert hooks_of(pipe.unet) == 0


def test_merged_tokens_are_noticed(pipe):
    block = pipe.unet.down_blocks[0].attentions[0].transformer_blocks[0]
    with (
        block.register_forward_pre_hook(lambda module, args: (args[0][:, ::2], *args[1:])),
        pytest.raises(RuntimeError, match="attends from 32 tokens on a grid of 8×8: token merging"),
    ):
        with ov.record(pipe):
            generate(pipe)


def test_models_that_cannot_be_asked(pipe):
    with quiet():
        from diffusers import UNet2DConditionModel
    pipe.fuse_qkv_projections()
    with pytest.raises(ValueError, match=r"fused: call `pipe.unfuse_qkv_projections\(\)`"), ov.record(pipe):
        pass
    pipe.unfuse_qkv_projections()
    pipe.unet = unet_model(
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, mid_block_type=None
    )
    with pytest.raises(ValueError, match="no cross-attention: it does not look at any text"), ov.record(pipe):
        pass
    pipe.unet = unet_model(encoder_hid_dim=12, encoder_hid_dim_type="text_proj")
    assert isinstance(pipe.unet, UNet2DConditionModel)
    with pytest.raises(ValueError, match="transforms the text before its keys"), ov.record(pipe):
        pass
    with pytest.raises(TypeError, match="takes a diffusers pipeline with a UNet, not str"), ov.record("sd15"):
        pass

    class Transformer:
        unet, transformer = None, torch.nn.Identity()

    with pytest.raises(ValueError, match="in its transformer the text changes"), ov.record(Transformer()):
        pass
