"""On a device that is not the CPU: an imitated one, in processes of their own, since PyTorch keeps it."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=TESTS.parent)


def script(code):
    """What a script prints with the accelerator on."""
    head = (
        f"import sys; sys.path[:0] = [{str(TESTS.parent)!r}, {str(TESTS)!r}]\n"
        "import torch, accelerator\nimport ovamnb as ov\n"
        "with accelerator.Accelerator() as device:\n"
    )
    done = run("-c", head + "".join(f"    {line}\n" for line in code.splitlines()))
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout.split()


@pytest.mark.slow
class TestTheImitation:
    def test_tensors_of_two_devices_do_not_meet(self):
        said = script(
            "far, near = torch.ones(2, device='pretend'), torch.ones(2)\n"
            "try:\n    far + near\nexcept RuntimeError as error:\n    print('refused', 'cpu' in str(error))\n"
            "print((far + torch.tensor(1.0)).sum().item(), far[torch.tensor([0])].cpu().tolist()[0])"
        )
        assert said == ["refused", "True", "4.0", "1.0"]

    def test_only_indices_may_be_elsewhere(self):
        said = script(
            "far, near, at = torch.ones(2, device='pretend'), torch.ones(2), torch.tensor([1, 0])\n"
            "def put(): far[at] = near\n"
            "for wrong in (lambda: near[at.to('pretend')], lambda: near[far > 0], put):\n"
            "    try:\n        wrong()\n        print('let through')\n"
            "    except RuntimeError as error:\n        print('same device' in str(error))"
        )
        assert said == ["True"] * 3

    def test_copies_and_waits_are_counted(self):
        said = script(
            "far = torch.ones(2, device='pretend')\nprint(device.copies, device.waits)\n"
            "far.cpu()\nprint(device.copies, device.waits)\n"
            "far.sum().item()\nprint(device.copies, device.waits)"
        )
        assert said == ["0", "0", "1", "0", "1", "1"]


@pytest.mark.slow
def test_the_best_device_is_found():
    assert script("from ovamnb.pipelines import find_device\nprint(find_device())") == ["pretend"]


@pytest.mark.slow
def test_from_a_prompt_to_a_mask_and_a_token():
    said = script(
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
@pytest.mark.parametrize("number", ["01", "04"])
def test_a_chapter_runs_on_it(number):
    done = run(str(TESTS / "play.py"), number)
    assert not done.returncode, done.stdout + done.stderr[-1000:]
