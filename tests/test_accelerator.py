"""On a device that is not the CPU: an imitated one, in processes of their own, since PyTorch keeps it."""

import subprocess
import sys
from pathlib import Path

import pytest
from shared_fixtures import on_pretend_device
from test_filters import small_blip

TESTS = Path(__file__).parent


@pytest.mark.slow
class TestTheImitation:
    def test_tensors_of_two_devices_do_not_meet(self):
        said = on_pretend_device(
            "far, near = torch.ones(2, device='pretend'), torch.ones(2)\n"
            "try:\n    far + near\nexcept RuntimeError as error:\n    print('refused', 'cpu' in str(error))\n"
            "print((far + torch.tensor(1.0)).sum().item(), far[torch.tensor([0])].cpu().tolist()[0])"
        )
        assert said == ["refused", "True", "4.0", "1.0"]

    def test_only_indices_may_be_elsewhere(self):
        said = on_pretend_device(
            "far, near, at = torch.ones(2, device='pretend'), torch.ones(2), torch.tensor([1, 0])\n"
            "def put(): far[at] = near\n"
            "for wrong in (lambda: near[at.to('pretend')], lambda: near[far > 0], put):\n"
            "    try:\n        wrong()\n        print('let through')\n"
            "    except RuntimeError as error:\n        print('same device' in str(error))"
        )
        assert said == ["True"] * 3

    def test_copies_and_waits_are_counted(self):
        said = on_pretend_device(
            "far = torch.ones(2, device='pretend')\nprint(device.copies, device.waits)\n"
            "far.cpu()\nprint(device.copies, device.waits)\n"
            "far.sum().item()\nprint(device.copies, device.waits)"
        )
        assert said == ["0", "0", "1", "0", "1", "1"]


@pytest.mark.slow
def test_the_best_device_is_found():
    assert on_pretend_device("from ovamnb.pipelines import find_device\nprint(find_device())") == ["pretend"]


@pytest.mark.slow
def test_from_a_prompt_to_a_mask_and_a_token():
    said = on_pretend_device(
        "pipe = ov.load_pipeline()\npipe.set_progress_bar_config(disable=True)\n"
        "print(pipe.unet.device)\n"
        "with ov.record(pipe, self_attention=(32,)) as trace:\n"
        "    image = pipe('a cat', num_inference_steps=2).images[0]\n"
        "heat = ov.complete(trace.maps('a kitten')['kitten'], trace.self_attention(32))\n"
        "mask = ov.binarize(ov.resize(heat, image))\n"
        "token = ov.optimize_token(trace, mask, init='cat', evaluations=3)\n"
        "result = ov.segment(pipe, image, ['cat', token, 'dog'][::2], samples=1)\n"
        "print(result.labels.device, result.scores.device, trace.maps(token)['cat'].device)\n"
    )
    assert said == ["pretend:0", "cpu", "cpu", "cpu"]


@pytest.mark.slow
@pytest.mark.parametrize(("share", "copies"), [(0.25, 0), (0.0, 9)])
def test_recording_does_not_make_the_device_wait(share, copies):
    """Beyond what the generation itself reads, a step waits for nothing; it copies only what finds no room on
    the device: the queries of nine blocks."""
    said = on_pretend_device(
        f"import ovamnb.buffers\novamnb.buffers.SHARE = {share}\n"
        "pipe = ov.load_pipeline()\npipe.set_progress_bar_config(disable=True)\n"
        "def cost(steps, recorded):\n"
        "    before = device.copies, device.waits\n"
        "    draw = lambda: pipe('a cat', num_inference_steps=steps, output_type='latent')\n"
        "    if recorded:\n"
        "        with ov.record(pipe, self_attention=(32,)): draw()\n"
        "    else: draw()\n"
        "    return torch.tensor([device.copies - before[0], device.waits - before[1]])\n"
        "few, many = (cost(steps, True) - cost(steps, False) for steps in (2, 5))\n"
        "print(*((many - few) / 3).tolist())"
    )
    assert list(map(float, said)) == [copies, 0]


@pytest.mark.slow
def test_a_trace_moves_and_answers_there():
    said = on_pretend_device(
        "pipe = ov.load_pipeline()\npipe.set_progress_bar_config(disable=True)\n"
        "with ov.record(pipe, self_attention=(32,), device=None) as trace:\n"
        "    pipe('a cat', num_inference_steps=2, output_type='latent')\n"
        "here = trace.to('cpu')\n"
        "print(trace.device, here.device, here.to('pretend').device)\n"
        "print(here.to('cpu') is here, trace.to('pretend') is trace)\n"
        "maps = [each.maps('a kitten')['kitten'] for each in (trace, here)]\n"
        "print(maps[0].device, (maps[0].cpu() - maps[1]).abs().max().item() < 1e-4)"
    )
    assert said == ["pretend:0", "cpu", "pretend:0", "True", "True", "pretend:0", "True"]


@pytest.mark.slow
def test_every_method_of_the_evaluation_runs_on_it():
    """On a drawn and on a given picture, with words and with tokens."""
    said = on_pretend_device(
        "import tempfile\nfrom pathlib import Path\nfrom conftest import sd_pipeline\n"
        "from ovamnb.evaluation.methods import METHODS\nfrom ovamnb.evaluation.run import Evaluation\n"
        "from test_evaluation import Drawn, Few\n"
        "pipe = sd_pipeline().to('pretend')\n"
        "trace = ov.record_image(pipe, Few()[1].image, 'a cat')\n"
        "mask = torch.zeros(*trace.image_size)\nmask[4:12, 4:12] = 1\n"
        "token = lambda word: ov.optimize_token(trace, mask, init=word, evaluations=2)\n"
        "tokens = {word: token(word) for word in Few.classes}\n"
        "rows = [*METHODS, *(f'{name}:token' for name in METHODS)]\n"
        "for data in (Few(2), Drawn(2)):\n"
        "    folder = Path(tempfile.mkdtemp())\n"
        "    Evaluation(pipe, rows, tokens, quiet=True).run(data, folder)\n"
        "    print(len(list(folder.glob('examples/*.json'))))\n"
    )
    assert said == ["2", "2"]


@pytest.mark.slow
def test_a_synthetic_set_is_made_on_it():
    said = on_pretend_device(
        "import tempfile\nfrom pathlib import Path\nfrom ovamnb.synthesize import __main__ as synthesize\n"
        "from test_synthesize import CLASSES, EVERYTHING, OPTIONS\n"
        "folder = Path(tempfile.mkdtemp(), 'set')\n"
        "synthesize.main([*OPTIONS[:-2], *EVERYTHING, '--n', '2', '--out', str(folder)])\n"
        "print(len(list(folder.rglob('*.jpg'))))"
    )
    assert said[-1] == "4"


@pytest.mark.slow
def test_clip_is_on_it_and_encodes_a_class_once():
    said = on_pretend_device(
        "from PIL import Image\nfrom ovamnb.evidence import ClipFilter\n"
        "keep, image, texts = ClipFilter.load('bundled'), Image.new('RGB', (128, 128)), []\n"
        "keep.model.text_model.register_forward_hook(lambda *seen: texts.append(str(seen[2][0].device)))\n"
        "first = keep(image, ['cat', 'car'])\nassert keep(image, ['cat', 'car']) == first\n"
        "print(*texts, ClipFilter.load('bundled', device='cpu')(image, ['cat', 'car']) == first)"
    )
    assert said == ["pretend:0", "pretend:0", "True"]


@pytest.mark.slow
def test_blip_is_on_it(tmp_path):
    for part in small_blip():
        part.save_pretrained(tmp_path)
    said = on_pretend_device(
        "from PIL import Image\nfrom ovamnb.evidence import BlipCaptioner\n"
        f"there, here = (BlipCaptioner.load({str(tmp_path)!r}, device=name) for name in (None, 'cpu'))\n"
        "image = Image.new('RGB', (16, 16), 'red')\n"
        "print(there.model.device, there(image, 'a cat') == here(image, 'a cat'))"
    )
    assert said == ["pretend:0", "True"]


@pytest.mark.slow
@pytest.mark.parametrize("number", ["01", "04"])
def test_a_chapter_runs_on_it(number):
    command = [sys.executable, str(TESTS / "play.py"), number, "--device", "pretend"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stdout + done.stderr[-1000:]
