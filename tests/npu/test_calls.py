"""The arguments and results of compiled modules are those of the module's ``forward``."""

import collections
import copy
import dataclasses
import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple

import npu
import numpy as np
import pytest
import torch
from npu_base.errors import InvalidValueError
from npu_runtime.host import torch_to_numpy
from torch import nn
from torch_ir import ConversionError

X, Y = torch.arange(3.0), torch.full((3,), 5.0)


class Returning(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(x)


def results_of(wrap, *given, **options):
    return npu.compile(Returning(wrap), X, device="cpu", **options)(*(given or (X,)))


def test_named_tuples_and_dataclasses():
    class Pair(NamedTuple):  # local classes, which no name leads to
        near: torch.Tensor
        far: torch.Tensor

    @dataclasses.dataclass
    class Answer:
        score: torch.Tensor
        pair: Pair
        note: str = "none"

    for wrap in (lambda x: Answer(x + 1, Pair(x * 2, x * 3)), lambda x: [Answer(x + 1, Pair(x * 2, x * 3), "none")]):
        got, wanted = results_of(wrap), wrap(X)
        got, wanted = (got[0], wanted[0]) if isinstance(wanted, list) else (got, wanted)
        assert type(got) is Answer and type(got.pair) is Pair and got.note == "none"
        assert torch.equal(got.score, wanted.score) and torch.equal(got.pair.far, wanted.pair.far)
    arrays = results_of(lambda x: Pair(x, x + 1), X.numpy())
    assert type(arrays) is Pair and isinstance(arrays.far, np.ndarray)


def test_dicts_of_other_kinds_and_pytorchs_own_tuples():
    got = results_of(lambda x: collections.OrderedDict(b=x, a=x + 1))
    assert type(got) is collections.OrderedDict and list(got) == ["b", "a"]
    got = results_of(lambda x: collections.defaultdict(list, {1: x + 1}))
    assert got.default_factory is list and torch.equal(got[1], X + 1)
    got = results_of(lambda x: torch.max(x, 0))
    assert type(got) is torch.return_types.max and got.values == 2 and got.indices == 2


def nested(x, levels):
    return [nested(x, levels - 1)] if levels else x


def test_keys_and_depths_that_files_keep():
    wraps = [
        lambda x: {1.5: x + 1, "1.5": x, 2: x * 2, "2": x * 3},
        lambda x: {True: x, False: x + 1, None: {float("inf"): x + 2, -0.25: x + 3}},
        lambda x: nested(x + 1, 100),
    ]
    for wrap in wraps:
        compiled, wanted = npu.compile(Returning(wrap), X, device="cpu"), wrap(X)
        for one in (compiled, copy.deepcopy(compiled)):
            torch.testing.assert_close(one(X), wanted)
            if isinstance(wanted, dict):
                assert list(map(repr, one(X))) == list(map(repr, wanted))


@pytest.mark.parametrize("key", [(1, 2), torch.float32, float("nan")], ids=str)
def test_keys_of_results_that_no_file_keeps_are_refused(key):
    with pytest.raises(ConversionError, match=re.escape(f"the key {key!r}, a {type(key).__name__}, which")):
        npu.compile(Returning(lambda x: [{key: x + 1}]), X, device="cpu")


def test_results_that_are_too_deep_are_refused():
    with pytest.raises(ConversionError, match="results of the model are nested too deeply; .* at most 100 levels"):
        npu.compile(Returning(lambda x: nested(x + 1, 101)), X, device="cpu")


def test_keys_of_arguments_may_be_anything():
    def difference(given):
        return given[1, 2] - given[1.5]

    compiled = npu.compile(Returning(difference), ({(1, 2): X, 1.5: Y},), device="cpu")
    assert torch.equal(compiled({1.5: Y, (1, 2): X}), X - Y)
    with pytest.raises(ConversionError, match="example inputs have a dict with the key"):
        npu.compile(Returning(difference), ({(1, 2): X, 1.5: Y, "(1, 2)": X},), device="cpu")


def test_model_output():
    outputs = pytest.importorskip("transformers.modeling_outputs")
    got = results_of(lambda x: outputs.CausalLMOutputWithPast(logits=x + 1, hidden_states=(x, x * 2)))
    assert isinstance(got, outputs.CausalLMOutputWithPast)
    assert torch.equal(got.logits, X + 1) and got[0] is got["logits"] is got.logits
    assert got.loss is None and got.past_key_values is None and list(got) == ["logits", "hidden_states"]
    assert torch.equal(got.hidden_states[1], X * 2)


class Cache:
    """Its constructor has code that needs tensors, as that of Hugging Face's caches."""

    def __init__(self, keys, values):
        self.keys, self.values, self.joined = keys, values, torch.cat([keys, values])


def test_classes_that_are_no_plain_data():
    torch.utils._pytree.register_pytree_node(
        Cache, lambda cache: ([cache.keys, cache.values], None), lambda items, _: Cache(*items)
    )
    compiled = npu.compile(Returning(lambda x: {"y": x, "cache": Cache(x + 1, x * 2)}), X, device="cpu")
    got = compiled(X)["cache"]
    assert type(got) is Cache and torch.equal(got.joined, torch.cat([X + 1, X * 2]))
    keys, values = compiled(X.numpy())["cache"]
    assert np.array_equal(keys, X + 1) and isinstance(values, np.ndarray)


class Ordered(nn.Module):
    def forward(self, a, b, c=None):
        return a - 2 * b if c is None else a - 2 * b + 7 * c


@pytest.mark.parametrize(
    "example",
    [((X, Y), {}), ((X,), {"b": Y}), ((), {"a": X, "b": Y}), ((), {"b": Y, "a": X})],
    ids=["by position", "mixed", "by name", "by name in another order"],
)
def test_any_way_of_passing_what_was_traced(example):
    compiled, wanted = npu.compile(Ordered(), *example, device="cpu"), X - 2 * Y
    for call in (lambda m: m(X, Y), lambda m: m(X, b=Y), lambda m: m(a=X, b=Y), lambda m: m(b=Y, a=X)):
        assert torch.equal(call(compiled), wanted)
    wrong = {
        r"missing \['b'\]": lambda: compiled(a=X),
        r"unknown \['c'\]": lambda: compiled(X, Y, c=X),
        r"\['a'\] come twice": lambda: compiled(X, a=X),
    }
    for words, call in wrong.items():
        with pytest.raises(InvalidValueError, match=words):
            call()


def test_a_position_means_the_same_parameter():
    compiled = npu.compile(Ordered(), (X,), {"c": Y, "b": X}, device="cpu")
    assert torch.equal(compiled(X, X, Y), Ordered()(X, X, Y))
    assert torch.equal(compiled(X, c=Y, b=X), Ordered()(X, X, Y))

    class Skips(nn.Module):
        def forward(self, a, b=None, c=None):
            return a + (0 if c is None else c)

    compiled = npu.compile(Skips(), (X,), {"c": Y}, device="cpu")
    assert torch.equal(compiled(X, c=Y), X + Y)
    with pytest.raises(InvalidValueError, match=r"missing \['c'\], unknown \['b'\]"):
        compiled(X, Y)  # would be b


def test_tensors_do_not_take_the_positions_of_constants():
    class Scaled(nn.Module):
        def forward(self, a, scale=2.0, b=None, *, shift=1.0, c=None):
            return a * scale + (0 if b is None else b) + shift + (0 if c is None else c)

    compiled, module = npu.compile(Scaled(), (X, 3.0, Y), {"shift": 1.5}, device="cpu"), Scaled()
    for result in (compiled(X, 3.0, Y, shift=1.5), compiled(b=Y, a=X, scale=3.0, shift=1.5), compiled(a=X, b=Y)):
        assert torch.equal(result, module(X, 3.0, Y, shift=1.5))
    with pytest.raises(InvalidValueError, match="missing"):
        compiled(X, Y)  # to forward, Y is the scale
    compiled = npu.compile(Scaled(), X, {"shift": 1.5, "c": Y}, device="cpu")
    assert torch.equal(compiled(X, shift=1.5, c=Y), module(X, shift=1.5, c=Y))
    with pytest.raises(InvalidValueError, match="missing"):
        compiled(X, Y)


def test_containers_as_arguments():
    class Item(NamedTuple):
        first: torch.Tensor
        second: torch.Tensor

    @dataclasses.dataclass
    class Batch:
        x: torch.Tensor
        item: Item

    class Takes(nn.Module):
        def forward(self, batch, scale=1.0):
            return (batch.x - batch.item.first * batch.item.second) * scale

    given = Batch(X, Item(Y, X))
    compiled = npu.compile(Takes(), given, device="cpu")
    assert torch.equal(compiled(given), Takes()(given))
    assert torch.equal(compiled(batch=given), Takes()(given))
    assert torch.equal(compiled(X, Y, X), Takes()(given))
    scaled = npu.compile(Takes(), (given, 2.0), device="cpu")
    assert torch.equal(scaled(given, 2.0), Takes()(given, 2.0)) and torch.equal(
        scaled(given, scale=2.0), scaled(X, Y, X)
    )
    with pytest.raises(InvalidValueError, match="Input 3 is 3.0, but the graph was traced with 2.0"):
        scaled(given, 3.0)


class Scaled(nn.Module):
    def forward(self, x, scale):
        return x * scale


@pytest.mark.parametrize(("traced", "other"), [(float("nan"), 0.0), (0.0, -0.0), (-0.0, 0.0), (float("inf"), 1.0)])
def test_special_numbers_as_constants(traced, other):
    compiled = npu.compile(Scaled(), (X, traced), device="cpu")
    want = Scaled()(X, traced)
    got = compiled(X, traced)
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(got.signbit(), want.signbit()) or traced != traced
    with pytest.raises(InvalidValueError, match=f"Input 1 is {other}, .* traced with {traced} .*compile again"):
        compiled(X, other)


class Two(nn.Module):
    def forward(self, x):
        return x + 1, [x * 2, {"z": x * 3}]


@pytest.mark.parametrize(
    ("wrap", "names"),
    [
        (lambda x: x + 1, ["output"]),
        (lambda x: (x + 1, [x * 2, x]), ["output_0", "output_1", "output_2"]),
        (lambda x: (x, x), ["output_0", "output_1"]),
        (lambda x: {"logits": x + 1, "rest": (x * 2, x * 3)}, ["logits", "rest.0", "rest.1"]),
        (lambda x: {"a.b": x + 1, "a": {"b": x * 2}}, ["a.b", "a.b_"]),
        (lambda x: torch.return_types.max((x, x + 1)), ["values", "indices"]),
    ],
)
def test_names_of_outputs(wrap, names, tmp_path):
    compiled = npu.compile(Returning(wrap), X, device="cpu")
    assert compiled.output_names == names
    wanted = torch.utils._pytree.tree_leaves(wrap(X))
    compiled.save(tmp_path / "named.npu")
    for got in (npu.Predictor(tmp_path / "named.npu", device="cpu")({"x": X.numpy()}), compiled.executor.run({"x": X})):
        for name, tensor in zip(names, wanted, strict=True):
            np.testing.assert_array_equal(np.asarray(got[name]), tensor)


def test_names_that_the_user_chooses(tmp_path):
    compiled = npu.compile(Two(), X, output_names=["first", "second", "third"], device="cpu")
    compiled.save(tmp_path / "two.npu")
    loaded = npu.load(tmp_path / "two.npu", "cpu")
    assert compiled.output_names == loaded.output_names == ["first", "second", "third"]
    assert list(npu.Predictor(tmp_path / "two.npu", device="cpu")({"x": X.numpy()})) == ["first", "second", "third"]
    assert np.array_equal(loaded.executor.run({"x": X})["third"], X * 3)
    assert torch.equal(compiled(X)[1][1]["z"], X * 3)
    wrong = {
        "got 2 names, the model has 3 outputs": ["a", "b"],
        "names must differ": ["a", "b", "a"],
        "expected a list of non-empty strings": ["a", "", "b"],
        "expected a list of non-empty strings, got 'abc'": "abc",
    }
    for words, names in wrong.items():
        with pytest.raises(InvalidValueError, match=words):
            npu.compile(Two(), X, output_names=names)


def test_cheap_calls_need_no_binding(monkeypatch):
    compiled, loaded = npu.compile(Ordered(), (X, Y), device="cpu"), None
    loaded = pickle.loads(pickle.dumps(compiled))
    for module in (compiled, loaded):
        monkeypatch.setattr(module._arguments, "bind", None)
        a, b = nn.Parameter(X.clone()), Y.clone().requires_grad_()
        for result in (module(a, b), module(a * 1, b), module(a, b=b), module(b=b, a=a), module(X, b * 1)):
            assert torch.equal(result, X - 2 * Y) and type(result) is torch.Tensor
            assert not result.requires_grad and result.grad_fn is None
        with torch.inference_mode():
            assert torch.equal(module(a, b), X - 2 * Y)
        x, y = X.numpy(), Y.numpy()
        for result in (module(x, y), module(x, b=y), module(b=y, a=x), module(np.asfortranarray(x), y[::1])):
            assert type(result) is np.ndarray and np.array_equal(result, x - 2 * y) and result.flags.writeable


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()], ids=str)
def test_arrays_come_back_as_arrays_of_their_dtype(dtype, shape):
    class Copy(nn.Module):
        def forward(self, x):
            return x.clone()

    x = torch.ones(shape, dtype=getattr(torch, dtype))
    compiled = npu.compile(Copy(), x, device="cpu")
    array = np.ones(shape, dtype)
    result = compiled(array)
    assert result.dtype is array.dtype and result.shape == shape and np.array_equal(result, array)
    assert not np.shares_memory(result, array)


def test_arrays_that_do_not_fit_are_checked_in_words():
    compiled = npu.compile(Ordered(), (X, Y), device="cpu")
    x, y = X.numpy(), Y.numpy()
    masked = np.ma.masked_array(y, np.arange(3) == 0)
    wrong = {
        r"Input 'a': got dtype float64, expected float32": (x.astype("float64"), y),
        r"Input 'b': got shape \[1, 1, 1\]": (x, np.ones((1, 1, 1), "float32")),
        r"Input 'b': 1 of its .* elements are masked": (x, masked),
        "Expected 2 inputs, got 1": (x,),
        "Expected 2 inputs, got 3": (x, y, y),
    }  # fmt: skip
    for message, arrays in wrong.items():
        with pytest.raises(InvalidValueError, match=message):
            compiled(*arrays)
    assert type(compiled(x, Y)) is torch.Tensor and np.array_equal(
        compiled(x.astype(">f4").astype("<f4"), y), x - 2 * y
    )


def test_an_argument_that_the_example_left_out_is_named():
    class Scaled(nn.Module):
        def forward(self, x, mask=None, scale=1.0):
            return x * scale if mask is None else x * mask * scale

    x = torch.ones(2, 3)
    compiled = npu.compile(Scaled(), x, device="cpu")
    for args, kwargs, name in (((x, x), {}, "mask"), ((x,), {"mask": x}, "mask"), ((x,), {"scale": 2.0}, "scale")):
        with pytest.raises(InvalidValueError, match=f"the example inputs had no '{name}': compile with an example"):
            compiled(*args, **kwargs)
    with pytest.raises(InvalidValueError, match=r"unknown \['other'\], expected \['x'\]$"):
        compiled(x, other=x)


ONES = torch.ones(2)


class Times(nn.Module):
    def forward(self, x: torch.Tensor, n: int = 1, flag: bool = False) -> torch.Tensor:
        return x * n + (100 if flag else 0)


class Sums(nn.Module):
    def forward(self, xs: list[Any]) -> Any:
        return xs[0] * len(xs) + sum(xs[1:])


@pytest.mark.parametrize(
    ("model", "example", "call", "why"),
    [
        (Times, (ONES,), (ONES, 3), "Input 'n' is 3, but .* its default, 1; .* no 'n': compile with"),
        (Times, (ONES,), (ONES, 1, True), "Input 'flag' is True, but .* its default, False; .* no 'flag'"),
        (Times, (ONES,), (ONES, "abc"), "Input 'n' is 'abc', but"),
        (Times, (ONES,), (ONES, True), "Input 'n' is True, but .* its default, 1"),
        (Times, (ONES, 2), (ONES, 2, True), "Input 'flag' is True, but"),
        (Times, (ONES, 2, False), (ONES, 3), "Input 1 is 3, but the graph was traced with 2"),
        (Sums, ([ONES, 5],), ([ONES, 5, 7],), r"Input 2 is 7, which .*\(a tensor, 5\)"),
    ],
)
def test_constants_that_the_example_did_not_have_are_refused(model: Any, example: Any, call: Any, why: str) -> None:
    compiled = npu.compile(model().eval(), example, device="cpu")
    with pytest.raises(InvalidValueError, match=why):
        compiled(*call)


def test_constants_may_be_left_out() -> None:
    compiled = npu.compile(Times().eval(), (ONES, 2, False), device="cpu")
    for call in ((ONES,), (ONES, 2), (ONES, 2, False)):
        assert compiled(*call).tolist() == [2, 2]


class Optional(nn.Module):
    def forward(self, ids: Any = None, mask: Any = None, labels: Any = None, use_cache: Any = None) -> Any:
        return ids + (2 if use_cache else 1) + (0 if labels is None else labels)


def test_tensors_by_position_keep_constants_by_name() -> None:
    compiled = npu.compile(Optional(), {"ids": X, "use_cache": True}, device="cpu")
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((X,), {}), ((), {"ids": X}), ((X,), {"use_cache": True}), ((X, None, None, True), {}),
        ((X, None), {"labels": None}), ((X,), {"use_cache": True, "mask": None}),
    ]  # fmt: skip
    for args, kwargs in calls:
        assert torch.equal(compiled(*args, **kwargs), X + 2)
    wrong: dict[str, Any] = {
        r"'ids': got shape \[4\]": torch.zeros(4),
        "'ids': got dtype int32": X.int(),
        r"Expected 1 inputs, got 0 .*lists of them are no tensors": [1.0, 2.0, 3.0],
    }
    for words, given in wrong.items():
        with pytest.raises(InvalidValueError, match=words):
            compiled(given)
    with pytest.raises(InvalidValueError, match="Input 1 is False, but the graph was traced with True"):
        compiled(X, None, None, False)


def test_an_argument_that_the_example_left_out_may_have_its_default(tmp_path: Path) -> None:
    """Hugging Face's code passes all arguments by name, most of which are None."""
    compiled = npu.compile(Optional(), {"ids": X, "labels": Y}, device="cpu")
    compiled.save(tmp_path / "optional.npu")
    for module in (compiled, npu.load(tmp_path / "optional.npu", "cpu"), pickle.loads(pickle.dumps(compiled))):
        want = X + 1 + Y
        assert torch.equal(module(ids=X, mask=None, labels=Y, use_cache=None), want)
        assert torch.equal(module(X, None, Y), want) and torch.equal(module(X, None, labels=Y), want)
        with pytest.raises(InvalidValueError, match="'use_cache' is True, but the graph .* its default, None"):
            module(ids=X, labels=Y, use_cache=True)
        with pytest.raises(InvalidValueError, match=r"unknown \['mask'\].*no 'mask': compile with an example"):
            module(ids=X, labels=Y, mask=X)
        with pytest.raises(InvalidValueError, match=r"\['labels'\] come twice"):
            module(X, None, Y, labels=Y)


def test_defaults_that_are_no_plain_constants() -> None:
    class Typed(nn.Module):
        def forward(self, x: Any, dtype: Any = torch.float32, pair: Any = (1, 2), *more: Any, end: Any = 1j) -> Any:
            return x.to(dtype) * pair[1]

    compiled = npu.compile(Typed(), X, device="cpu")
    assert torch.equal(compiled(X, torch.float32, end=1j), X * 2) and torch.equal(
        compiled(X, dtype=torch.float32), X * 2
    )
    for kwargs, words in (
        ({"dtype": torch.float16}, "'dtype' is torch.float16, but the graph .* default, torch.float32"),
        ({"end": 2j}, "'end' is 2j, but"),
        ({"pair": (1, 2)}, r"unknown \['pair'\].*no 'pair'"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            compiled(X, **kwargs)


def test_an_example_may_be_any_mapping() -> None:
    """A tokenizer gives one that is no dict."""
    compiled = npu.compile(Scaled(), collections.UserDict(x=X, scale=Y), device="cpu")
    assert torch.equal(compiled(x=X, scale=Y), Scaled()(X, Y))


def test_tensors_of_transforms_are_named():
    compiled = npu.compile(nn.Linear(3, 3), torch.ones(2, 3), device="cpu")
    for call in (torch.vmap(compiled), torch.func.grad(lambda x: compiled(x).sum())):
        with pytest.raises(InvalidValueError, match=r"Input 'input' is part of torch\.func or torch\.vmap"):
            call(torch.ones(2, 3))


@pytest.mark.filterwarnings("ignore::npu.host_parts.HostWarning")
@pytest.mark.parametrize(
    "name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]
)
def test_float8_on_the_host(name, tmp_path):
    dtype = getattr(torch, name)

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.tensor([1.0, 2, 4]).to(dtype))

        def forward(self, x, y):
            return (x * self.scale.float()).to(dtype), y.float() + 1, y[0]

    model, given = Scaled().eval(), (torch.tensor([1.0, 2, 8]), torch.tensor([1.0, 4, 2]).to(dtype))
    compiled, wanted = npu.compile(model, given, device="cpu"), model(*given)
    compiled.save(tmp_path / "scaled.npu")
    for one in (compiled, npu.load(tmp_path / "scaled.npu", "cpu")):
        got = one(*given)
        assert [r.dtype for r in got] == [r.dtype for r in wanted]
        assert all(torch.equal(a.float(), b.float()) for a, b in zip(got, wanted, strict=True))
    arrays = compiled(given[0].numpy(), torch_to_numpy(given[1]))
    assert [a.dtype.name for a in arrays] == [name, "float32", name]


@pytest.mark.filterwarnings("ignore::npu.host_parts.HostWarning")
def test_dtypes_and_layouts_that_arrays_do_not_have():
    refusal = r"'%s' has a dtype that NumPy does not have; got complex32; try torch\.complex64"
    with pytest.raises(InvalidValueError, match=refusal % "to"):
        npu.compile(Returning(lambda x: x.to(torch.complex32)), X)
    model = Returning(lambda x: x + model.w.to(torch.complex64).real)
    model.register_buffer("w", torch.ones(3, dtype=torch.complex32))
    with pytest.raises(InvalidValueError, match=refusal % "w"):
        npu.compile(model, X)

    class Sparse(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("w", torch.eye(3).to_sparse())

        def forward(self, x):
            return torch.sparse.mm(self.w, x)

    with pytest.raises(InvalidValueError, match=r"'w' is not a dense tensor; got the layout torch\.sparse_coo"):
        npu.compile(Sparse(), torch.ones(3, 2), device="cpu")
