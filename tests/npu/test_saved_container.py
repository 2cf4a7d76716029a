"""Files that ``npu.load`` must refuse: each error names the file and what is wrong in it."""

import json
import struct

import npu
import pytest
from npu.saving.container import NewSection, write_container
from npu_base.errors import InvalidValueError, MissingFileError

from tests.support.fuzz_saved import joined, parts, seed_file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npu"


def refused(path, data, message):
    path.write_bytes(data)
    with pytest.raises(InvalidValueError, match=message) as error:
        npu.load(path, "cpu")
    assert str(path) in str(error.value)


def test_other_files(path):
    refused(path, b"", "is not a saved model; got an empty file")
    refused(path, b"\x89NPUBIN\n" + bytes(60), "a compiled program without weights")
    refused(path, b'{"nodes": []}', "JSON, as in an IR")
    refused(path, b"PK\x03\x04" + bytes(60), "a zip archive")
    with pytest.raises(MissingFileError, match="no such file"):
        npu.load(path.with_name("missing.npu"))
    with pytest.raises(InvalidValueError, match="got a folder"):
        npu.load(path.parent)


@pytest.mark.parametrize("size", [7, 8, 12, 63, 64, 500, -1])
def test_cut(path, size):
    refused(path, seed_file()[:size], r"cut off|is not a saved model")


def test_headers(path):
    data = seed_file()

    def header(at, form, value):
        changed = bytearray(data)
        struct.pack_into(form, changed, at, value)
        return bytes(changed)

    refused(path, header(8, "<I", 2), "newer version of npu-simulation; got format 2; .*; try upgrading")
    refused(path, header(8, "<I", 0), "the header is damaged")
    refused(path, header(12, "<I", 1), "the header is damaged")
    refused(path, header(56, "<Q", 1), "the header is damaged")
    refused(path, header(16, "<Q", 0), "the header is damaged")
    refused(path, header(24, "<Q", 2**63), "the header is damaged")
    refused(path, data + b"\0", "bytes beyond its end")
    refused(path, data[:-2] + b" }", "section 'manifest': the checksum does not match")


def edited(change):
    sections, manifest = parts(seed_file())
    change(manifest)
    return joined(sections, json.dumps(manifest).encode())


def section(manifest, name):
    return next(entry for entry in manifest["sections"] if entry["name"] == name)


MANIFESTS = [
    (lambda m: section(m, "weights").update(offset=64), "section 'weights': overlaps"),
    (lambda m: section(m, "weights").update(offset=32768), "section 'weights': does not start where it must|beyond"),
    (lambda m: section(m, "weights").update(size=2**62), "section 'weights': reaches beyond"),
    (lambda m: section(m, "weights").update(size=-1), "no valid 'size'; got -1"),
    (lambda m: section(m, "weights").update(size=8), "the sections do not make up the file"),
    (lambda m: section(m, "weights").update(name="ir"), "section 'ir': comes twice"),
    (lambda m: section(m, "weights").update(kind="matrix"), "'matrix'.*; try upgrading npu-simulation"),
    (lambda m: section(m, "program/0").update(checksum="0" * 16), "section 'program/0': .* checksum does not match"),
    (lambda m: section(m, "program/0").update(checksum="xyz"), "no valid 'checksum'"),
    (lambda m: m.update(sections=[{}] * 10001), "no valid table of sections; got 10001 sections"),
    (lambda m: m.update(sections={}), "no valid table of sections; got dict"),
    (lambda m: m.update(programs=[]), "does not have one program, and no plan of parts; got 0"),
    (lambda m: m.update(programs=m["programs"] * 2), "does not have one program, and no plan of parts; got 2"),
    (lambda m: m.update(programs=[{"section": "weights"}]), "a program section that is not there; got 'weights'"),
    (lambda m: m.update(weights="ir"), "a weights section that is not there"),
    (lambda m: m.pop("signature"), "'signature' is not valid"),
    (lambda m: m["signature"]["inputs"][0].update(shape=[2, 4]), r"another input 'x'; got float32\[2, 3\]"),
    (lambda m: m["signature"]["inputs"][0].update(name="y"), "another input 'y'; got no such name"),
    (lambda m: m["signature"]["outputs"][0].update(dtype="int8"), "the program has another output"),
    (lambda m: m["signature"]["inputs"].pop(), "no valid tensor number"),
    (lambda m: m["signature"].update(input_structure={"tensor": 0}), "'input_structure' does not have each input"),
    (lambda m: m["signature"].update(defaults={"x": [1]}), "'defaults' is not valid"),
    (lambda m: m["signature"].update(output_structure={"tensor": 7}), "no valid tensor number; got 7"),
    (lambda m: m["signature"].update(output_structure={"kind": "set", "items": []}), "no valid container"),
]


@pytest.mark.parametrize(("change", "message"), MANIFESTS)
def test_forged_manifests(path, change, message):
    refused(path, edited(change), message)


def test_bad_json(path):
    sections, manifest = parts(seed_file())
    refused(path, joined(sections, b"{"), "section 'manifest': is not valid JSON")
    refused(path, joined(sections, b"[" * 100_000), "section 'manifest': is not valid JSON")
    refused(path, joined(sections, b'"\xff"'), "section 'manifest': is not valid JSON")
    refused(path, joined(sections, b'{"sections": [], "sections": []}'), "the key 'sections' comes twice")
    refused(path, joined(sections, b"[]"), "is not an object; got list")
    nested = json.loads(json.dumps(manifest))
    at = nested["signature"]["output_structure"]
    for _ in range(200):
        at["items"] = [{"kind": "list", "items": []}, *at["items"][1:]]
        at = at["items"][0]
    refused(path, joined(sections, json.dumps(nested).encode()), "nested too deeply")


def test_damaged_weights_are_noticed_on_request(path):
    data = bytearray(seed_file())
    _, manifest = parts(bytes(data))
    weights = section(manifest, "weights")
    data[weights["offset"] + weights["size"] - 1] ^= 1
    path.write_bytes(data)
    npu.load(path, "cpu")  # reads only what it uses
    with pytest.raises(InvalidValueError, match="section 'weights': its contents are damaged"):
        npu.load(path, "cpu", verify=True)


def test_weights_of_another_model(path):
    sections, manifest = parts(seed_file())
    program = section(manifest, "program/0")
    start = program["offset"] - 64
    empty = b"\x02\0\0\0\0\0\0\0{}"
    rest = {key: value for key, value in manifest.items() if key != "sections"}
    write_container(
        path,
        [
            NewSection("program/0", "program", sections[start : start + program["size"]]),
            NewSection("weights", "weights", empty),
        ],
        rest,
    )
    with pytest.raises(InvalidValueError, match="section 'weights': the weights do not fit the program"):
        npu.load(path, "cpu")


def test_unknown_optional_sections_are_ignored(path):
    sections, manifest = parts(seed_file())
    section(manifest, "ir").update(kind="drawing")
    path.write_bytes(joined(sections, json.dumps(manifest).encode()))
    npu.load(path, "cpu")
