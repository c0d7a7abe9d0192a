"""Files: whole or not at all, with the mode that the umask leaves, onto regular files only."""

import errno
import os
import stat
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import ovamnb as ov
from ovamnb.images import as_rgb
from ovamnb.plumbing.files import as_path, existing, whole, write_text

resource = pytest.importorskip("resource", reason="limits of files are a Unix matter")


@pytest.fixture
def full_disk():
    """From here on files take no more than 1000 bytes; as on a full disk, writing more fails half way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def noise(size=(400, 400)):
    return torch.rand(size, generator=torch.Generator().manual_seed(0)) > 0.5


def writers(folder):
    """Everything that the package saves, by the file it goes to."""
    token = ov.Token("cat", torch.rand(100_000))
    return {
        folder / "cat.safetensors": lambda path: token.save(path),
        folder / "cat.png": lambda path: ov.save_mask(noise(), path),
        folder / "cat.txt": lambda path: write_text(path, "cat" * 1000),
    }


def test_what_is_written_is_there_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "Käse")
    write_text(tmp_path / "a.txt", "Brot")
    write_text(tmp_path / "new" / "b.txt", "Käse", make_folder=True)
    assert (tmp_path / "a.txt").read_text("utf-8") == "Brot"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.txt", "b.txt", "new"]
    long = tmp_path / ("é" * 127)  # 254 bytes, so that no ending fits behind it
    write_text(long, "long")
    assert long.read_text() == "long"


def test_an_exception_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "before")
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), whole(path) as partial:
            partial.write_text("half")
            raise error
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_told_in_a_sentence_and_leaves_no_file(tmp_path, full_disk):
    for path, write in writers(tmp_path).items():
        with pytest.raises(
            OSError, match=rf"'.*{path.name}' could not be written \(.*\): make room"
        ) as error:
            write(path)
        assert error.value.__suppress_context__ and not os.listdir(tmp_path), path.name


def test_a_full_disk_leaves_the_trace_that_was_there(trace, tmp_path, full_disk):
    path = tmp_path / "trace.safetensors"
    path.write_bytes(b"before")
    with pytest.raises(OSError, match=r"trace\.safetensors' could not be written"):
        trace.save(path, text_encoder=False)
    with pytest.raises(OSError, match=r"temporary folder .* save with text_encoder=False"):
        trace.save(path)
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["trace.safetensors"]


def test_the_number_of_an_error_stays(tmp_path):
    with pytest.raises(PermissionError) as error, whole(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "Permission denied", "somewhere")
    assert error.value.errno == errno.EACCES and "(Permission denied)" in str(error.value)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_leaves(trace, tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        trace.save(tmp_path / "trace.safetensors")
        for path, write in writers(tmp_path).items():
            write(path)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


def test_a_file_that_is_replaced_keeps_its_mode_and_its_links(tmp_path):
    path, link = tmp_path / "a.safetensors", tmp_path / "link.safetensors"
    path.write_bytes(b"")
    path.chmod(0o640)
    link.symlink_to(path.name)
    with whole(link) as partial:
        save_file({"a": torch.zeros(1)}, partial)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert link.is_symlink() and path.stat().st_size > 0


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="no device files here")
def test_devices_and_folders_are_not_replaced(trace, tmp_path):
    for path, says in (("/dev/null", "no regular file"), (tmp_path, "a folder")):
        with pytest.raises(ValueError, match=says):
            trace.save(path)
        with pytest.raises(ValueError, match=says):
            ov.Token("cat", torch.ones(3)).save(path)
    assert Path("/dev/null").is_char_device()


def test_a_folder_that_is_not_there(trace, tmp_path):
    for save in (trace.save, ov.Token("cat", torch.ones(3)).save, lambda path: ov.save_mask(noise(), path)):
        with pytest.raises(FileNotFoundError, match=r"There is no folder '.*missing' to save 'a.png' in"):
            save(tmp_path / "missing" / "a.png")


@pytest.mark.parametrize("wrong", [None, 3, b"cat.png", ["cat.png"]])
def test_what_names_no_file(wrong):
    with pytest.raises(TypeError, match="named by a string or a Path"):
        as_path(wrong)
    for empty in ("", "a\0b"):
        with pytest.raises(ValueError, match="names no file"):
            as_path(empty)


def test_what_cannot_be_opened(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    assert existing(str(tmp_path / "a.txt"), "text") == tmp_path / "a.txt"
    for path in (tmp_path, tmp_path / "b.txt", tmp_path / ("x" * 5000), tmp_path / "a.txt" / "b"):
        with pytest.raises(FileNotFoundError, match="There is no text at"):
            existing(path, "text")


def test_a_damaged_mask_is_told(tmp_path):
    ov.save_mask(noise(), tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    for wrong in (content[: len(content) // 2], content[:40], b"", b"nonsense"):
        (tmp_path / "cut.png").write_bytes(wrong)
        with pytest.raises(ValueError, match=r"cut.png' is (damaged|no image)"):
            ov.load_mask(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with Image.open(tmp_path / "cut.png") as image, pytest.raises(ValueError, match="file is damaged"):
        as_rgb(image)


def test_a_mask_is_saved_as_png_alone(tmp_path):
    for name in ("cat.jpg", "cat.webp", "cat"):
        with pytest.raises(ValueError, match=r"name it 'cat\.png'"):
            ov.save_mask(noise(), tmp_path / name)
    ov.save_mask(noise(), tmp_path / "cat.PNG")
    assert ov.load_mask(tmp_path / "cat.PNG").equal(noise())
