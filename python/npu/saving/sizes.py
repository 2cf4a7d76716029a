"""The open sizes of a model in a file, which has a program for each of some sizes and can make others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from npu_base.errors import NPUError
from npu_base.size_rules import SizeRange, SizeRules
from npu_base.sizes import Size, free_names, is_name

from npu.buckets import Buckets
from npu.saving.container import refuse
from npu.saving.signature import Signature, TensorEntry, sizes_returned

if TYPE_CHECKING:  # most models load without the compiler
    from npu.saving.parts import Parts

__all__ = ["OpenSizes", "SavedSize", "entries_of", "read_open_sizes"]

_MOST = 1 << 40


@dataclass(frozen=True)
class SavedSize:
    """What a file has for one size: the bytes of its program, or its parts if it runs partly on the host."""

    sizes: Mapping[str, int]
    code: bytes = b""
    parts: Parts | None = None

    def __str__(self) -> str:
        return " x ".join(f"{name}={value}" for name, value in self.sizes.items())


@dataclass(frozen=True)
class OpenSizes:
    """``options`` are those of the compiler, for further sizes. ``saved`` has the sizes in the file, in the order of
    their last use, and ``most`` is how many a loaded model keeps."""

    rules: SizeRules
    options: Mapping[str, Any]
    most: int
    saved: Sequence[SavedSize] = ()
    buckets: Buckets | None = None

    @property
    def run_on_host_too(self) -> bool:
        """Whether some size does."""
        return any(size.parts is not None for size in self.saved)

    def to_dict(self) -> dict[str, Any]:
        buckets = {} if self.buckets is None else {"buckets": self.buckets.to_dict()}
        return {
            **buckets,
            "ranges": [size.to_dict() for size in self.rules.sizes],
            "conditions": list(self.rules.conditions),
            "options": dict(self.options),
            "max_sizes": self.most,
        }


def entries_of(entries: Sequence[TensorEntry], rules: SizeRules, sizes: Mapping[str, int]) -> list[TensorEntry]:
    """With the shapes that they have for these sizes."""
    return [
        replace(e, shape=tuple(rules.value(n.text, sizes) if isinstance(n, Size) else n for n in e.shape))
        for e in entries
    ]


def read_open_sizes(data: Any, programs: Sequence[Mapping[str, Any]], signature: Signature, file: str) -> OpenSizes:
    """Checked: names, ranges, conditions, and that the programs' sizes are among them. The programs are not read."""
    if not isinstance(data, Mapping) or not all(isinstance(data.get(k), list) for k in ("ranges", "conditions")):
        _bad(file, "is not valid", data, "an object with ranges and conditions")
    name = "the model"
    ranges = [_range(entry, file) for entry in data["ranges"]]
    known = {size.name for size in ranges}
    if len(known) != len(ranges) or not ranges:
        _bad(file, "has no sizes, or two of one name", data["ranges"], "sizes with different names")
    shapes = [n for entry in (*signature.inputs, *signature.outputs) for n in entry.shape]
    texts = [n.text for n in shapes if isinstance(n, Size)]
    for text in (*data["conditions"], *texts, *sizes_returned(signature.output_structure)):
        try:
            unknown = free_names(text) - known if isinstance(text, str) else {"?"}
        except NPUError as error:
            _bad(file, "has a wrong expression", text, str(error))
        if unknown:
            _bad(file, "has an expression of other sizes", text, ", ".join(sorted(known)))
    rules = SizeRules(name, signature.inputs, ranges, data["conditions"])
    of_programs = []
    for program in programs:
        sizes = program.get("sizes")
        if not isinstance(sizes, Mapping):
            _bad(file, "is not given for a program", sizes, "sizes by name")
        try:
            rules.check(sizes)
        except NPUError as error:
            _bad(file, "are not right for a program", sizes, str(error))
        of_programs.append(dict(sizes))
    if not of_programs or len({tuple(sorted(sizes.items())) for sizes in of_programs}) != len(of_programs):
        _bad(file, "has no program, or two of one size", of_programs, "programs of different sizes")
    most = data.get("max_sizes")
    if type(most) is not int or not 1 <= most < _MOST:
        _bad(file, "has a wrong 'max_sizes'", most, "a number from 1")
    saved = [SavedSize(sizes) for sizes in of_programs]
    return OpenSizes(rules, _options(data.get("options"), file), most, saved, _buckets(data, rules, file))


def _buckets(data: Mapping[str, Any], rules: SizeRules, file: str) -> Buckets | None:
    if "buckets" not in data:
        return None
    try:
        return Buckets.from_dict(data["buckets"], rules)
    except NPUError as error:
        _bad(file, "has wrong buckets", data["buckets"], str(error))


def _range(entry: Any, file: str) -> SizeRange:
    def is_extent(value: Any) -> bool:
        return type(value) is int and 0 <= value < _MOST

    if not isinstance(entry, Mapping) or not is_name(entry.get("name")):
        _bad(file, "has a size without a name", entry, "an object with name, min and max")
    least: Any = entry.get("min")
    most: Any = entry.get("max")
    if not is_extent(least) or not (most is None or (is_extent(most) and most >= least)):
        _bad(file, "has a wrong range", entry, "min, and max, which is null or not less")
    return SizeRange(entry["name"], least, most)


def _options(options: Any, file: str) -> dict[str, Any]:
    valid = isinstance(options, Mapping) and set(options) == {"compute_dtype", "disable", "exact"}
    valid = valid and isinstance(options["exact"], bool) and isinstance(options["compute_dtype"], str | None)
    if not valid or not isinstance(options["disable"], list) or not all(isinstance(n, str) for n in options["disable"]):
        _bad(file, "has wrong options of the compiler", options, "compute_dtype, disable and exact")
    return dict(options)


def _bad(file: str, what: str, got: object, expected: str) -> NoReturn:
    refuse(file, f"'sizes' {what}", section="manifest", got=f"{got!r:.60}", expected=expected)
