"""Every file that a command writes is written whole or not at all, and a failure says which file and what to do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import npu
import pytest
import torch
from npu.cli import main as npu_main
from npu.generation.cache import CacheWarning, users_cache
from npu_base.errors import DeniedFileError, FileError, FolderError, MissingFileError, NPUError
from npu_base.files import check_new_folder, file_error, write_file, write_folder_with
from npu_runtime import Profiler
from torch import nn
from torch_ir import extract_ir, save_ir
from torch_ir.cli import main as torch_ir_main

from tests.models.zoo.language_models import causal
from tests.support.limits import permissions_hold, small_files

Main = Callable[[Sequence[str]], int]

# -- the helper -------------------------------------------------------------------------------------------------


def test_a_file_is_written_whole_and_stays_what_it_was(tmp_path: Path) -> None:
    target, link = tmp_path / "a.txt", tmp_path / "link"
    write_file(target, "größe")
    assert target.read_text(encoding="utf-8") == "größe"
    target.chmod(0o640)
    link.symlink_to(target)
    write_file(str(link), b"new")
    assert link.is_symlink() and target.read_bytes() == b"new" and target.stat().st_mode & 0o777 == 0o640
    write_file(tmp_path / "deep" / "er" / "b", memoryview(b"x"), parents=True)
    assert (tmp_path / "deep" / "er" / "b").read_bytes() == b"x"
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "deep" / "er" / "b").stat().st_mode == plain.stat().st_mode
    write_file(os.devnull, b"x")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(FileError, match=r"cannot write '.*a.txt': no space left on device; try freeing space"):
        write_file(target, b"new")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, plain = tmp_path / "out", tmp_path / "plain"
    plain.mkdir()

    def write(folder: Path) -> None:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "out" / "a.txt").exists()

    def fail(folder: Path) -> None:
        write(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder_with(target, fail)
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, _full)
            with pytest.raises(FileError, match="cannot write '.*out': no space left"):
                write_folder_with(target, write)
    assert list(tmp_path.iterdir()) == [plain]
    write_folder_with(target, write)
    assert (target / "a.txt").read_text() == "a" and target.stat().st_mode == plain.stat().st_mode
    with pytest.raises(FileError, match="the folder is not empty; try the name of a new folder"):
        write_folder_with(target, write)
    with pytest.raises(FileError, match="there is a file of this name; try another name"):
        check_new_folder(target / "a.txt")
    with pytest.raises(MissingFileError, match="there is no folder"):
        check_new_folder(tmp_path / "no" / "out")
    write_folder_with(plain, lambda folder: (folder / "b.txt").touch())  # one that is empty
    assert [path.name for path in plain.iterdir()] == ["b.txt"]


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_each_reason_has_its_class(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    reasons: list[tuple[Path | str, type[Exception], str]] = [
        (tmp_path, FolderError, "it is a folder; try the name of a file"),
        (tmp_path / "no" / "x", MissingFileError, "there is no folder '.*no'; try an existing folder"),
        (tmp_path / "file" / "x", FileError, "there is no folder '.*file'; try a path in an existing folder"),
        (tmp_path / ("x" * 300), FileError, "file name too long; try a shorter name"),
        ("a\0b", FileError, "embedded null"),
    ]
    for path, kind, words in reasons:
        with pytest.raises(kind, match=words) as caught:
            write_file(path, b"")
        assert isinstance(caught.value, NPUError) and isinstance(caught.value, OSError)
        assert caught.value.filename == os.fspath(path)
    with pytest.raises(MissingFileError, match="cannot read .*no; try the path of a file that exists"):
        raise file_error("read", tmp_path / "no", FileNotFoundError(errno.ENOENT, "no"))
    with pytest.raises(FileError, match="surrogates not allowed"):
        write_file(tmp_path / "text", "\ud800")
    assert not (tmp_path / "text").exists()
    assert issubclass(FolderError, IsADirectoryError) and issubclass(MissingFileError, FileNotFoundError)
    assert issubclass(DeniedFileError, PermissionError)


# -- commands ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    module = nn.Sequential(nn.Linear(4, 300), nn.ReLU(), nn.Linear(300, 300)).eval()
    extract_ir(module, torch.ones(1, 4)).save(folder / "m.json")
    npu.compile(module, torch.ones(1, 4)).program.save(folder / "m.npubin")
    causal("qwen2").save_pretrained(folder / "qwen")
    return folder


# What each command writes: its arguments for an output at {out}, and the file that it makes there.
WRITERS: dict[str, tuple[Main, str, str]] = {
    "npu compile": (npu_main, "compile m.json -o {out}", "{out}"),
    "npu run": (npu_main, "run m.npubin -o {parent}", "{parent}/output.npy"),
    "npu bench": (npu_main, "bench m.npubin --runs 1 --warmup 0 --trace {out}", "{out}"),
    "torch-ir info": (torch_ir_main, "info m.json -o {out}", "{out}"),
    "torch-ir info --json": (torch_ir_main, "info m.json --json -o {out}", "{out}"),
    "torch-ir visualize": (torch_ir_main, "visualize m.json -o {out}", "{out}"),
    "torch-ir visualize --fold": (torch_ir_main, "visualize m.json --fold -o {out}.svg", "{out}.svg"),
}


class Writer:
    """One of them, for a file in a folder of its own."""

    def __init__(self, name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.main, arguments, made = WRITERS[name]
        folder.mkdir()
        values = {"out": folder / "file", "parent": folder}
        self.arguments = [part.format(**values) for part in arguments.split()]
        self.target, self._capsys = Path(made.format(**values)), capsys

    def run(self) -> None:
        assert self.main(self.arguments) == 0, self._capsys.readouterr()

    def is_refused(self, words: str) -> None:
        assert self.main(self.arguments) == 1
        (line,) = self._capsys.readouterr().err.splitlines()
        assert line.startswith("Error: ") and str(self.target) in line and words in line and "; try " in line


@pytest.fixture(params=WRITERS, name="writer")
def _writer(
    request: pytest.FixtureRequest, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Writer:  # fmt: skip
    monkeypatch.chdir(folder)
    return Writer(request.param, tmp_path / "out", capsys)


def test_a_command_on_a_full_disk(writer: Writer) -> None:
    writer.run()
    old = writer.target.read_bytes()
    assert len(old) > 128
    with small_files():
        writer.is_refused("file too large; try raising the limit")
    assert writer.target.read_bytes() == old and list(writer.target.parent.iterdir()) == [writer.target]


def test_a_command_in_a_folder_that_forbids_it(writer: Writer) -> None:
    writer.target.parent.chmod(0o555)
    with permissions_hold():
        writer.is_refused("permission denied; try a file and a folder")
    writer.target.parent.chmod(0o755)
    writer.target.write_bytes(b"old")
    writer.target.chmod(0o444)
    with permissions_hold():
        writer.is_refused("permission denied")
    assert writer.target.read_bytes() == b"old"


def test_a_command_with_a_folder_in_the_way(writer: Writer) -> None:
    writer.target.mkdir()
    writer.is_refused("it is a folder; try the name of a file")
    assert writer.target.is_dir() and list(writer.target.parent.iterdir()) == [writer.target]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("line", ["npu plan m.npubin --text", "torch-ir info m.json", "python -m npu_runtime"])
def test_output_that_cannot_be_written(folder: Path, line: str) -> None:
    name, *arguments = line.split()
    command = [Path(sys.executable).with_name(name), *arguments]
    with open("/dev/full", "w") as full:
        result = subprocess.run(command, cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: [file] cannot write 'standard output': no space left on device; try ")


def test_what_python_writes(tmp_path: Path) -> None:
    compiled = npu.compile(nn.Linear(4, 4).eval(), torch.ones(1, 4), device="cpu")
    profiler: Profiler = compiled.profile(torch.ones(1, 4))
    writers = (compiled.program.save, profiler.save_chrome_trace, compiled.ir.save)
    for write in (*writers, partial(save_ir, compiled.ir)):
        with pytest.raises(FolderError, match="it is a folder"):
            write(tmp_path)
    for write in writers:
        with pytest.raises(MissingFileError, match="there is no folder"):
            write(tmp_path / "no" / "file")


# -- the cache of npu generate -------------------------------------------------------------------------------------


@pytest.fixture(name="generate")
def _generate(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], str]:
    """Two tokens, with the cache in tmp_path/cache; returns what it says on stderr."""
    monkeypatch.chdir(folder)
    arguments = ["generate", "qwen", "--ids", "1,2", "--tokens", "2", "--device", "cpu"]

    def generate() -> str:
        assert npu_main([*arguments, "--cache", str(tmp_path / "cache")]) == 0
        shown = capsys.readouterr()
        assert len(shown.out.split(",")) == 2
        return shown.err

    return generate


@pytest.mark.parametrize("trouble", ["full", "forbidden", "a file"])
def test_generation_goes_on_without_its_cache(generate: Callable[[], str], tmp_path: Path, trouble: str) -> None:
    cache = tmp_path / "cache"
    if trouble == "a file":
        cache.write_text("kept")
    else:
        cache.mkdir(mode=0o555 if trouble == "forbidden" else 0o755)
    limit = {"full": small_files(16), "forbidden": permissions_hold(), "a file": nullcontext()}[trouble]
    with limit:
        said = generate()
    (line,) = [line for line in said.splitlines() if line.startswith("Warning: ")]
    assert str(cache) in line and "Programs are not cached in" in line and "compiled at every start" in line
    assert cache.read_text() == "kept" if trouble == "a file" else list(cache.iterdir()) == []


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.warns(CacheWarning, match="home directory. Programs are compiled at every start; set --cache or XDG"):
        assert users_cache() is None


def test_a_cache_that_cannot_be_read_is_made_anew(generate: Callable[[], str], tmp_path: Path) -> None:
    generate()
    kept = sorted((tmp_path / "cache").iterdir())
    whole = [path.read_bytes() for path in kept]
    assert {path.suffix for path in kept} == {".json", ".npubin"}
    for path in kept:
        path.write_bytes(path.read_bytes()[:20])
    assert "Warning" not in generate()
    assert [path.read_bytes() for path in kept] == whole
    for path in kept:
        path.chmod(0)
    with permissions_hold():
        assert "Warning" in generate()
