"""Interventions: they change what they say and nothing else, and leave nothing behind."""

import contextlib
import functools
import json

import numpy as np
import pytest
import torch
from conftest import generate, hooks_of, sd_pipeline, word_tokenizer, xl_pipeline
from shared_fixtures import bundled_pipe, on_pretend_device

import ovamnb as ov
from ovamnb import intervene
from ovamnb.intervene.exciting import among_words
from ovamnb.intervene.keeping import through
from ovamnb.maps import attention
from workshop.measure import cause
from workshop.train.oracle import JUDGE, load_oracle

PROMPT, OTHER = "a cat and a dog", "a dog and a dog"
UP = "up_blocks.1.attentions.0.transformer_blocks.0.attn2"
WITHS = {
    "silence": lambda pipe: intervene.silence(pipe, 0),
    "silence self": lambda pipe: intervene.silence(pipe, attention="self", halves="both"),
    "reweight": lambda pipe: intervene.reweight(pipe, PROMPT, {"cat": 3}),
    "swap": lambda pipe: intervene.swap(pipe, PROMPT, {"cat": "dog"}, keys=False),
}
both_kinds = pytest.mark.parametrize("make", [sd_pipeline, xl_pipeline])
each = pytest.mark.parametrize("name", WITHS)


def draw(pipe, prompt=PROMPT, *, twins=0, **options):
    """Latents (image, channel, h, w); with `twins`, of so many pictures from the same noise."""
    if twins:
        options["latents"] = torch.randn(1, 4, 12, 8, generator=intervene.twins(0)[0]).expand(
            twins, -1, -1, -1
        )
    return generate(pipe, prompt, **{"height": 24, "width": 16} | options)


def seen(pipe, part, name=UP):
    """What `to_q`, `to_k`, `to_v` or the input of `to_out` of one attention is, pass by pass, after all other
    hooks: (rows, the hook)."""
    attn, rows = pipe.unet.get_submodule(name), []
    if part == "to_out":
        return rows, attn.to_out[0].register_forward_pre_hook(lambda m, x: rows.append(x[0].clone()))
    return rows, getattr(attn, part).register_forward_hook(lambda m, x, y: rows.append(y.clone()))


class TestAll:
    @each
    @both_kinds
    @pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
    def test_the_image_changes_inside_alone(self, make, name, guidance_scale):
        pipe = make()
        if guidance_scale == 1 and name == "silence self":
            guidance_scale = 2.0
        alone = draw(pipe, guidance_scale=guidance_scale)
        with WITHS[name](pipe):
            assert hooks_of(pipe.unet) > 0
            inside = draw(pipe, guidance_scale=guidance_scale)
            again = draw(pipe, guidance_scale=guidance_scale)  # a second generation in one `with`
        assert torch.equal(inside, again) and inside.isfinite().all()
        assert not torch.allclose(inside, alone, atol=1e-4)
        assert hooks_of(pipe.unet) == 0
        assert torch.equal(draw(pipe, guidance_scale=guidance_scale), alone)

    @each
    def test_nothing_is_left_after_an_exception(self, pipe, name):
        alone = draw(pipe)
        processors = dict(pipe.unet.attn_processors)

        def fail(*_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), WITHS[name](pipe):
            draw(pipe, callback_on_step_end=fail)
        with WITHS[name](pipe), pipe.unet.mid_block.register_forward_hook(fail):
            with pytest.raises(KeyboardInterrupt):
                draw(pipe)
        assert hooks_of(pipe.unet) == 0 and torch.equal(draw(pipe), alone)
        assert all(pipe.unet.attn_processors[key] is value for key, value in processors.items())

    @each
    def test_after_a_pass_that_broke_the_next_generation_is_counted_anew(self, pipe, name):
        def fail(*_):
            raise MemoryError

        with WITHS[name](pipe):
            inside = draw(pipe)
            with pipe.unet.mid_block.register_forward_hook(fail), pytest.raises(MemoryError):
                draw(pipe)
            assert torch.equal(draw(pipe), inside)

    @pytest.mark.parametrize("first", ["record", "intervene"])
    @both_kinds
    def test_a_recording_sees_what_attention_used(self, make, first):
        pipe = make()
        name = next(name for name, m in pipe.unet.named_modules() if getattr(m, "is_cross_attention", False))
        rows, hook = seen(pipe, "to_q", name)
        kept = intervene.keep_layout(pipe, PROMPT, OTHER, cross=1)
        record = ov.record(pipe, dtype=torch.float32)
        entered = (record, kept) if first == "record" else (kept, record)
        with entered[0] as a, entered[1] as b, hook:
            draw(pipe, [PROMPT, OTHER], twins=2)
        trace = a if first == "record" else b
        source, target = trace.queries["conditional"][name].unbind(1)
        assert torch.equal(source, target)
        assert torch.equal(torch.stack(rows)[:, 2:].unbind(1)[1], target)
        assert hooks_of(pipe.unet) == 0

    @pytest.mark.parametrize("first", ["record", "intervene"])
    def test_a_recording_keeps_the_models_own_keys(self, pipe, first):
        """It asks `to_k` for its weights, in the middle of a pass."""
        with ov.record(pipe) as plain:
            draw(pipe)
        with contextlib.ExitStack() as stack:
            record, swap = ov.record(pipe), intervene.swap(pipe, PROMPT, {"cat": "dog"})
            entered = [
                stack.enter_context(c) for c in ((record, swap) if first == "record" else (swap, record))
            ]
            draw(pipe)
        trace = entered[0 if first == "record" else 1]
        for name, weight in plain.key_weights.items():
            assert torch.equal(trace.key_weights[name], weight)

    def test_blocks_steps_images_and_halves_are_kept_to(self, pipe):
        def said(prompt=PROMPT, count=2, **choice):
            """What the heads say in each pass: (batch, h·w, head, head_dim)."""
            rows, hook = seen(pipe, "to_out")
            with intervene.silence(pipe, **choice), hook:
                draw(pipe, prompt, steps=count)
            return [row.unflatten(-1, (2, -1)) for row in rows]

        two = [PROMPT, OTHER]
        plain = said(two, 3, steps=[0], images=0, blocks="down")  # not the block that is watched
        first, second, third = said(two, 3, heads=1, steps=0, images=1, blocks="up_blocks.1")
        assert (first[3, :, 1] == 0).all() and not (first[3, :, 0] == 0).any()
        assert not (first[:3] == 0).any() and not (second == 0).any() and not (third == 0).any()
        assert not any((row == 0).any() for row in plain + said(blocks=6))  # (12, 8) is its grid
        for halves, silent in (("conditional", [1]), ("unconditional", [0]), ("both", [0, 1])):
            assert [
                i for i, row in enumerate(said(halves=halves, blocks=[(12, 8)])[0]) if (row == 0).all()
            ] == silent

    @pytest.mark.slow
    def test_on_another_device(self):
        said = on_pretend_device(
            "from test_intervene import OTHER, PROMPT, WITHS, draw, intervene, sd_pipeline\n"
            "pipe = sd_pipeline().to('pretend')\n"
            "for make in WITHS.values():\n"
            "    with make(pipe):\n        print(draw(pipe).device)\n"
            "with intervene.keep_layout(pipe, PROMPT, OTHER):\n"
            "    print(draw(pipe, [PROMPT, OTHER], twins=2).device)\n"
        )
        assert said == ["pretend:0"] * (len(WITHS) + 1)

    def test_half_precision(self):
        pipe = sd_pipeline().to(torch.bfloat16)
        for make in WITHS.values():
            with make(pipe):
                assert draw(pipe).isfinite().all()

    def test_a_loop_by_hand(self, pipe):
        states = torch.cat([pipe.encode_prompt(p, "cpu", 1, False)[0] for p in ("", PROMPT)])
        x = torch.randn(1, 4, 8, 8).expand(2, -1, -1, -1)
        rows, hook = seen(pipe, "to_out")
        with torch.no_grad(), intervene.silence(pipe, guidance=True), hook:
            pipe.unet(x, 10, encoder_hidden_states=states)
        assert (rows[0][1] == 0).all() and not (rows[0][0] == 0).any()
        with pytest.raises(ValueError, match="say guidance=True if they"), intervene.silence(pipe):
            pipe.unet(x, 10, encoder_hidden_states=states)

    def test_what_does_not_fit_is_refused(self, pipe):
        for problem, options in (
            ("Image 2 is to be changed, and this generation has 1", {"images": 2}),
            ("Step 5 is to be changed, and this generation has 2", {"steps": range(6)}),
            ("No block matches 'middle'", {"blocks": "middle"}),
            ("No block matches 7", {"blocks": 7}),
        ):
            with pytest.raises(ValueError, match=problem), intervene.silence(pipe, **options):
                draw(pipe)
        with pytest.raises(ValueError, match=r"no unconditional half to change: .* without guidance"):
            with intervene.silence(pipe, halves="unconditional"):
                draw(pipe, guidance_scale=1.0)
        with pytest.raises(
            ValueError, match="looked up in 'a cat and a dog', and image 1 is drawn from 'a c"
        ):
            with WITHS["reweight"](pipe):
                draw(pipe, [PROMPT, "a cat"])
        with intervene.reweight(pipe, PROMPT, {"cat": 0}, images=0):
            draw(pipe, [PROMPT, "a cat"])
        with pytest.raises(ValueError, match="halves is one of"), intervene.silence(pipe, halves="left"):
            pass
        with pytest.raises(ValueError, match=r"images=\[\] names none"), intervene.silence(pipe, images=[]):
            pass
        with pytest.raises(TypeError, match="a diffusers pipeline"), intervene.silence(pipe.unet):
            pass


class TestSilence:
    def test_the_heads_channels_are_zero(self):
        said = torch.arange(1.0, 25).reshape(2, 2, 6)  # (batch, h·w, head·head_dim), three heads
        found = intervene.silenced(said, [1], heads=3, rows=[1])
        expected = said.clone()
        expected[1, :, 2:4] = 0
        assert torch.equal(found, expected) and said.min() == 1

    def test_all_heads_leave_the_bias(self, pipe):
        attn, rows = pipe.unet.get_submodule(UP), []
        hook = attn.to_out[0].register_forward_hook(lambda m, x, y: rows.append(y))
        with intervene.silence(pipe, blocks=UP), hook:
            draw(pipe)
        torch.testing.assert_close(rows[0][1], attn.to_out[0].bias.expand_as(rows[0][1]))

    def test_a_head_that_is_not_there(self, pipe):
        with pytest.raises(ValueError, match=r"no head 2: these layers have 2 at most, counted from 0"):
            with intervene.silence(pipe, [0, 2]):
                pass
        with pytest.raises(ValueError, match=r"heads=\[\] names none"), intervene.silence(pipe, []):
            pass
        with pytest.raises(TypeError, match="heads are counted from 0"), intervene.silence(pipe, "first"):
            pass


class TestReweight:
    @pytest.mark.parametrize("factor", [0.0, 0.5, 3.0, -1.0])
    def test_it_equals_the_formula_on_the_map(self, pipe, factor):
        """Σ_k A[:, k] V[k] with the word's column of A times c, written out."""
        parts = {part: seen(pipe, part) for part in ("to_q", "to_k", "to_out")}
        value, hook = seen(pipe, "to_v")
        hook.remove()
        attn = pipe.unet.get_submodule(UP)
        before = attn.to_v.register_forward_hook(lambda m, x, y: value.append(y.clone()), prepend=True)
        with intervene.reweight(pipe, PROMPT, {"cat": factor}, blocks=UP):
            before.remove()
            with attn.to_v.register_forward_hook(lambda m, x, y: value.append(y.clone()), prepend=True):
                draw(pipe, steps=1)
        for _, hook in parts.values():
            hook.remove()
        query, key, out = (parts[part][0][0] for part in ("to_q", "to_k", "to_out"))
        maps = attention(query, key, heads=attn.heads, scale=attn.scale)  # (batch, head, h·w, token)
        token = 2  # start, a, cat
        maps[1, ..., token] *= factor
        per_head = value[0].unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # (batch, head, token, head_dim)
        expected = (maps @ per_head).transpose(1, 2).flatten(-2)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-6)
        plain = attention(query, key, heads=attn.heads, scale=attn.scale) @ per_head
        assert not torch.allclose(out, plain.transpose(1, 2).flatten(-2), rtol=1e-4, atol=1e-6)

    def test_one_changes_nothing(self, pipe):
        alone = draw(pipe)
        with intervene.reweight(pipe, PROMPT, {"cat": 1, "dog": 1.0}):
            assert torch.equal(draw(pipe), alone)

    def test_nested_weights_multiply_and_images_keep_their_own(self, pipe):
        with intervene.reweight(pipe, PROMPT, {"cat": 2}), intervene.reweight(pipe, PROMPT, {"cat": 0.5}):
            torch.testing.assert_close(draw(pipe), draw(sd_pipeline()))
        noise = torch.randn(1, 4, 12, 8).expand(2, -1, -1, -1)
        with intervene.reweight(pipe, PROMPT, {"cat": 3}, images=1):
            both = draw(pipe, [PROMPT] * 2, latents=noise)
        with intervene.reweight(pipe, PROMPT, {"cat": 3}):
            alone = draw(pipe, latents=noise[:1])
        torch.testing.assert_close(both[1:], alone, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(both[:1], draw(pipe, latents=noise[:1]), rtol=1e-3, atol=1e-4)

    def test_every_token_of_every_occurrence(self):
        text = "kitten, kitten"  # five tokens each of which the small tokenizer spells, and a comma
        read = ov.text.TextEncoder.of(sd_pipeline()).read(text)
        [tokens] = intervene.wording.places(sd_pipeline(), text, ["kitten"]).values()
        assert tokens == [t for place in read.find("kitten") for t in place] and len(tokens) > 2

    def test_words_and_weights_that_are_none(self, pipe):
        for problem, kind, words in (
            ("No word 'car' in the attribution text; it has a, cat", KeyError, {"car": 2}),
            ("the weight of 'cat' is a number", TypeError, {"cat": "much"}),
            ("the weight of 'cat' is a finite number", ValueError, {"cat": float("inf")}),
            ("no word to reweight", ValueError, {}),
            ("words is a dictionary", TypeError, ["cat"]),
        ):
            with pytest.raises(kind, match=problem), intervene.reweight(pipe, PROMPT, words):
                pass


class TestSwap:
    def test_both_is_the_other_prompt(self):
        pipe = sd_pipeline(text_layers=0)  # words without context, as the bundled model's
        with intervene.swap(pipe, PROMPT, {"cat": "dog"}):
            torch.testing.assert_close(draw(pipe), draw(sd_pipeline(text_layers=0), OTHER))

    def test_with_context_it_takes_all_states(self, pipe):
        with intervene.swap(pipe, PROMPT, {"cat": "dog"}, context=True):
            torch.testing.assert_close(draw(pipe), draw(sd_pipeline(), OTHER))
        with intervene.swap(pipe, PROMPT, {"cat": "dog"}):
            assert not torch.allclose(draw(pipe), draw(sd_pipeline(), OTHER), atol=1e-5)

    @pytest.mark.parametrize("which", ["keys", "values"])
    @both_kinds
    def test_keys_or_values_alone(self, make, which):
        pipe = make()
        name = next(name for name, m in pipe.unet.named_modules() if getattr(m, "is_cross_attention", False))
        parts = {part: seen(pipe, part, name) for part in ("to_k", "to_v")}
        draw(pipe, steps=1)
        draw(pipe, OTHER, steps=1)
        with intervene.swap(pipe, PROMPT, {"cat": "dog"}, **{"keys": False, "values": False, which: True}):
            draw(pipe, steps=1)
        for part, (rows, hook) in parts.items():
            hook.remove()
            source, other, found = (row[1] for row in (rows[0], rows[len(rows) // 3], rows[-len(rows) // 3]))
            swapped = part == ("to_k" if which == "keys" else "to_v")
            torch.testing.assert_close(found[2], (other if swapped else source)[2])
            kept = [i for i in range(len(found)) if i != 2]
            torch.testing.assert_close(found[kept], source[kept])
            assert not torch.allclose(source[2], other[2], atol=1e-4)

    def test_words_that_do_not_fit(self, pipe):
        for problem, kind, words, options in (
            ("No word 'car'", KeyError, {"car": "dog"}, {}),
            (r"'cat' has 1 token\(s\) and 'grass' 5", ValueError, {"cat": "grass"}, {}),
            ("Neither keys nor values", ValueError, {"cat": "dog"}, {"keys": False, "values": False}),
            ("no word to change", ValueError, {}, {}),
            ("words is a dictionary", TypeError, "dog", {}),
        ):
            with pytest.raises(kind, match=problem), intervene.swap(pipe, PROMPT, words, **options):
                pass
        with pytest.raises(ValueError, match="vocabulary has no word 'lion'"):
            pipe = sd_pipeline(word_tokenizer())
            with intervene.swap(pipe, PROMPT, {"cat": "lion"}):
                pass


class TestKeepLayout:
    def maps(self, pipe, *prompts, **options):
        """The maps of source and target in the pass of each step, and their values: (step, image, …)."""
        parts = {part: seen(pipe, part) for part in ("to_q", "to_k", "to_v")}
        attn = pipe.unet.get_submodule(UP)
        with intervene.keep_layout(pipe, *prompts, **options):
            draw(pipe, list(prompts), steps=4, twins=2)
        for _, hook in parts.values():
            hook.remove()
        query, key, value = (torch.stack(rows)[:, 2:] for rows, _ in parts.values())
        return attention(query, key, heads=attn.heads, scale=attn.scale), value

    def test_the_map_is_the_sources_and_the_values_its_own(self, pipe):
        maps, value = self.maps(pipe, PROMPT, OTHER, cross=0.5, self_attention=0)
        assert torch.equal(maps[:2, 0], maps[:2, 1]) and not torch.allclose(maps[2:, 0], maps[2:, 1])
        assert not torch.allclose(value[:, 0], value[:, 1])

    def test_self_attention_has_its_own_part(self, pipe):
        rows, hook = seen(pipe, "to_k", UP.replace("attn2", "attn1"))
        with intervene.keep_layout(pipe, PROMPT, OTHER, cross=0, self_attention=0.75), hook:
            draw(pipe, [PROMPT, OTHER], steps=4, twins=2)
        same = [torch.equal(row[2], row[3]) for row in rows]
        assert same == [True, True, True, False]
        assert not any(torch.equal(row[0], row[1]) for row in rows[1:])  # the unconditional half has its own

    def test_the_source_is_drawn_as_alone(self, pipe):
        plain = draw(pipe, [PROMPT, OTHER], twins=2)
        with intervene.keep_layout(pipe, PROMPT, OTHER):
            first, second = draw(pipe, [PROMPT, OTHER], twins=2)
        assert torch.equal(first, plain[0]) and not torch.allclose(second, plain[1], atol=1e-4)

    def test_a_new_word_keeps_its_own_keys(self, pipe):
        longer = "a kit cat and a dog"
        rows, hook = seen(pipe, "to_k")
        with intervene.keep_layout(pipe, PROMPT, longer, cross=1), hook:
            draw(pipe, [PROMPT, longer], twins=2)
        source, target = rows[0][2:]
        encoder = ov.text.TextEncoder.of(pipe)
        names = [encoder.read(text).tokens for text in (PROMPT, longer)]
        new = len(names[1]) - len(names[0])
        assert new > 0 and names[1][2 + new] == "cat"
        assert torch.equal(target[2 + new :], source[2:-new]) and torch.equal(target[:2], source[:2])
        assert not torch.allclose(target[2 : 2 + new], source[2 : 2 + new])

    def test_several_targets(self, pipe):
        prompts = [PROMPT, OTHER, "a dog and a cat"]
        rows, hook = seen(pipe, "to_q")
        with intervene.keep_layout(pipe, prompts[0], prompts[1:]), hook:
            draw(pipe, prompts, twins=3)
        assert torch.equal(rows[-2][3], rows[-2][4]) and torch.equal(rows[-2][3], rows[-2][5])

    def test_pairs(self):
        assert intervene.pairs("a cat".split(), "a dog".split()) == [(0, 0), (1, 1)]
        assert intervene.pairs("a cat on grass".split(), "a red cat on grass".split()) == [
            (0, 0), (1, 2), (2, 3), (3, 4),
        ]  # fmt: skip
        assert through(["a"], ["a", "b"], 4) == [(0, 0), (1, 2), (2, 3)]

    def test_what_does_not_fit(self, pipe):
        for problem, prompts, options, call in (
            ("different noise: give the pipeline generator=intervene.twins", [PROMPT, OTHER], {}, {}),
            ("in one batch of all 2 prompts, .* this one has 1", PROMPT, {}, {}),
            ("image 1 is drawn from 'a cat and a dog'", [PROMPT, PROMPT], {"twins": 2}, {}),
            ("cross is a part of the steps: a number from 0 to 1", [PROMPT, OTHER], {}, {"cross": 2}),
        ):
            with pytest.raises(ValueError, match=problem):
                with intervene.keep_layout(pipe, PROMPT, OTHER, **call):
                    draw(pipe, prompts, **options)
        with pytest.raises(ValueError, match="no other prompt"), intervene.keep_layout(pipe, PROMPT, []):
            pass
        assert hooks_of(pipe.unet) == 0


class TestExcite:
    def test_the_loss_by_hand(self):
        maps = torch.zeros(2, 5, 5)
        maps[0, 2, 2] = 1
        maps[1] = 0.25
        near = np.exp(-2.0)  # exp(−1² / (2 · 0.5²))
        centre = 1 / (1 + 2 * near) ** 2
        torch.testing.assert_close(intervene.neglects(maps), torch.tensor([1 - centre, 0.75]).float())
        assert float(intervene.neglect(maps)) == pytest.approx(0.75)

    def test_the_share_among_words(self):
        maps = torch.tensor([[0.5, 0.02, 0.03, 0.45]])  # start, two words, end
        first, second = among_words(maps, 3)[0].tolist()
        assert second / first == pytest.approx(np.e, rel=1e-4) and first + second == pytest.approx(1)

    @both_kinds
    @pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
    def test_latents_move_against_the_gradient(self, make, guidance_scale):
        pipe = make()
        options = {"guidance_scale": guidance_scale, "steps": 4}
        alone = draw(pipe, **options)
        with intervene.excite(pipe, PROMPT, ["cat", "dog"], rate=1e-9) as push:
            torch.testing.assert_close(draw(pipe, callback_on_step_end=push, **options), alone)
        assert list(push.losses) == [1]
        rate = 0.5 if make is sd_pipeline else 1e4  # random weights hardly look at one word more than another
        with intervene.excite(pipe, PROMPT, ["cat", "dog"], rate=rate, targets={1: 1.0}, most=8) as push:
            pushed = draw(pipe, callback_on_step_end=push, **options)
        worst = [max(pair) for pair in push.losses[1]]
        assert len(worst) == 8 and worst[-1] < worst[0]
        assert not torch.allclose(pushed, alone, atol=1e-4) and pushed.isfinite().all()
        assert hooks_of(pipe.unet) == 0 and push.called is None
        assert torch.equal(draw(pipe, **options), alone)

    def test_a_recording_does_not_count_the_looks(self, pipe):
        with (
            ov.record(pipe, dtype=torch.float32) as trace,
            intervene.excite(pipe, PROMPT, ["cat"], steps=[1, 2]) as push,
        ):
            draw(pipe, steps=4, callback_on_step_end=push)
        assert trace.steps == (0, 1, 2, 3) and list(push.losses) == [1, 2]

    def test_the_gradient_is_that_of_the_loss(self, pipe):
        with intervene.excite(pipe, PROMPT, ["cat"]) as push:
            kept = {}

            def look(pipe, step, t, kwargs):
                if step == 0:
                    x, following = kwargs["latents"], pipe.scheduler.timesteps[1]
                    gradient = push.look(x, following)[1]
                    nudge = 0.1 * gradient / gradient.norm()
                    higher, lower = (push.look(x + s * nudge, following)[0] for s in (1, -1))
                    kept["slopes"] = float(higher - lower) / 2, float((gradient * nudge).sum())
                return {}

            draw(pipe, callback_on_step_end=look)
        measured, computed = kept["slopes"]
        assert measured == pytest.approx(computed, rel=0.05) and computed > 1e-5

    def test_what_does_not_fit(self, pipe):
        with pytest.raises(KeyError, match="No word 'car'"), intervene.excite(pipe, PROMPT, ["car"]):
            pass
        with pytest.raises(ValueError, match="no word to push"), intervene.excite(pipe, PROMPT, []):
            pass
        with pytest.raises(TypeError, match="words is a list"), intervene.excite(pipe, PROMPT, "cat"):
            pass
        with pytest.raises(ValueError, match="one picture at a time"):
            with intervene.excite(pipe, PROMPT, ["cat"]) as push:
                draw(pipe, [PROMPT] * 2, callback_on_step_end=push)
        with pytest.raises(ValueError, match="between two steps; this generation has only one"):
            with intervene.excite(pipe, PROMPT, ["cat"]) as push:
                draw(pipe, steps=1, callback_on_step_end=push)
        assert hooks_of(pipe.unet) == 0

    @pytest.mark.parametrize(("count", "pushed"), [(2, [1]), (3, [1]), (4, [1]), (6, [1, 2])])
    def test_the_first_half_is_pushed_and_never_nothing(self, pipe, count, pushed):
        with intervene.excite(pipe, PROMPT, ["cat"]) as push:
            draw(pipe, steps=count, callback_on_step_end=push)
        assert list(push.losses) == pushed


class TestEffects:
    def test_what_changed_and_where(self):
        before = np.zeros((10, 12, 3), np.uint8)
        after = before.copy()
        after[:5, :6] = 200
        after[9, :, 0] = 30  # invisible: a mean of 10 of 255
        mask = np.zeros((10, 12), bool)
        mask[:5] = True
        assert intervene.changed(before, after).sum() == 30
        assert intervene.effect(before, after, mask) == (0.5, 0.0)
        assert intervene.effect(before, before, torch.from_numpy(mask)) == (0.0, 0.0)

    def test_masks(self):
        first, second = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
        assert intervene.mask_iou(first, second) == 1
        first[:2], second[1:3] = True, True
        assert intervene.mask_iou(first, second) == pytest.approx(1 / 3)
        with pytest.raises(ValueError, match="different shapes"):
            intervene.mask_iou(first, second[:2])
        with pytest.raises(ValueError, match="two values"):
            intervene.mask_iou(first, np.arange(16).reshape(4, 4))

    def test_what_does_not_fit(self):
        small, large = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 12, 3), np.uint8)
        with pytest.raises(ValueError, match="different sizes"):
            intervene.changed(small, large)
        with pytest.raises(ValueError, match="no inside, or no outside"):
            intervene.effect(small, small, np.zeros((8, 8), bool))
        with pytest.raises(ValueError, match="The mask is 4×4 and the pictures 8×8"):
            intervene.effect(small, small, np.eye(4) > 0)


class TestMeasured:
    """What the course says of the stored figures."""

    FOUND = json.loads(cause.RESULTS.read_text("utf-8"))

    def mean(self, part, *keys):
        return float(
            np.mean([functools.reduce(lambda at, key: at[key], keys, row) for row in self.FOUND[part]])
        )

    def test_values_say_what_and_keys_do_not(self):
        def other_one(way):
            return np.mean([row[way]["other"] > row[way]["word"] for row in self.FOUND["swap"]])

        assert other_one("values") > 0.9 and other_one("both") > 0.9
        assert other_one("keys") < 0.2 and other_one("plain") == 0

    def test_a_kept_layout_is_kept(self):
        assert self.mean("layout", "kept", "all") > self.mean("layout", "plain", "all") + 0.2
        assert self.mean("layout", "kept", "same") > self.mean("layout", "plain", "same") + 0.2
        drawn = [
            np.mean([row[way]["other"] > cause.SPECK for row in self.FOUND["layout"]])
            for way in ("plain", "kept")
        ]
        assert drawn[0] == 1 and 0.7 < drawn[1] < 1, "the price: sometimes the new word is not drawn"

    @pytest.mark.slow
    def test_a_case_comes_out_again(self):
        judge = load_oracle(JUDGE, device="cpu")
        [row] = cause.swap(cause.Stage(bundled_pipe(), judge), 0)
        for way in ("plain", "keys", "values", "both"):
            assert row[way] == pytest.approx(self.FOUND["swap"][0][way], abs=0.03)

    def test_as_lines_is_json(self):
        assert json.loads(cause.as_lines(self.FOUND)) == self.FOUND
        assert cause.RESULTS.read_text("utf-8") == cause.as_lines(self.FOUND)
