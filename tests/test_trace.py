"""Traces: chosen parts, saved and loaded, and a sentence for what was not recorded."""

import json

import numpy as np
import pytest
import torch
from conftest import generate, sd_pipeline, xl_pipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import ovamnb as ov

UP = "up_blocks.1.attentions.0.transformer_blocks.0.attn2"


def rewrite(trace, path, *, header=None, tensors=lambda all_: all_):
    """Save the trace with another header, or with other tensors."""
    trace.save(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    said = json.loads(metadata["trace"]) | (header or {})
    save_file(tensors(load_file(path)), path, metadata | {"trace": json.dumps(said)})


def test_maps_add_up(trace):
    whole = trace.maps("a cat").values
    assert whole.shape == (4, 8, 12)
    steps = sum(trace.maps("a cat", steps=step).values for step in (0, 1, 2))
    torch.testing.assert_close(steps, whole)
    fine, coarse = trace.maps("a cat", blocks=12), trace.maps("a cat", blocks=[6])
    assert coarse.values.shape == (4, 4, 6)
    torch.testing.assert_close(
        fine.values
        + ov.resize(coarse.values, (8, 12))
        - ov.resize(trace.maps("a cat", blocks="mid").values, (8, 12)),
        whole,
    )  # 6 is the grid of the mid block too, which is left out by default


def test_the_mid_block_is_left_out_by_default(trace):
    assert any(name.startswith("mid_block") for name in trace.blocks)
    down_and_up = trace.maps("a cat", blocks=["down", "up"])
    assert torch.equal(trace.maps("a cat").values, down_and_up.values)
    assert not torch.equal(trace.maps("a cat", blocks=["down", "mid", "up"]).values, down_and_up.values)
    name = next(iter(trace.blocks))
    assert trace.maps("a cat", blocks=name).count == 3 * 2  # steps × heads
    assert str(trace.blocks[name]) == "Block(8×12, 2 heads)"


def test_conditional_queries_come_first(trace):
    assert torch.equal(trace.maps("a cat").values, trace.maps("a cat", queries="conditional").values)
    assert not torch.equal(trace.maps("a cat").values, trace.maps("a cat", queries="unconditional").values)


def test_words_and_embeddings_answer_alike(trace):
    text = trace.text_encoder.encode("a cat")
    assert torch.equal(trace.maps("a cat").values, trace.maps(text.states).values)
    assert torch.equal(trace.maps(["a", "cat"]).values, trace.maps("a cat").values)


def test_self_attention_rows_sum_to_one(trace):
    for resolution, pixels in ((12, 96), ((8, 12), 96), (6, 24)):
        affinity = trace.self_attention(resolution)
        assert affinity.shape == (pixels, pixels) and affinity.dtype == torch.float32
        torch.testing.assert_close(affinity.sum(dim=1), torch.ones(pixels))


def test_what_was_not_recorded(trace):
    with pytest.raises(ValueError, match=r"Steps \[7\] were not recorded: there are 0 to 2"):
        trace.maps("a cat", steps=[1, 7])
    with pytest.raises(ValueError, match="No block matches 'middle'"):
        trace.maps("a cat", blocks="middle")
    with pytest.raises(ValueError, match="no image 1: the trace has 1, counted from 0"):
        trace.maps("a cat", image=1)
    with pytest.raises(ValueError, match="no image -1"):
        trace.self_attention(12, image=-1)
    with pytest.raises(ValueError, match=r"resolution 64 was recorded \(there is: .*8×12"):
        trace.self_attention(64)
    with pytest.raises(ValueError, match="dim 5, this model's text states 16"):
        trace.maps(torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"shape \(token, dim\)"):
        trace.maps(torch.zeros(1, 3, 16))
    with pytest.raises(ValueError, match="'both' were not recorded"):
        trace.maps("a cat", queries="both")


def test_overflow_is_told(trace):
    with pytest.raises(ValueError, match="not finite"):
        trace.maps(torch.full((2, 16), torch.inf))


def test_repr_says_what_there_is(trace):
    text = repr(trace)
    for part in (
        "1 image",
        "3 step",
        "MB",
        "3 on 8×12",
        "4 on 4×6",
        "heads: 2",
        "conditional, unconditional",
    ):
        assert part in text
    assert repr(ov.Trace()) == "Trace(empty)"
    assert trace.nbytes > 0


def test_a_saved_trace_answers_without_the_model(trace, tmp_path):
    trace.save(tmp_path / "cat.safetensors")
    loaded = ov.Trace.load(tmp_path / "cat.safetensors")
    assert repr(loaded) == repr(trace) and loaded.blocks == trace.blocks
    assert loaded.timesteps == trace.timesteps
    for options in ({}, {"queries": "unconditional", "steps": 1, "blocks": "up"}):
        assert torch.equal(
            loaded.maps("a kitten", **options).values, trace.maps("a kitten", **options).values
        )
    assert torch.equal(loaded.self_attention(6), trace.self_attention(6))
    loaded.save(tmp_path / "again.safetensors")
    assert torch.equal(
        ov.Trace.load(tmp_path / "again.safetensors").maps("cat")["cat"], trace.maps("cat")["cat"]
    )


def test_a_trace_of_two_text_encoders(tmp_path):
    pipe = xl_pipeline()
    with ov.record(pipe) as trace:
        generate(pipe, steps=1)
    assert {name.split(".attn")[0] for name in trace.blocks} >= {
        f"up_blocks.0.attentions.0.transformer_blocks.{i}" for i in (0, 1)
    }
    trace.save(tmp_path / "xl.safetensors")
    loaded = ov.Trace.load(tmp_path / "xl.safetensors")
    assert torch.equal(loaded.maps("a kitten")["kitten"], trace.maps("a kitten")["kitten"])


def test_a_trace_without_text_encoder_takes_one_from_a_pipeline(trace, tmp_path):
    path = tmp_path / "bare.safetensors"
    trace.save(path, text_encoder=False)
    bare = ov.Trace.load(path)
    assert not any(key.startswith("text/") for key in load_file(path))
    states = trace.text_encoder.encode("a cat").states
    assert torch.equal(bare.maps(states).values, trace.maps("a cat").values)
    with pytest.raises(
        ValueError, match=r"no text encoder to read words with: load it as `Trace.load\(path, pipe\)`"
    ):
        bare.maps("a cat")
    assert torch.equal(ov.Trace.load(path, sd_pipeline()).maps("a cat").values, trace.maps("a cat").values)


def test_files_that_are_no_traces(trace, tmp_path):
    path = tmp_path / "trace.safetensors"
    with pytest.raises(FileNotFoundError, match="no trace at"):
        ov.Trace.load(path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        trace.save(tmp_path / "missing" / "trace.safetensors")
    with pytest.raises(ValueError, match="This trace is empty"):
        ov.Trace().save(path)

    trace.save(path)
    content = path.read_bytes()
    for broken in (b"", b"not a trace", content[:100], content[: len(content) // 2]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="is damaged or no trace"):
            ov.Trace.load(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="is no trace that this version"):
        ov.Trace.load(path)
    for header in (
        "{",
        "{}",
        json.dumps({"blocks": {"up": {"grid": [1, 1], "heads": 1, "scale": 1}}, "halves": []}),
    ):
        save_file({"weight": torch.zeros(2)}, path, metadata={"format": "ovamnb trace 1", "trace": header})
        with pytest.raises(ValueError, match="is damaged or no trace"):
            ov.Trace.load(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": [0, 1]}, "fit, in the steps"),
        ({"steps": [0, 2, 1]}, "fit, in the steps"),
        ({"steps": [], "timesteps": []}, "fit, in the steps"),
        ({"steps": 3}, "damaged"),
        ({"timesteps": [1.0, 2.0, None]}, "a timestep is a number"),
        ({"images": 2}, "fit, in conditional"),
        ({"images": "1"}, "images is a whole number"),
        ({"image_size": [16, 24, 3]}, r"a size \(h, w\)"),
        ({"model": 3}, "the model's name"),
        ({"halves": ["conditional", "both"]}, "damaged"),
        ({"halves": "conditional"}, "damaged"),
        ({"affinities": [[12, 8], [4, 6]]}, "damaged"),
        ({"blocks": None}, "damaged"),
    ],
)
def test_a_header_that_does_not_fit_its_tensors(trace, tmp_path, change, says):
    rewrite(trace, tmp_path / "trace.safetensors", header=change)
    with pytest.raises(ValueError, match=rf"is damaged or no trace: .*{says}" if says != "damaged" else says):
        ov.Trace.load(tmp_path / "trace.safetensors")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (f"queries/conditional/{UP}", lambda values: values[:2]),
        (f"queries/conditional/{UP}", lambda values: values[:, :, :5]),
        (f"queries/conditional/{UP}", lambda values: values.to(torch.int64)),
        (f"key_weights/{UP}", lambda values: values[:5]),
        ("self_attention/8x12", lambda values: values[:, :5]),
    ],
)
def test_tensors_that_do_not_fit_their_header(trace, tmp_path, name, change):
    rewrite(
        trace, tmp_path / "trace.safetensors", tensors=lambda all_: all_ | {name: change(all_[name]).clone()}
    )
    with pytest.raises(ValueError, match="is damaged or no trace: its header and its tensors do not fit"):
        ov.Trace.load(tmp_path / "trace.safetensors")


def test_a_damaged_text_side_is_told_when_the_trace_is_loaded(trace, tmp_path):
    path = tmp_path / "trace.safetensors"
    trace.save(path)
    names = [name for name in load_file(path) if name.startswith("text/")]
    for name in names:
        if name.endswith((".json", ".safetensors")):
            rewrite(trace, path, tensors=lambda all_, name=name: all_ | {name: all_[name][:-9].clone()})
            with pytest.raises(ValueError, match=rf"the file '{name[5:]}' of its text side cannot be read"):
                ov.Trace.load(path)
    rewrite(trace, path, tensors=lambda all_: all_ | {"text/other/a.py": all_[names[0]].clone()})
    with pytest.raises(ValueError, match="its text side has the parts other"):
        ov.Trace.load(path)
    rewrite(trace, path, tensors=lambda all_: all_ | {names[0]: torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="its text side holds no file"):
        ov.Trace.load(path)


def test_a_text_side_that_is_whole_but_none_is_told_when_it_is_asked(trace, tmp_path):
    path, config = tmp_path / "trace.safetensors", "text/text_encoder/config.json"
    bare = torch.frombuffer(bytearray(b'{"architectures": ["Pipeline"]}'), dtype=torch.uint8)
    rewrite(trace, path, tensors=lambda all_: all_ | {config: bare})
    loaded = ov.Trace.load(path)
    with pytest.raises(ValueError, match=r"text side of this trace is damaged .*`Trace.load\(path, pipe\)`"):
        loaded.maps("a cat")
    assert ov.Trace.load(path, sd_pipeline()).maps("a cat")["cat"].shape == (8, 12)


def test_questions_of_a_wrong_kind(trace):
    for image in ("0", None, 0.0, True):
        with pytest.raises(TypeError, match="image counts the images of a trace from 0: a whole number"):
            trace.maps("a cat", image=image)
    for resolution in ("32", None, 12.5, (8, 12, 1)):
        with pytest.raises(TypeError, match="Give a resolution: the longer side of a grid"):
            trace.self_attention(resolution)
    assert trace.self_attention(torch.tensor(12)).equal(trace.self_attention([8, 12]))
    for blocks in (1.5, "", [""], [None], object(), True):
        with pytest.raises(TypeError, match="blocks is a part of a name"):
            trace.maps("a cat", blocks=blocks)
    with pytest.raises(ValueError, match="chooses no block"):
        trace.maps("a cat", blocks=[])
    for queries in (3, "", []):
        with pytest.raises(ValueError, match="were not recorded"):
            trace.maps("a cat", queries=queries)
    with pytest.raises(TypeError, match="softmax is True or False"):
        trace.maps("a cat", softmax="no")
    with pytest.raises(ValueError, match="Steps are numbers of UNet passes"):
        trace.maps("a cat", steps=1.5)
    with pytest.raises(TypeError, match="takes a diffusers pipeline"):
        ov.Trace.load("trace.safetensors", "sd15")


def test_numpy_embeddings_are_embeddings(trace):
    states = trace.text_encoder.encode("a cat").states
    assert torch.equal(trace.maps(states.numpy()).values, trace.maps("a cat").values)
    with pytest.raises(TypeError, match="text is a tensor or an array of numbers"):
        trace.maps(np.array(["a", "cat"]))


def test_a_trace_does_not_keep_the_unet_alive():
    import gc
    import weakref

    pipe = sd_pipeline()
    with ov.record(pipe) as trace:
        generate(pipe, steps=1)
    unet = weakref.ref(pipe.unet)
    del pipe
    gc.collect()
    assert unet() is None
    assert trace.maps("a cat")["cat"].shape == (8, 8)
