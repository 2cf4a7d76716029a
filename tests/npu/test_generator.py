"""Text generation: the same tokens as transformers, however the prompt is cut and the caches are shared."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import npu
import numpy as np
import pytest
import torch
from npu.generation import UnsupportedModelError
from npu.generation.chunks import chunks
from npu.generation.text import TextPieces
from npu_runtime import InvalidValueError

from tests.models.zoo.language_models import FAMILIES, VOCABULARY, Letters, causal, continued, tokens
from tests.support import numbers
from tests.support.devices import chosen_device, metal_device

CAPACITY = 128


@pytest.fixture(scope="module")
def qwen() -> Any:
    return causal("qwen2")


@pytest.fixture(scope="module")
def generator(qwen: Any) -> npu.Generator:
    return npu.Generator.from_model(qwen, capacity=CAPACITY, device=chosen_device(), tokenizer=Letters())


def test_sixty_four_tokens(qwen: Any, generator: npu.Generator) -> None:
    prompt = tokens(37)
    found = generator.generate(prompt, 64)
    assert found.tokens == continued(qwen, prompt, 64)
    assert (found.finish, found.prompt_tokens, len(found.text)) == ("length", 37, 64)
    assert found.seconds >= found.prompt_seconds > 0


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "qwen2"])
def test_families(family: str) -> None:
    """With windows, caps, scaled positions, learned ones, parallel blocks and experts."""
    model, prompt = causal(family), tokens(21)
    wanted = continued(model, prompt, 16)
    made = npu.Generator.from_model(model, capacity=64, device=chosen_device(), buckets=(1, 16))
    assert made.generate(prompt, 16).tokens == wanted
    assert continued(model, prompt, 2) == wanted[:2], "the model is as it was"


def test_on_metal(qwen: Any) -> None:
    made = npu.Generator.from_model(qwen, capacity=32, device=metal_device(), buckets=(1, 16))
    assert made.generate(tokens(18), 6).tokens == continued(qwen, tokens(18), 6)


@pytest.mark.parametrize("kind", ["chosen", "metal"])
def test_bfloat16_scores(kind: str) -> None:
    model, prompt = causal("qwen2", torch.bfloat16), tokens(20)
    device = chosen_device() if kind == "chosen" else metal_device()
    made = npu.Generator.from_model(model, capacity=32, device=device, buckets=(1, 16))
    with torch.no_grad():
        own = model(torch.tensor([prompt])).logits[0, -1]
        exact = copy.deepcopy(model).double()(torch.tensor([prompt])).logits[0, -1]
    numbers.check(made.logits(prompt), exact, own, "logits")


@pytest.mark.parametrize("buckets", [(1,), (1, 4), (1, 16, 32), (7, 3)], ids=str)
def test_prompts_in_chunks(qwen: Any, buckets: tuple[int, ...]) -> None:
    made = npu.Generator.from_model(qwen, capacity=40, device=chosen_device(), buckets=buckets)
    with torch.no_grad():
        for length in (1, 3, 16, 33, 39, 40):
            prompt = tokens(length)
            wanted = qwen(torch.tensor([prompt])).logits[0, -1]
            torch.testing.assert_close(torch.from_numpy(made.logits(prompt)), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("buckets", [(1,), (1, 16), (1, 16, 128), (1, 5, 7)], ids=str)
def test_chunks_cover_the_prompt(buckets: tuple[int, ...]) -> None:
    for capacity in (1, 20, 129, 300):
        for position in {0, 3 % capacity, capacity // 2}:
            for count in range(1, capacity - position + 1):
                at = position
                found = chunks(count, position, [b for b in buckets if b <= capacity], capacity)
                for i, (rows, valid) in enumerate(found):
                    assert 0 < valid <= rows and at + rows <= capacity
                    assert valid == rows or i == len(found) - 1
                    at += valid
                assert at == position + count


def test_prompts_of_a_batch(generator: npu.Generator) -> None:
    """Each is continued as if it were alone, though shorter ones begin later."""
    prompts = [tokens(9), tokens(23, 2), tokens(1, 3)]
    together = generator.generate(prompts, 12)
    assert [g.tokens for g in together] == [generator.generate(p, 12).tokens for p in prompts]
    assert [g.prompt_tokens for g in together] == [9, 23, 1]
    assert [g.tokens for g in generator.generate([prompts[0]], 12)] == [together[0].tokens]


def test_rows_of_a_batch_end_alone(generator: npu.Generator) -> None:
    prompts = [tokens(9), tokens(23, 2)]
    plain = [g.tokens for g in generator.generate(prompts, 12)]
    stop = next(t for t in plain[0][2:] if t not in plain[1] and t not in plain[0][:2])
    first, second = generator.generate(prompts, 12, stop_tokens=[stop])
    assert (first.tokens, first.finish) == (plain[0][: plain[0].index(stop)], "stop")
    assert (second.tokens, second.finish) == (plain[1], "length")


def test_programs_share_weights_and_caches(generator: npu.Generator) -> None:
    generator.generate(tokens(37), 2)
    programs = [p for (batch, _), p in generator._programs.items() if batch == 1]
    assert len(programs) > 1
    held = {p.session.state("caches_1").native_handle for p in programs}
    assert len(held) == 1


def test_models_on_meta_with_weights(qwen: Any) -> None:
    """Nothing of the model is needed but its configuration and names."""
    with torch.device("meta"):
        blueprint = type(qwen)(qwen.config).eval()
    with pytest.raises(InvalidValueError, match="the model has no weights"):
        npu.Generator.from_model(blueprint, capacity=32, device=chosen_device(), buckets=(1,)).generate([1], 1)
    from npu_runtime import load_weights

    weights = load_weights({name: tensor.clone() for name, tensor in qwen.state_dict().items()})
    made = npu.Generator.from_model(blueprint, weights=weights, capacity=32, device=chosen_device(), buckets=(1,))
    assert made.generate(tokens(4), 4).tokens == continued(qwen, tokens(4), 4)


def test_the_end_of_the_caches(qwen: Any) -> None:
    made = npu.Generator.from_model(qwen, capacity=24, device=chosen_device(), buckets=(1, 16))
    found = made.generate(tokens(20), 50)
    assert (found.finish, found.tokens) == ("capacity", continued(qwen, tokens(20), 5))
    found = made.generate(tokens(24), 50)
    assert (found.finish, found.tokens) == ("capacity", continued(qwen, tokens(24), 1))
    assert made.generate(tokens(20), 5).finish == "length"


def test_streams(generator: npu.Generator) -> None:
    whole, seen = generator.generate(tokens(5), 9), []
    pieces = list(generator.stream(tokens(5), 9))
    assert [p.token for p in pieces] == whole.tokens and "".join(p.text for p in pieces) == whole.text
    generator.generate(tokens(5), 9, on_token=seen.append)
    assert seen == pieces
    first = generator.stream(tokens(5), 9)
    next(first)
    generator.generate(tokens(6), 1)
    with pytest.raises(InvalidValueError, match="a later generation ended this one"):
        next(first)


def test_texts(generator: npu.Generator) -> None:
    plain = generator.generate("hello", 20)
    assert plain.tokens == generator.generate(Letters()("hello")["input_ids"], 20).tokens
    stop = plain.text[8:11]
    assert plain.text.index(stop) == 8
    found = generator.generate("hello", 20, stop_strings=stop)
    assert (found.text, found.finish, found.tokens) == (plain.text[:8], "stop", plain.tokens[:11])
    given = "".join(p.text for p in generator.stream("hello", 20, stop_strings=[stop]))
    assert given == plain.text[:8]
    never = generator.generate("hello", 20, stop_strings=[plain.text[-2:] + "?"])
    assert (never.text, never.finish) == (plain.text, "length")


def test_pieces_of_text() -> None:
    text = TextPieces(Letters(), ["bcd"])
    assert [text.add(t) for t in (0, 200, 201, 1, 2, 4)] == ["a", "", "é", "", "", "bce"]
    assert [text.add(t) for t in (1, 2, 3)] == ["", "", ""] and text.stopped and text.text == "aébce"
    text = TextPieces(Letters(), [])
    assert (text.add(200), text.end()) == ("", "\ufffd")


def test_the_part_that_is_cached_is_not_computed_again(qwen: Any) -> None:
    made = npu.Generator.from_model(qwen, capacity=64, device=chosen_device(), buckets=(1, 16))
    first = made.generate(tokens(20), 6)
    longer = [*tokens(20), *first.tokens, *tokens(5, 9)]
    computed: list[int] = []
    program = made._program
    made._program = lambda batch, rows: (computed.append(rows), program(batch, rows))[1]  # type: ignore[method-assign]
    assert made.generate(longer, 6, reuse=True).tokens == continued(qwen, longer, 6)
    assert computed == [16] + [1] * 5  # the last token, which nobody had read, and the five new ones
    other = tokens(30, 4)
    assert made.generate(other, 6, reuse=True).tokens == continued(qwen, other, 6)
    assert made.generate(other, 6, reuse=True).tokens == continued(qwen, other, 6)
    made.generate([tokens(3), tokens(4)], 2)
    assert made.generate(other, 6, reuse=True).tokens == continued(qwen, other, 6)


MISTAKES: list[tuple[Any, dict[str, Any], str]] = [
    ([], {}, "the prompt is empty"),
    ("", {}, "the prompt is empty"),
    ([[1], []], {}, "the prompt is empty"),
    ([1, VOCABULARY], {}, r"not in the vocabulary; got 211; expected a number from 0 to 210"),
    ([-1], {}, "not in the vocabulary; got -1"),
    ([1.5], {}, "a prompt must be a text or a list of tokens"),
    ([True], {}, "a prompt must be a text or a list of tokens"),
    (None, {}, "a prompt must be a text or a list of tokens"),
    ([1] * (CAPACITY + 1), {}, "longer than the capacity; got 129 tokens; expected at most 128"),
    ([1], {"max_new_tokens": 0}, "max_new_tokens is out of range"),
    ([1], {"temperature": -1}, "temperature is out of range; got -1"),
    ([1], {"temperature": float("nan")}, "temperature is out of range"),
    ([1], {"top_p": 0}, "top_p is out of range"),
    ([1], {"top_p": 1.5}, "top_p is out of range"),
    ([1], {"top_k": -1}, "top_k is out of range"),
    ([1], {"top_k": 2.0}, "top_k is out of range"),
    ([1], {"repetition_penalty": 0}, "repetition_penalty is out of range"),
    ([1], {"seed": -1}, "seed is out of range"),
    ([1], {"stop_strings": [""]}, "stop_strings must be non-empty"),
    ([1], {"stop_strings": [b"x"]}, "stop_strings must be non-empty texts"),
    ([1], {"stop_strings": 5}, "stop_strings is not a list; got 5; expected a list of str"),
    ([1], {"stop_tokens": 5}, "stop_tokens is not a list; got 5; expected integers from 0 to 210"),
    ([1], {"stop_tokens": "5"}, "stop_tokens is not a list"),
    ([1], {"stop_tokens": [VOCABULARY]}, "a stop token is out of range; got 211; expected integers from 0 to 210"),
    ([1], {"stop_tokens": [-1]}, "a stop token is out of range; got -1"),
    ([1], {"stop_tokens": [1.0]}, "a stop token is out of range; got 1.0"),
    ([1], {"stop_tokens": [None]}, "a stop token is out of range; got None"),
    ([1], {"max_new_tokens": "5"}, "max_new_tokens is out of range; got '5'"),
    ([1], {"max_new_tokens": 2.0}, "max_new_tokens is out of range"),
    ([1], {"max_new_tokens": True}, "max_new_tokens is out of range"),
    ([1], {"temperature": "hot"}, "temperature is out of range; got 'hot'"),
    ([1], {"temperature": None}, "temperature is out of range; got None"),
    ([1], {"temperature": 10**400}, "temperature is out of range"),
    ([1], {"temperature": 1e39}, "temperature is out of range"),
    ([1], {"temperature": 1j}, "temperature is out of range"),
    ([1], {"top_p": [0.5]}, "top_p is out of range"),
    ([1], {"repetition_penalty": 1e-39}, "repetition_penalty is out of range"),
    ([1], {"seed": "x"}, "seed is out of range"),
    ([1], {"reuse": "yes"}, "reuse must be a bool; got 'yes'"),
    ([1], {"on_token": 5}, "on_token must be callable; got 5"),
    ({"input_ids": [1]}, {}, "a prompt must be a text or a list of tokens"),
    (..., {}, "a prompt must be a text or a list of tokens"),
]


@pytest.mark.parametrize(("prompt", "options", "message"), MISTAKES, ids=str)
def test_mistakes(generator: npu.Generator, prompt: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        generator.generate(prompt, **options)


MISTAKES_OF_MAKING: list[tuple[str, tuple[Any, ...], str]] = [
    ("capacity", (0, 257, 1.5, True, "8"), "the capacity is out of range"),
    ("buckets", ([0], [1.0], ["x"]), "a bucket is out of range"),
    ("buckets", (5, "1"), "buckets is not a list"),
    ("stop_tokens", ([VOCABULARY], [-1], ["x"], [1.5]), "a stop token is out of range"),
    ("stop_tokens", (3, "x"), "stop_tokens is not a list"),
    ("threads", (-1, "x", 1.5), "threads is out of range"),
    ("device", (5, b"cpu"), "the kind of a device must be a string or a torch.device; got"),
    ("tokenizer", (5, "folder", len), "tokenizer has the wrong type; got"),
    ("progress", (5,), "progress must be callable; got 5"),
    ("weights", (5, {}), "weights has the wrong type; got .*; try npu_runtime.load_weights"),
]


def test_mistakes_of_making(qwen: Any, generator: npu.Generator) -> None:
    with pytest.raises(TypeError, match="unknown options; got top"):
        generator.generate([1], top=1)
    for name, values, message in MISTAKES_OF_MAKING:
        for value in values:
            with pytest.raises(InvalidValueError, match=message):
                npu.Generator.from_model(qwen, **{name: value})
    plain = npu.Generator.from_model(qwen, capacity=8, device=chosen_device())
    with pytest.raises(InvalidValueError, match="a text prompt needs a tokenizer"):
        plain.generate("text")
    with pytest.raises(InvalidValueError, match="stop_strings need a tokenizer"):
        plain.generate([1], stop_strings=["x"])
    for options in ({"batch": 0}, {"batch": "1"}, {"buckets": [9]}, {"buckets": 1}):
        with pytest.raises(InvalidValueError, match="out of range|is not a list"):
            plain.prepare(**options)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("folder", "model has the wrong type; got 'folder'; expected a causal language model.*; try from_pretrained"),
        (5, "model has the wrong type; got 5"),
        (None, "model has the wrong type; got None"),
    ],
)
def test_no_models(model: Any, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        npu.Generator.from_model(model)
    with pytest.raises(InvalidValueError, match=r"not made by its class; got .*; expected Generator\.from_pretrained"):
        npu.Generator(model)


def test_modules_that_are_no_language_models(qwen: Any) -> None:
    with pytest.raises(UnsupportedModelError, match="Linear is not a causal language model"):
        npu.Generator.from_model(torch.nn.Linear(2, 2))

    class Own(torch.nn.Module):
        def forward(self, input_ids: Any, logits_to_keep: Any, position_ids: Any) -> None: ...

    with pytest.raises(UnsupportedModelError, match="Own is not a model of transformers: it has no config"):
        npu.Generator.from_model(Own())
    for folder in (5, None, qwen):
        with pytest.raises(InvalidValueError, match="folder must be a path"):
            npu.Generator.from_pretrained(folder)
    with pytest.raises(InvalidValueError, match="cache has the wrong type; got 5"):
        npu.Generator.from_pretrained("folder", cache=5)  # type: ignore[arg-type]


def test_counts_of_numpy(qwen: Any) -> None:
    made = npu.Generator.from_model(
        qwen, capacity=np.int64(16), buckets=np.array([1, 4]), device=chosen_device(), stop_tokens=np.array([3, 5]),
        threads=np.int32(1),
    )  # fmt: skip
    assert (made.capacity, made.buckets, made.stop_tokens) == (16, (1, 4), {3, 5})
    plain: dict[str, Any] = {"temperature": 0.5, "top_p": 0.5, "repetition_penalty": 1.5, "seed": 3, "top_k": 9}
    numpy = {name: np.asarray(value)[()] for name, value in plain.items()} | {"temperature": np.float32(0.5)}
    found = made.generate(np.array(tokens(5)), np.int32(6), **numpy, stop_tokens=[np.int64(1)])
    assert found.tokens == made.generate(tokens(5), 6, **plain, stop_tokens=[1]).tokens
    made.prepare(np.int64(2), np.array([4]))
    assert (2, 4) in made._programs


def test_models_that_keep_something_else_are_refused() -> None:
    import transformers

    config = transformers.MambaConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(UnsupportedModelError, match="Mamba"):
        npu.Generator.from_model(transformers.MambaForCausalLM(config).eval(), capacity=8)
    bert = transformers.BertModel(
        transformers.BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    )
    with pytest.raises(UnsupportedModelError, match="takes no logits_to_keep"):
        npu.Generator.from_model(bert.eval(), capacity=8)
    options = {
        "d_model": 16,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 16,
        "vocab_size": 20,
    }
    bart = transformers.BartForCausalLM(transformers.BartConfig(**options))
    with pytest.raises(UnsupportedModelError, match="takes no position_ids"):
        npu.Generator.from_model(bart.eval(), capacity=8)
    small = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    roberta = transformers.RobertaForCausalLM(transformers.RobertaConfig(**small, is_decoder=True))
    with pytest.raises(UnsupportedModelError, match="start after its padding token"):
        npu.Generator.from_model(roberta.eval(), capacity=8)
    dynamic = causal("llama3", rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})
    with pytest.raises(UnsupportedModelError, match=r"\(dynamic\) depend on the length"):
        npu.Generator.from_model(dynamic, capacity=8)


def test_scores_that_are_not_numbers() -> None:
    model = causal("gpt2")
    model.transformer.ln_f.weight.data[3] = float("nan")
    made = npu.Generator.from_model(model, capacity=8, device=chosen_device())
    for temperature in (0.0, 1.0):
        with pytest.raises(InvalidValueError, match="scores are not finite"):
            made.generate([1, 2], 2, temperature=temperature)


def test_threads_take_turns(generator: npu.Generator) -> None:
    """A generation is whole or ended by a later one; never mixed."""
    wanted = {n: generator.generate(tokens(n), 6).tokens for n in (5, 9)}
    wrong: list[Any] = []

    def work(n: int) -> None:
        for _ in range(4):
            try:
                if generator.generate(tokens(n), 6).tokens != wanted[n]:
                    wrong.append(n)
            except InvalidValueError:
                pass

    threads = [threading.Thread(target=work, args=(n,)) for n in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_programs_are_made_in_several_threads(qwen: Any) -> None:
    """Of one model, which is as it was afterwards."""
    before, wanted = qwen.config._attn_implementation, continued(qwen, tokens(3), 4)
    made = [npu.Generator.from_model(qwen, capacity=16, device=chosen_device(), buckets=(1,)) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda generator: generator.generate(tokens(3), 4).tokens, made))
    assert found == [wanted] * 3
    assert qwen.config._attn_implementation == before


def test_scores_are_of_one_prompt(generator: npu.Generator) -> None:
    with pytest.raises(
        InvalidValueError, match="logits takes a single prompt; got 2 prompts; expected the tokens of one"
    ):
        generator.logits([[1, 2], [3, 4]])  # type: ignore[list-item]
