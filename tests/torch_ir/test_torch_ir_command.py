"""The command line: fixed texts, exit statuses, and one clear line for whatever goes wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch_ir import IR, TensorMeta, __version__, extract_ir, ir_to_mermaid
from torch_ir.cli import create_parser, main
from torch_ir.ir import SCHEMA_VERSION

from tests.models import get_model
from tests.torch_ir.test_visualize import Stack, chain, extracted

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*argv: object) -> tuple[int, str, str]:
        try:
            status = main([str(a) for a in argv])
        except SystemExit as e:  # argparse: help, version and usage
            status = int(e.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return call


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = get_model("DeepResNet")
    path = tmp_path_factory.mktemp("ir") / "model_ir.json"
    extract_ir(spec.build(), spec.inputs(), model_name="DeepResNet").save(path)
    return path


def shell(*argv: str, cwd: Path = ROOT, **options: object) -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT), str(ROOT / "python"), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, *argv]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, **options)  # type: ignore[call-overload]


# -- frame -----------------------------------------------------------------------------------------------------


def test_no_command_prints_help(run: Run) -> None:
    status, out, err = run()
    assert (status, err) == (2, "")
    assert out == create_parser().format_help()
    assert "torch-ir visualize model_ir.json -o graph.png" in out


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"torch-ir {__version__}\n", "")


@pytest.mark.parametrize("command", ["info", "visualize", "verify", "diff"])
def test_help(run: Run, command: str) -> None:
    status, out, _ = run(command, "--help")
    assert status == 0
    assert out.startswith("examples:\n") and f"\nusage: torch-ir {command} " in out


def test_unknown_command(run: Run) -> None:
    status, _, err = run("frobnicate")
    assert status == 2
    assert "invalid choice: 'frobnicate'" in err


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_starts_without_pytorch(argument: str) -> None:
    code = f"import sys\nfrom torch_ir.cli import main\ntry: main([{argument!r}])\nexcept SystemExit: pass\n"
    result = shell("-c", code + "sys.exit('torch' in sys.modules)")
    assert result.returncode == 0, result.stderr


def test_without_pytorch(resnet: Path) -> None:
    code = (
        f"import sys; sys.modules['torch'] = None; from torch_ir.cli import main; sys.exit(main(['info', '{resnet}']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    want = "Error: `torch-ir info` needs PyTorch, which is not installed; try `pip install torch`\n"
    assert (result.returncode, result.stderr) == (1, want)


def test_as_module(resnet: Path) -> None:
    result = shell("-m", "torch_ir", "info", str(resnet))
    assert result.returncode == 0, result.stderr
    assert result.stdout == (GOLDEN / "deep_resnet_info.txt").read_text()


# -- info ------------------------------------------------------------------------------------------------------


def test_info_golden(run: Run, resnet: Path) -> None:
    assert run("info", resnet) == (0, (GOLDEN / "deep_resnet_info.txt").read_text(), "")


def test_info_json_has_the_fixed_keys_in_order(run: Run, resnet: Path) -> None:
    _, out, _ = run("info", resnet, "--json")
    d = json.loads(out)
    assert list(d) == [
        "model_name", "num_nodes", "num_inputs", "num_outputs", "num_weights", "total_parameters",
        "input_shapes", "output_shapes", "op_distribution",
    ]  # fmt: skip
    assert (d["total_parameters"], d["input_shapes"], d["output_shapes"]) == (
        57_617,
        {"x": [1, 3, 32, 32]},
        {"linear": [1, 10]},
    )
    assert list(d["op_distribution"].values()) == [7, 7, 7, 3, 1, 1, 1]
    assert out == json.dumps(d, indent=2) + "\n"


def test_info_to_a_file_in_a_new_folder(run: Run, resnet: Path, tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "summary.txt"
    assert run("info", resnet, "-o", target) == (0, "", "")
    assert target.read_text() + "\n" == (GOLDEN / "deep_resnet_info.txt").read_text()


def test_info_of_an_empty_graph_and_of_scalars(run: Run, tmp_path: Path) -> None:
    ir = IR([], [TensorMeta("s", (), "float32")], [TensorMeta("s", (), "float32", "s")], [TensorMeta("w", (), "int64")])
    ir.save(tmp_path / "ir.json")
    _, out, _ = run("info", tmp_path / "ir.json")
    assert "Nodes: 0\n" in out
    assert "Total parameters: 1\n" in out
    assert "Input shapes:\n  s: []\n" in out
    assert out.endswith("Op distribution:\n")


# -- bad input -------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "Invalid JSON"),
    "truncated": (b'{"model_name": "x", "nodes": [', "Invalid JSON"),
    "text": (b"hello", "Invalid JSON"),
    "binary": (bytes(range(256)), ""),
    "list": (b"[]", "Invalid IR format"),
    "number": (b"3", "Invalid IR format"),
    "other": (b'{"name": "package", "version": "1.0"}', "Invalid IR format"),
    "newer": (json.dumps({"schema_version": SCHEMA_VERSION + 7}).encode(), str(SCHEMA_VERSION + 7)),
    "deep": (b"[" * 200_000, ""),
    "shape": (
        json.dumps(
            {
                "graph_inputs": [{"name": "x", "shape": ["a"], "dtype": "float32"}],
                "graph_outputs": [],
                "weights": [{"name": "w", "shape": ["a", "b"], "dtype": "float32"}],
                "nodes": [],
            }
        ).encode(),
        "shape must be a list of integers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize(("command", "status"), [("info", 1), ("visualize", 1), ("diff", 2), ("verify", 2)])
def test_bad_files(run: Run, tmp_path: Path, kind: str, command: str, status: int) -> None:
    content, expected = BAD[kind]
    file = tmp_path / "bad.json"
    file.write_bytes(content)
    extras: dict[str, list[object]] = {"diff": [file], "verify": ["--model", "torch.nn:Identity"]}
    got, _, err = run(command, file, *extras.get(command, []))
    if kind == "shape" and command in ("visualize", "diff"):  # sizes can be shown and compared, but not counted
        assert got == 0
        return
    assert got == status
    assert err.startswith("Error: invalid IR file: ")
    assert expected in err


def test_missing_file(run: Run, tmp_path: Path) -> None:
    missing = tmp_path / "nope.json"
    assert run("info", missing) == (1, "", f"Error: file not found: {missing}\n")
    assert run("visualize", missing) == (1, "", f"Error: file not found: {missing}\n")
    assert run("diff", missing, missing) == (2, "", f"Error: file not found: {missing}\n")


def test_folder_instead_of_a_file(run: Run, resnet: Path, tmp_path: Path) -> None:
    status, _, err = run("info", tmp_path)
    assert (status, err.split(":")[1]) == (1, " invalid IR file")
    status, _, err = run("info", resnet, "-o", tmp_path)
    assert (status, err) == (1, f"Error: cannot write '{tmp_path}': it is a folder; try the name of a file\n")


def test_names_that_no_file_can_have(run: Run) -> None:
    assert run("info", "a\0b")[0] == 1
    assert run("info", "x" * 5_000)[0] == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read and write everything")
def test_no_permission(run: Run, resnet: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked.json"
    locked.write_text("{}")
    locked.chmod(0)
    assert run("info", locked) == (1, "", f"Error: cannot read {locked}: permission denied\n")
    status, _, err = run("info", resnet, "-o", locked)
    assert status == 1
    assert "permission denied" in err


def test_output_below_a_file(run: Run, resnet: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    status, _, err = run("info", resnet, "-o", tmp_path / "file" / "x.txt")
    assert status == 1
    assert err.startswith("Error: cannot write ")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.name != "posix", reason="devices as files")
def test_output_to_a_device_leaves_the_device(run: Run, resnet: Path) -> None:
    assert run("info", resnet, "-o", os.devnull)[0] == 0
    assert not Path(os.devnull).is_file()


def test_a_full_disk_leaves_the_old_file(
    run: Run, resnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "summary.txt"
    target.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("npu_base.files.os.replace", full)
    status, _, err = run("info", resnet, "-o", target)
    assert (status, target.read_text(), list(tmp_path.iterdir())) == (1, "old", [target])
    assert "no space left on device" in err


def test_names_that_cannot_be_encoded(run: Run, tmp_path: Path) -> None:
    ir = chain(1)
    ir.model_name = "größe \ud800"
    (tmp_path / "ir.json").write_text(json.dumps(ir.to_dict()))
    result = shell("-X", "utf8=0", "-m", "torch_ir", "info", str(tmp_path / "ir.json"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Model: gr")
    assert run("info", tmp_path / "ir.json", "-o", tmp_path / "out.txt")[0] == 0


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_reader_that_leaves(tmp_path: Path) -> None:
    chain(20_000).save(tmp_path / "ir.json")
    script = f"'{sys.executable}' -m torch_ir visualize '{tmp_path}/ir.json' --max-nodes 0 | head -1"
    paths = os.pathsep.join([str(ROOT / "python"), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        ["sh", "-c", script], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("flowchart TD\n", "")


def test_interrupt(run: Run, resnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("torch_ir.serializer.load_ir", interrupt)
    assert run("info", resnet) == (130, "", "Interrupted.\n")


# -- visualize -------------------------------------------------------------------------------------------------


def test_visualize(run: Run, resnet: Path, tmp_path: Path) -> None:
    ir = IR.load(resnet)
    assert run("visualize", resnet) == (0, ir_to_mermaid(ir) + "\n", "")
    assert run("visualize", resnet, "--max-nodes", 2, "--no-weights")[1] == ir_to_mermaid(ir, 2, False) + "\n"
    assert run("visualize", resnet, "-o", tmp_path / "graph.mmd") == (0, "", "")
    assert (tmp_path / "graph.mmd").read_text() == ir_to_mermaid(ir)


def test_visualize_folded(run: Run, tmp_path: Path) -> None:
    extracted(Stack(), torch.zeros(1, 4)).save(tmp_path / "ir.json")
    assert "4 identical" in run("visualize", tmp_path / "ir.json", "--group-by-module")[1]
    assert "identical" not in run("visualize", tmp_path / "ir.json", "--no-collapse")[1]
    assert "subgraph" in run("visualize", tmp_path / "ir.json", "--expand", "layers.0", "--expand", "layers.1")[1]
    status, _, err = run("visualize", tmp_path / "ir.json", "--expand", "nope")
    assert status == 1
    assert err.startswith("Error: no module 'nope'")
    assert run("visualize", tmp_path / "ir.json", "--depth", 0)[0] == 2


def test_visualize_pictures(run: Run, resnet: Path, tmp_path: Path) -> None:
    assert run("visualize", resnet, "--fold", "-o", tmp_path / "sub" / "g.PNG") == (0, "", "")
    assert (tmp_path / "sub" / "g.PNG").read_bytes().startswith(b"\x89PNG")
    chain(600).save(tmp_path / "big.json")
    status, _, err = run("visualize", tmp_path / "big.json", "--max-nodes", 0, "-o", tmp_path / "g.png")
    assert status == 1
    assert "fold it with --fold" in err
    assert not (tmp_path / "g.png").exists()


# -- verify ----------------------------------------------------------------------------------------------------

MODEL = "tests.torch_ir.test_visualize:Stack"


@pytest.fixture
def stack(tmp_path: Path) -> tuple[Path, Stack]:
    model = Stack().eval()
    extracted(model, torch.zeros(2, 4)).save(tmp_path / "ir.json")
    return tmp_path / "ir.json", model


def test_verify_passes(run: Run, stack: tuple[Path, Stack]) -> None:
    status, out, _ = run("verify", stack[0], "--model", MODEL)
    assert status == 0
    assert (
        out == "Verification PASSED\n  Outputs compared: 1\n  Max difference: 0.00e+00\n  Mean difference: 0.00e+00\n"
    )


def test_verify_fails_and_names_the_node(run: Run, stack: tuple[Path, Stack]) -> None:
    path, _ = stack
    ir = IR.load(path)
    ir.nodes[2].op_type = "aten.tanh.default"
    ir.save(path)
    status, out, _ = run("verify", path, "--model", MODEL, "--per-layer")
    assert status == 1
    assert "Verification FAILED" in out
    assert ir.nodes[2].name in out
    status, out, _ = run("verify", path, "--model", MODEL, "--per-layer", "--json")
    report = json.loads(out)
    assert (status, report["is_valid"]) == (1, False)
    assert next(r["node"] for r in report["layers"] if r["is_close"] is False) == ir.nodes[2].name


def test_verify_with_weights_and_inputs(run: Run, stack: tuple[Path, Stack], tmp_path: Path) -> None:
    import numpy as np

    path, model = stack
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    x = torch.randn(2, 4)
    np.savez(tmp_path / "in.npz", x=x.numpy())
    save_file({"x": x}, tmp_path / "in.safetensors")
    torch.save([x], tmp_path / "in.pt")
    for inputs in ("in.npz", "in.safetensors", "in.pt"):
        weights = ["--weights", tmp_path / "w.safetensors"]
        assert run("verify", path, "--model", MODEL, *weights, "--inputs", tmp_path / inputs)[0] == 0


def test_verify_imports_from_the_current_folder(stack: tuple[Path, Stack], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from tests.torch_ir.test_visualize import Stack\ndef build(): return Stack(4)\n")
    code = "import sys; from torch_ir.cli import main; sys.exit(main(sys.argv[1:]))"
    result = shell(
        "-P" if sys.version_info >= (3, 11) else "-B",
        "-c",
        code,
        "verify",
        "ir.json",
        "--model",
        "mine:build",
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no_colon", "expected MODULE:ATTRIBUTE"),
        ("no_such_module:X", "cannot import 'no_such_module'"),
        ("torch.nn:Nope", "has no attribute 'Nope'"),
        ("torch.nn:Linear", "without arguments failed"),
        ("torch:__version__", "expected a class or a function"),
        ("builtins:dict", "returned a dict; expected an nn.Module"),
    ],
)
def test_verify_bad_model(run: Run, stack: tuple[Path, Stack], model: str, message: str) -> None:
    status, _, err = run("verify", stack[0], "--model", model)
    assert status == 2
    assert err.startswith("Error: --model: ")
    assert message in err


def test_verify_bad_inputs_and_weights(run: Run, stack: tuple[Path, Stack], tmp_path: Path) -> None:
    path, model = stack
    save_file({"y": torch.zeros(2, 4)}, tmp_path / "y.safetensors")
    (tmp_path / "bad.npz").write_text("x")
    torch.save([torch.zeros(1), torch.zeros(1)], tmp_path / "two.pt")
    state = dict(model.state_dict())
    del state["embed.weight"]
    save_file(state, tmp_path / "w.safetensors")

    def error(*options: object) -> str:
        status, _, err = run("verify", path, "--model", MODEL, *options)
        assert status == 2
        return err

    assert "contains y; the IR reads x" in error("--inputs", tmp_path / "y.safetensors")
    assert "cannot read inputs" in error("--inputs", tmp_path / "bad.npz")
    assert "contains 2 tensors; the IR reads 1" in error("--inputs", tmp_path / "two.pt")
    assert "file not found" in error("--inputs", tmp_path / "none.npz")
    assert "expected .npz, .safetensors or .pt" in error("--inputs", path)
    assert "all weights of the model; missing: embed.weight" in error("--weights", tmp_path / "w.safetensors")
    assert "Weight file not found" in error("--weights", tmp_path / "none.pt")
    assert "expected a number, 0 or more" in error("--rtol", "-1")


# -- diff ------------------------------------------------------------------------------------------------------


def test_diff(run: Run, resnet: Path, tmp_path: Path) -> None:
    assert run("diff", resnet, resnet) == (0, "", "")
    ir = IR.load(resnet)
    ir.nodes[2].op_type = "aten.gelu.default"
    ir.save(tmp_path / "other.json")
    status, out, _ = run("diff", resnet, tmp_path / "other.json")
    assert status == 1
    assert out.startswith(f"--- {resnet}\n+++ {tmp_path / 'other.json'}\n")
    assert "  ~ relu\n      op: aten.relu.default -> aten.gelu.default\n" in out
    assert "  aten.relu.default: 7 -> 6 (-1)\n" in out
    status, out, _ = run("diff", resnet, tmp_path / "other.json", "--json")
    d = json.loads(out)
    assert (status, d["same"], d["ops"]["aten.gelu.default"]) == (1, False, {"left": 0, "right": 1})


# -- documentation ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="the page uses a POSIX shell")
def test_the_page_shows_real_output(resnet: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "cli-torch-ir.md").read_text(encoding="utf-8")
    shim = tmp_path / "bin" / "torch-ir"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m torch_ir "$@"\n')
    shim.chmod(0o755)
    (tmp_path / "model_ir.json").write_bytes(resnet.read_bytes())
    env = {
        **os.environ,
        "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), os.environ.get("PYTHONPATH", "")]),
    }
    block = re.compile(r"(<!-- run: elsewhere.*?-->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    output, compared = "", 0
    for elsewhere, language, text in block.findall(page):
        if language == "text" and not text.startswith(" "):  # an indented one is a line out of a longer output
            assert output == text
            compared += 1
        elif language in ("bash", "python") and not elsewhere:
            command = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [sys.executable, "-c"]
            done = subprocess.run(
                [*command, text], cwd=tmp_path, env=env, text=True, check=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            output = done.stdout
    assert compared >= 9
