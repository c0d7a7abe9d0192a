"""How commands end: in one line, with an exit code, and in a traceback where nobody foresaw what happened."""

import errno
import importlib
import os
import signal

import pytest
from tqdm import tqdm

from ovamnb.plumbing.command import (
    FAILED,
    GOES_ON,
    STOPPED,
    TRACEBACK,
    WRONG,
    ends,
    require_given,
    require_writable,
)


def ended(capsys, error, code=FAILED):
    """What is printed where a command raises this, which has to be one line, and nothing on stdout."""

    @ends("prog", code)
    def main():
        raise error

    with pytest.raises(SystemExit) as left:
        main()
    out, said = capsys.readouterr()
    assert not out and said.startswith("prog: ") and said.count("\n") == 1
    assert left.value.code == (STOPPED if isinstance(error, KeyboardInterrupt) else code)
    return said.removeprefix("prog: ").strip()


class TestEnds:
    def test_sentences_are_kept_in_one_line(self, capsys):
        assert ended(capsys, ValueError("No.\n  Give another.")) == "No. Give another."
        assert (
            ended(capsys, FileNotFoundError("'a' is not there: get it."), WRONG)
            == "'a' is not there: get it."
        )
        assert ended(capsys, ImportError("install it")) == "install it"
        assert ended(capsys, RuntimeError("a process died")) == "a process died"
        assert ended(capsys, OSError(errno.ENOSPC, "ask for fewer")) == "ask for fewer"
        assert ended(capsys, ValueError()) == "ValueError"
        assert ended(capsys, MemoryError()).startswith("Not enough memory: take fewer")

    @pytest.mark.parametrize(
        ("number", "remedy"),
        [
            (errno.ENOSPC, "the disk is full: make room"),
            (errno.EDQUOT, "the disk is full: make room"),
            (errno.EACCES, "(Permission denied): give another place"),
            (errno.EROFS, "(Read-only file system): give another place"),
            (errno.ENOTDIR, "where a folder is needed: give another place"),
            (errno.EEXIST, "where a folder is needed: give another place"),
            (errno.EISDIR, "is a folder where a file is needed: give another place"),
            (errno.ENOENT, "is not there: give another place"),
        ],
    )
    def test_the_systems_words_get_a_remedy(self, capsys, number, remedy):
        said = ended(capsys, OSError(number, os.strerror(number), "a/b"))
        assert said.startswith("'a/b' ") and remedy in said

    def test_an_interruption(self, capsys):
        assert ended(capsys, KeyboardInterrupt()) == f"Stopped. {GOES_ON}"

    @pytest.mark.usefixtures("interruptible")
    def test_a_signal_is_one(self, capsys):
        with pytest.raises(SystemExit) as left, ends("prog"):
            os.kill(os.getpid(), signal.SIGINT)
        assert left.value.code == STOPPED

    def test_bars_of_progress_end_before_the_line(self, capsys):
        @ends("prog")
        def main():
            for _ in tqdm(range(3)):
                raise ValueError("No.")

        with pytest.raises(SystemExit):
            main()
        assert capsys.readouterr().err.splitlines()[-1] == "prog: No."

    def test_the_inner_one_decides(self, capsys):
        with pytest.raises(SystemExit) as left, ends("outer", FAILED), ends("inner", WRONG):
            raise ValueError("No.")
        assert left.value.code == WRONG and capsys.readouterr().err == "inner: No.\n"

    def test_mistakes_of_the_package_keep_their_traceback(self, monkeypatch):
        for error in (
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
            NotImplementedError,
            AssertionError,
        ):
            with pytest.raises(error), ends("prog"):
                raise error
        monkeypatch.setenv(TRACEBACK, "1")
        with pytest.raises(ValueError), ends("prog"):
            raise ValueError

    def test_nothing_happens_to_what_goes_well(self, capsys):
        @ends("prog")
        def main(arguments):
            """Doc."""
            return arguments

        assert [main(1), main(2)] == [1, 2] and main.__doc__ == "Doc." and capsys.readouterr() == ("", "")


class TestPlaces:
    def test_where_results_can_be_written(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        for place in (tmp_path, tmp_path / "a/b/c"):
            require_writable(place)
        assert not (tmp_path / "a").exists()
        for place in (tmp_path / "file", tmp_path / "file/below"):
            with pytest.raises(NotADirectoryError) as told:
                require_writable(place)
            assert told.value.filename == str(tmp_path / "file")
        monkeypatch.setattr(os, "access", lambda *wanted: False)  # of a folder's rights root takes no notice
        with pytest.raises(PermissionError):
            require_writable(tmp_path / "a/b")

    def test_what_is_given_is_there(self, tmp_path):
        require_given(None, tmp_path)
        with pytest.raises(FileNotFoundError):
            require_given(None, tmp_path / "a")


DEVICE, MODEL = ["--device", "quantum"], ["--model", "nobodys"]
DEVICES = "say 'cpu', 'cuda', 'cuda:1' or 'mps'"


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("ovamnb.evaluation.__main__", MODEL, "Unknown pipeline 'nobodys'"),
        ("ovamnb.evaluation.__main__", DEVICE, DEVICES),
        ("ovamnb.evaluation.ablate", MODEL, "Unknown pipeline 'nobodys'"),
        ("ovamnb.evaluation.ablate", DEVICE, DEVICES),
        ("ovamnb.evaluation.ablate", ["--tokens", "nowhere"], "no file of tokens at 'nowhere'"),
        ("ovamnb.evaluation.ablate", ["--root", "nowhere"], "'nowhere"),
        ("ovamnb.synthesize.tune", ["--rows", "ovam", *MODEL], "Unknown pipeline 'nobodys'"),
        ("ovamnb.synthesize.tune", DEVICE, DEVICES),
        ("ovamnb.synthesize.tune", ["--root", "nowhere"], "'nowhere"),
        (
            "ovamnb.synthesize.__main__",
            ["--out", "new", "--classes", "cat", "--masks", "ovam", *MODEL],
            "'nobodys'",
        ),
        ("ovamnb.synthesize.__main__", ["--out", "new", *DEVICE], DEVICES),
        ("ovamnb.synthesize.__main__", ["--out", "file"], "where a folder is needed"),
        (
            "ovamnb.synthesize.__main__",
            ["--out", "new", "--classes", "cat", "--masks", "ovam", "--tokens", "nowhere"],
            "no file of tokens at 'nowhere'",
        ),
        ("ovamnb.downstream.__main__", ["--mixes", "real", *DEVICE], DEVICES),
        ("ovamnb.downstream.__main__", ["--mixes", "real", "--out", "file"], "where a folder is needed"),
        ("ovamnb.downstream.__main__", ["--mixes", "real", "--root", "nowhere"], "'nowhere' is not there"),
        ("workshop.measure.bundled", ["nobodys"], "Unknown pipeline 'nobodys'"),
        ("workshop.measure.bundled", DEVICE, DEVICES),
        ("workshop.make.segment_recipe", ["nobodys"], "Unknown pipeline 'nobodys'"),
        ("workshop.make.segment_recipe", DEVICE, DEVICES),
        ("workshop.train.clip_training", DEVICE, DEVICES),
    ],
)
def test_wrong_arguments_end_in_a_line(module, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as left:
        importlib.import_module(module).main(arguments)
    said = capsys.readouterr().err
    prog = f"python -m {module.removesuffix('.__main__')}: "
    assert left.value.code == WRONG and said.startswith(prog) and message in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "nothing is begun"


@pytest.mark.parametrize(
    "module", ["make.label_sets", "measure.filter_worth", "measure.token_worth", "make.token_bank"]
)
def test_the_little_worlds_other_commands_end_so_too(module, tmp_path, monkeypatch, capsys):
    def none(*arguments, **options):
        raise FileNotFoundError("The bundled model is not part of this installation: reinstall ovamnb.")

    command = importlib.import_module(f"workshop.{module}")
    monkeypatch.setattr(
        command, "read_records" if module == "measure.filter_worth" else "load_pipeline", none
    )
    with pytest.raises(SystemExit) as left:
        command.main([str(tmp_path)] if module == "measure.filter_worth" else [])
    said = capsys.readouterr().err
    assert left.value.code == FAILED
    assert said.startswith(f"python -m workshop.{module}: The bundled model") and said.count("\n") == 1
