"""Qwen2.5-1.5B at its full size, with random weights: tokens and scores are those of PyTorch. Needs 20 GB."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import npu
import numpy as np
import pytest
import torch

from tests.models.zoo.language_models import qwen2_5_1_5b
from tests.support import numbers
from tests.support.devices import device_of, metal_device

pytestmark = pytest.mark.slow
PROMPT = [(7919 * i + 13) % 151936 for i in range(150)]
TOKENS = 64
ROOT = Path(__file__).resolve().parents[2]


def last_scores(model: Any) -> torch.Tensor:
    with torch.no_grad():
        scores: torch.Tensor = model(torch.tensor([PROMPT]), logits_to_keep=1).logits[0, -1]
    return scores


def test_greedy_tokens_are_those_of_pytorch() -> None:
    model = qwen2_5_1_5b(torch.float32)
    wanted = model.generate(torch.tensor([PROMPT]), max_new_tokens=TOKENS, do_sample=False)[0, len(PROMPT) :]
    generator = npu.Generator.from_model(model, capacity=256, device=device_of("chosen"), stop_tokens=())
    found = generator.generate(PROMPT, TOKENS)
    assert found.tokens == wanted.tolist()
    assert len(set(found.tokens)) > 8, "tokens that repeat would hide what depends on their positions"


def test_scores_in_bfloat16() -> None:
    model = qwen2_5_1_5b(torch.bfloat16)
    generator = npu.Generator.from_model(model, capacity=256, device=device_of("chosen"), stop_tokens=())
    own = last_scores(model)
    ours = generator.logits(PROMPT)
    exact = last_scores(model.float())  # as good as float64 beside bfloat16
    numbers.check(ours, exact, own, "scores")


STEPS_ON_METAL = """
import sys
import tests.models.zoo  # makes torchvision importable, which transformers imports
import npu, numpy as np
generator = npu.Generator.from_pretrained(sys.argv[1], device=sys.argv[2], capacity=64, buckets=(1,))
np.save(sys.argv[3], generator.logits([int(token) for token in sys.argv[4:]]).astype(np.float32))
"""


def test_steps_on_metal(tmp_path: Path) -> None:
    """Steps of one token. Where Metal is emulated, nothing is checked beside the result: that would take 20 GB."""
    device, prompt = metal_device(), PROMPT[:3]
    model = qwen2_5_1_5b(torch.bfloat16)
    model.save_pretrained(tmp_path / "model")
    kind = "metal:emulated" if sys.platform == "linux" else device.kind
    command = [sys.executable, "-c", STEPS_ON_METAL, tmp_path / "model", kind, tmp_path / "scores.npy"]
    environment = {**os.environ, "SOFTMETAL_MODE": "fast"}
    subprocess.run([*map(str, [*command, *prompt])], cwd=ROOT, env=environment, check=True)
    with torch.no_grad():
        own = model(torch.tensor([prompt])).logits[0, -1]
        exact = model.float()(torch.tensor([prompt])).logits[0, -1]
    numbers.check(np.load(tmp_path / "scores.npy"), exact, own, "scores")
