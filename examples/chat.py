"""Talk to a language model in a folder on this machine.

python examples/chat.py FOLDER [--capacity 4096] [--temperature 0.7] [--device cpu]

The folder has config.json, safetensors and a tokenizer, as Hugging Face's models do. What was said before stays in the
caches: only what is new of the conversation is computed. An empty line or Ctrl-D ends it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import npu


def template(generator: npu.Generator, messages: list[dict[str, str]]) -> Any:
    """The tokens of the conversation, in the form that the model was trained with."""
    tokenizer = generator.tokenizer
    if getattr(tokenizer, "chat_template", None):
        return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    return "\n".join(message["content"] for message in messages)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--capacity", type=int, help="of the conversation, in tokens")
    parser.add_argument("--tokens", type=int, default=512, help="of an answer, at most")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--device")
    args = parser.parse_args()

    generator = npu.Generator.from_pretrained(
        args.folder,
        cache=True,
        capacity=args.capacity,
        device=args.device,
        progress=lambda what, done, total: print(f"\r{what}: {done} of {total}   ", end="", file=sys.stderr),
    )
    if generator.tokenizer is None:
        print(f"{args.folder} has no tokenizer; `npu generate --ids` takes tokens", file=sys.stderr)
        return 1
    generator.prepare()
    print(file=sys.stderr)
    messages: list[dict[str, str]] = []
    for turn, said in enumerate(iter(lambda: sys.stdin.readline().strip(), "")):
        messages.append({"role": "user", "content": said})
        answer = generator.generate(
            template(generator, messages),
            args.tokens,
            temperature=args.temperature,
            top_p=args.top_p,
            seed=turn,
            reuse=True,
            on_token=lambda piece: print(piece.text, end="", flush=True),
        )
        print()
        messages.append({"role": "assistant", "content": answer.text})
        if answer.finish == "capacity":
            print("The capacity is used up.", file=sys.stderr)
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
