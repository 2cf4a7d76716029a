"""JSON: exact round trips, old files, damaged files, and files that must survive a failed save."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from npu_base.nesting import TAGS
from torch import nn
from torch_ir import (
    IR,
    ExecutionError,
    IRExecutor,
    IRSerializer,
    OpNode,
    SerializationError,
    TensorMeta,
    deserialize_ir,
    dict_to_ir,
    execute_ir,
    extract_ir,
    ir_to_dict,
    load_ir,
    save_ir,
    serialize_ir,
    validate_ir,
)
from torch_ir._encoding import _DECODERS, DTYPES, decode_attr, decode_constant, encode_attr, encode_constant


def small_ir(**attrs) -> IR:
    x = TensorMeta("x", (2, 3), "float32")
    source, result = TensorMeta("x", (2, 3), "float32", "x"), TensorMeta("relu", (2, 3), "float32")
    node = OpNode("relu", "aten.relu.default", [source], [result], attrs)
    return IR([node], [x], [TensorMeta("relu", (2, 3), "float32")], [], model_name="Small", pytorch_version="2.13.0")


ATTRS = [
    None, True, False, 0, -7, 2**62, 0.1, -0.0, 1e-300, math.inf, -math.inf, "", "text", "torch.float32", "한글",
    [1, 2], [[1.5, None], []], torch.float32, torch.bfloat16, torch.complex64, torch.uint16,
    torch.device("cpu"), torch.device("cuda:1"), torch.device("meta"), torch.strided, torch.sparse_coo,
    torch.channels_last, torch.contiguous_format, torch.preserve_format, 1 + 2j, complex(math.inf, -0.0),
]  # fmt: skip


@pytest.mark.parametrize("value", ATTRS, ids=repr)
def test_every_attribute_type_round_trips(value):
    ir = small_ir(v=value, nested=[value, [value]])
    back = deserialize_ir(serialize_ir(ir))
    assert back.nodes[0].attrs["v"] == value
    assert type(back.nodes[0].attrs["v"]) is type(value)
    assert back == ir


def test_nan_attribute():
    back = deserialize_ir(serialize_ir(small_ir(v=math.nan)))
    assert math.isnan(back.nodes[0].attrs["v"])
    assert back == small_ir(v=math.nan)


def test_tuples_become_lists_and_other_types_are_named():
    assert deserialize_ir(serialize_ir(small_ir(v=(1, (2,))))).nodes[0].attrs["v"] == [1, [2]]
    with pytest.raises(SerializationError, match=r"node 'relu', attr 'v': cannot write a value of type object"):
        serialize_ir(small_ir(v=object()))


# The others are packed or quantized; PyTorch makes no plain tensors of them.
PLAIN_DTYPES = [
    "bfloat16", "bool", "complex128", "complex32", "complex64", "float16", "float32", "float64", "float8_e4m3fn",
    "float8_e5m2", "int16", "int32", "int64", "int8", "uint16", "uint32", "uint64", "uint8",
]  # fmt: skip


@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0, 5), (7, 3), (64, 64)], ids=str)
@pytest.mark.parametrize("dtype", PLAIN_DTYPES)
def test_every_constant_dtype_round_trips(dtype, shape):
    torch_dtype = DTYPES[dtype]
    count = math.prod(shape)
    raw = torch.randint(0, 2 if dtype == "bool" else 256, (count * torch_dtype.itemsize,), dtype=torch.uint8)
    value = raw.view(torch_dtype).reshape(shape) if count else torch.empty(shape, dtype=torch_dtype)
    back = decode_constant(json.loads(json.dumps(encode_constant(value, "c"))), "c")
    assert back.dtype == value.dtype and back.shape == value.shape
    assert torch.equal(back.reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_cannot_be_written_is_named():
    with pytest.raises(SerializationError, match="c: cannot write a quantized tensor"):
        encode_constant(torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "c")
    with pytest.raises(SerializationError, match="c: cannot write a torch.sparse_coo tensor"):
        encode_constant(torch.eye(2).to_sparse(), "c")
    with pytest.raises(SerializationError, match="not valid Unicode"):
        serialize_ir(small_ir(v="\ud800"))


def test_strided_and_conjugate_constants():
    base = torch.arange(24.0).reshape(4, 6)
    for value in (
        base.t(),
        base[::2, 1:4],
        base[1].expand(3, 6),
        torch.randn(3, dtype=torch.complex64).conj(),
    ):
        assert torch.equal(decode_constant(encode_constant(value, "c"), "c"), value)


def test_large_constants_are_compact():
    entry = encode_constant(torch.zeros(1000, 1000), "c")
    assert len(entry["data"]) < 10_000


def test_top_level_order_and_layout():
    ir = small_ir()
    ir.constants = {"c": torch.ones(2)}
    text = serialize_ir(ir)
    assert list(json.loads(text))[:8] == [
        "model_name", "pytorch_version", "graph_inputs", "graph_outputs", "weights", "weight_name_mapping", "nodes",
        "constants",
    ]  # fmt: skip
    assert text.startswith('{\n  "model_name": "Small",\n')
    assert "constants" not in json.loads(serialize_ir(small_ir()))
    assert json.loads(text)["schema_version"] == 2
    assert json.loads(text) == ir_to_dict(ir)


def test_constants_have_the_tags_that_saved_files_allow():
    assert set(_DECODERS) == TAGS


def test_old_files_are_read():
    """The form without a version: nested constants, types as plain strings, no further fields."""
    old = {
        "model_name": "Old",
        "pytorch_version": "2.1.0",
        "graph_inputs": [{"name": "x", "shape": [2], "dtype": "float32"}],
        "graph_outputs": [{"name": "add", "shape": [2], "dtype": "float64"}],
        "weights": [{"name": "k", "shape": [2], "dtype": "bfloat16"}],
        "weight_name_mapping": {"c_k": "k"},
        "nodes": [
            {"name": "to", "op_type": "aten.to.dtype",
             "inputs": [{"name": "x", "shape": [2], "dtype": "float32", "producer_node": "x"}],
             "outputs": [{"name": "to", "shape": [2], "dtype": "float64"}], "attrs": {"dtype": "torch.float64"}},
            {"name": "full", "op_type": "aten.full.default", "inputs": [],
             "outputs": [{"name": "full", "shape": [2], "dtype": "float64"}],
             "attrs": {"size": [2], "fill_value": -math.inf, "dtype": "torch.float64",
                       "layout": "torch.strided", "device": "meta", "pin_memory": False}},
            {"name": "maximum", "op_type": "aten.maximum.default",
             "inputs": [{"name": "full", "shape": [2], "dtype": "float64", "producer_node": "full"},
                        {"name": "to", "shape": [2], "dtype": "float64", "producer_node": "to"}],
             "outputs": [{"name": "maximum", "shape": [2], "dtype": "float64"}], "attrs": {}},
            {"name": "add", "op_type": "aten.add.Tensor",
             "inputs": [{"name": "maximum", "shape": [2], "dtype": "float64", "producer_node": "maximum"},
                        {"name": "c_k", "shape": [2], "dtype": "bfloat16"}],
             "outputs": [{"name": "add", "shape": [2], "dtype": "float64"}], "attrs": {}},
        ],
        "constants": {"k": {"data": [1.0, 2.0], "dtype": "bfloat16"}},
    }  # fmt: skip
    ir = deserialize_ir(json.dumps(old))
    assert ir.schema_version == 1
    assert ir.nodes[0].attrs == {"dtype": torch.float64}
    assert ir.nodes[1].attrs["device"] == torch.device("meta")
    assert ir.constants["k"].dtype == torch.bfloat16
    (out,) = IRExecutor(ir, {})(torch.tensor([5.0, -3.0]))
    assert out.tolist() == [6.0, -1.0]


def test_text_that_looks_like_a_dtype_stays_text():
    assert decode_attr("torch.float32", "mylib.op.default", "name") == "torch.float32"
    assert decode_attr("torch.float32", "aten.to.dtype", "dtype") is torch.float32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("[]", "expected an object, got list"),
        ("3", "expected an object, got int"),
        ("{}", "missing 'graph_inputs', 'graph_outputs', 'weights', 'nodes'"),
        ('{"schema_version": 99}', "schema version 99 is newer than 3.*upgrade"),
        ('{"schema_version": "x"}', "schema_version is 'x'"),
        ('{"graph_inputs": [], "graph_outputs": [], "weights": [], "nodes": [{}]}', "missing key 'op_type'"),
        ('{"graph_inputs": 3, "graph_outputs": [], "weights": [], "nodes": []}', "Invalid IR format"),
        ('{"graph_inputs": ["a"], "graph_outputs": [], "weights": [], "nodes": []}', "Invalid IR format"),
        ("[" * 100_000, "Invalid JSON"),
    ],
)
def test_damaged_text(text, message):
    with pytest.raises(SerializationError, match=message):
        deserialize_ir(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [5]}, "bytes of data, expected"),
        ({"dtype": "float33"}, "Unknown dtype 'float33'"),
        ({"encoding": "gzip"}, "unknown encoding 'gzip'"),
        ({"data": "!!!"}, "damaged data"),
        ({"shape": [-1]}, "non-negative integers"),
        ({"shape": [10**12]}, "bytes of data, expected"),
        ({"encoding": "zlib+base64"}, "damaged data"),
    ],
)
def test_damaged_constants(change, message):
    with pytest.raises(SerializationError, match=message):
        decode_constant({**encode_constant(torch.ones(3), "c"), **change}, "c")


def test_a_bomb_is_not_unpacked():
    import base64
    import zlib

    bomb = base64.b64encode(zlib.compress(b"\0" * 50_000_000)).decode()
    entry = {"shape": [1], "dtype": "float32", "encoding": "zlib+base64", "data": bomb}
    with pytest.raises(SerializationError, match="5 bytes of data, expected 4"):
        decode_constant(entry, "c")


def test_truncated_file(tmp_path):
    path = tmp_path / "ir.json"
    save_ir(small_ir(), path)
    text = path.read_text()
    for cut in range(1, len(text) - 1, 37):
        path.write_text(text[:cut])
        with pytest.raises(SerializationError):
            load_ir(path)


def test_files(tmp_path):
    ir = small_ir()
    save_ir(ir, tmp_path / "a" / "b" / "ir.json")
    assert load_ir(str(tmp_path / "a" / "b" / "ir.json")) == ir
    ir.save(tmp_path / "ir.json")
    assert IR.load(tmp_path / "ir.json") == ir
    with pytest.raises(FileNotFoundError):
        ir.save(tmp_path / "missing" / "ir.json")
    with pytest.raises(FileNotFoundError, match="IR file not found: .*nope"):
        load_ir(tmp_path / "nope.json")
    with pytest.raises(SerializationError, match="is a folder"):
        load_ir(tmp_path)
    with pytest.raises(IsADirectoryError):
        save_ir(ir, tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SerializationError, match="not UTF-8"):
        load_ir(tmp_path / "binary")


@pytest.mark.parametrize("save", [save_ir, IR.save])
def test_a_failed_save_keeps_the_old_file(tmp_path, save):
    path = tmp_path / "ir.json"
    save_ir(small_ir(), path)
    before = path.read_bytes()
    with pytest.raises(SerializationError):
        save(small_ir(v=object()), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["ir.json"]


def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "ir.json"
    save_ir(small_ir(), path)
    before = path.read_bytes()

    def full(_fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save_ir(small_ir(v=1), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["ir.json"]


def test_a_file_that_the_system_cuts_short_keeps_the_old_one(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "ir.json"
    save_ir(small_ir(), path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="file too large"):
            save_ir(small_ir(v="x" * 10_000), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["ir.json"]


def test_permissions_and_links_survive(tmp_path):
    path, link = tmp_path / "ir.json", tmp_path / "link.json"
    save_ir(small_ir(), path)
    path.chmod(0o640)
    link.symlink_to(path)
    save_ir(small_ir(v=1), link)
    assert link.is_symlink() and path.stat().st_mode & 0o777 == 0o640
    assert load_ir(path).nodes[0].attrs == {"v": 1}


def test_devices_are_written_to_and_not_replaced():
    save_ir(small_ir(), "/dev/null")
    assert not os.path.isfile("/dev/null")


def test_serializer_class_validates():
    broken = small_ir()
    broken.graph_outputs[0].name = "nothing"
    with pytest.raises(SerializationError, match="not produced"):
        IRSerializer().serialize(broken)
    assert IRSerializer(validate=False).deserialize(IRSerializer(validate=False).serialize(broken)) == broken


def test_extracted_model_round_trips():
    ir = extract_ir(nn.TransformerEncoderLayer(8, 2, 16).eval(), torch.randn(3, 1, 8))
    back = dict_to_ir(json.loads(json.dumps(ir_to_dict(ir))))
    assert back == ir
    assert serialize_ir(back) == serialize_ir(ir)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda k: not k.startswith("$")), inner),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=200, deadline=None)
def test_any_plain_value_round_trips(value):
    written = json.loads(json.dumps(encode_attr(value, "here")))
    assert decode_attr(written, "mylib.op.default", "v") == value


KEYS = [
    "name", "shape", "dtype", "nodes", "weights", "graph_inputs", "graph_outputs", "op_type", "inputs", "outputs",
    "attrs", "constants", "data", "encoding", "$dtype", "$tensor", "subgraphs", "mutations", "ties", "schema_version",
]  # fmt: skip
GOOD = serialize_ir(
    extract_ir(nn.Sequential(nn.Softmax(1), nn.LayerNorm(3, elementwise_affine=False)).eval(), torch.ones(2, 3))
)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS), inner),
)


@given(any_json, st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_json_is_read_or_refused(value, complete):
    if complete and isinstance(value, dict):
        value = {"graph_inputs": [], "graph_outputs": [], "weights": [], "nodes": [], **value}
    with contextlib.suppress(SerializationError):
        assert validate_ir(dict_to_ir(value)) is True


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_damage_to_a_file_is_read_or_refused(data):
    """One value somewhere in a good file is replaced by something else."""
    broken = json.loads(GOOD)
    place = broken
    while isinstance(place, (dict, list)) and place:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.integers(0, 3)) == 0:
            place[key] = data.draw(any_json)
            break
        place = place[key]
    with contextlib.suppress(SerializationError):
        ir = dict_to_ir(broken)
        validate_ir(ir)
        with contextlib.suppress(ExecutionError):
            execute_ir(ir, (torch.ones(2, 3),), {})
