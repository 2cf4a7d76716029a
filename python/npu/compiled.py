"""``npu.compile``: a module, compiled for a device."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import npu_compiler
import torch
from npu_base.argument_types import DynamicShapes, ExampleInputs
from npu_base.errors import InternalError, InvalidValueError, format_error
from npu_base.sizes import as_int
from npu_base.tensors import plain_tensors
from npu_compiler.refusals import HOST_ADVICE
from npu_runtime import Device, Executor, Program, Weights, load_weights
from npu_runtime.device import AnyDevice
from npu_runtime.shared_weights import SharedWeights
from torch import Tensor, nn
from torch_ir import IR, extract_ir, serialize_ir
from torch_ir._encoding import encode_attr
from torch_ir.open_shapes import leaf_specs
from torch_ir.specialization import rules_of

from npu.bucket_runner import open_runner
from npu.buckets import Buckets, check_no_buckets
from npu.compiled_module import CompiledModule
from npu.host_parts import FALLBACKS, Compile, make_parts, say_what_runs_on_the_host, whole_program
from npu.open_sizes import MOST_SIZES, SizedRunner, check_state
from npu.options import checked_threads, opened
from npu.padding.option import proven_buckets
from npu.partitioned import PartitionRunner
from npu.result_classes import as_traced
from npu.runners import ProgramRunner, Runner
from npu.saving.model import Model
from npu.saving.signature import Signature, make_signature, user_names
from npu.saving.sizes import OpenSizes, SavedSize
from npu.saving.structure import Classes

__all__ = ["CompiledModule", "compile"]

_CONSTANTS = (bool, int, float, complex, str, type(None), torch.dtype, torch.device)


def _loaded(program: npu_compiler.CompiledProgram) -> Program:
    try:
        return Program.load(program)
    except InvalidValueError as error:
        if not str(error).startswith("[program]"):
            raise
        raise InternalError(
            f"{error}; the compiler has just produced this program, so this is a bug: please report it"
        ) from error


def _device_of(module: nn.Module) -> str | None:
    """The device that holds the module's memory, if it is one of ours: "cuda:1"."""
    first = next(iter((*module.parameters(), *module.buffers())), None)
    return str(first.device) if first is not None and first.is_cuda else None


def compile(
    module: nn.Module,
    example_inputs: ExampleInputs,
    example_kwargs: dict[str, Any] | None = None,
    *,
    device: AnyDevice | None = None,
    threads: int = 0,
    compute_dtype: str | torch.dtype | None = None,
    disable: str | Iterable[str] = (),
    exact: bool = False,
    fallback: str = "host",
    output_names: Sequence[str] | None = None,
    dynamic_shapes: DynamicShapes = None,
    max_sizes: int = MOST_SIZES,
    buckets: Mapping[str, Iterable[int]] | None = None,
    pad: Mapping[str, float] | None = None,
) -> CompiledModule:
    """Extract and compile ``module``, and plan it for ``device`` (by default the GPU that a module in CUDA memory is
    on, else the best one available).

    ``example_inputs`` is a tensor, a tuple of positional arguments or a dict of keyword arguments; they fix shapes and
    dtypes. The results are those of the module's code as written: if eager PyTorch would run a fused kernel instead
    (``nn.TransformerEncoder`` with a padding mask), padded rows contain computed values, not zeros. ``compute_dtype``
    runs a float32 model in half precision. ``disable`` names compiler passes to skip. ``exact`` rounds after every op,
    as eager PyTorch does. What the device cannot run, PyTorch runs on the host, and a ``HostWarning`` says so;
    ``fallback="error"`` forbids it. ``output_names`` names the tensors that it returns, in order; by default, keys and
    fields of what the module returns are their names, or ``output``, or ``output_0`` and so on.

    ``dynamic_shapes`` leaves sizes open, as ``torch.export.export`` takes it: ``{"x": {0: torch.export.Dim("batch",
    min=1, max=64)}}``. The program of another size is made at the first call with it and kept, for the ``max_sizes``
    sizes that were used last. ``buckets={"length": [32, 64, 128]}`` pads a call to the next of these lengths and cuts
    its results back, if that is proven to keep them; ``pad`` says what inputs are padded with where it is not 0.

    Raises:
        TorchIRError: PyTorch cannot trace the module, or its graph has no IR.
        CompileError: a node has no lowering and ``fallback`` is "error".
        InvalidValueError: an option is wrong, or padding to ``buckets`` is not proven to keep the results.
        UnavailableError: ``device`` is not on this machine.
    """
    max_sizes, threads = as_int(max_sizes), checked_threads(threads)
    _check_options(fallback, max_sizes)
    target = _target(device, module)
    ir = extract_ir(module, example_inputs, example_kwargs, output_names=output_names, dynamic_shapes=dynamic_shapes)
    ir.output_names = list(user_names(ir))
    dtype = str(compute_dtype).removeprefix("torch.") if compute_dtype is not None else None
    # A list, because each part and each size reads it.
    names = list(disable) if isinstance(disable, Iterable) and not isinstance(disable, str) else disable
    names = [names] if isinstance(names, str) else names
    options: dict[str, Any] = {"compute_dtype": dtype, "disable": names, "exact": exact}
    compile_ir = partial(npu_compiler.compile, **options)
    if ir.sizes:
        leaves = (leaf for _, leaf, _ in leaf_specs(module, example_inputs, example_kwargs, dynamic_shapes))
        first = rules_of(ir).sizes_of([leaf.shape for leaf in leaves if isinstance(leaf, Tensor)])
        signature = make_signature(ir, *_parameters(module))
        padding = proven_buckets(ir, signature.inputs, buckets, pad, dtype, module)
        return _of_open_sizes(
            module, ir, signature, target, threads, compile_ir, fallback, options, first, max_sizes, padding
        )
    check_no_buckets(buckets, pad)
    if max_sizes != MOST_SIZES:
        what, action = "max_sizes is for models with open sizes", "dynamic_shapes= with it"
        raise InvalidValueError(format_error("npu", what, got=str(max_sizes), action=action))
    program = _whole_program(ir, compile_ir, fallback)
    if program is None:
        return _on_host_too(module, ir, target, threads, compile_ir)
    executor = Executor(_loaded(program), target, threads=threads)
    read = {spec.name for spec in program.weight_specs} | {s.name for s in executor.program.inputs if s.state}
    weights = load_weights(_tensors(module, read), executor.program, target)
    return whole_module(ir, program, executor, weights, make_signature(ir, *_parameters(module)), threads)


def _whole_program(ir: IR, compile_ir: Compile, fallback: str) -> npu_compiler.CompiledProgram | None:
    try:
        return whole_program(ir, compile_ir, fallback)
    except npu_compiler.CompileError as error:
        if type(error) is not npu_compiler.CompileError:
            raise  # the host could not run it either
        advice = "fallback='host' (or --fallback host) runs such nodes on the host, and the rest on the device"
        raise npu_compiler.CompileError(str(error).replace(HOST_ADVICE, advice)) from error


def _check_options(fallback: str, max_sizes: int) -> None:
    if not isinstance(fallback, str) or fallback not in FALLBACKS:
        raise InvalidValueError(
            format_error("npu", "fallback has a wrong value", got=f"{fallback!r:.60}", expected="'host' or 'error'")
        )
    if type(max_sizes) is not int or max_sizes < 1:
        got = f"{max_sizes!r:.60}"
        raise InvalidValueError(
            format_error("npu", "max_sizes has a wrong value", got=got, expected="a whole number from 1")
        )


def whole_module(
    ir: IR,
    program: npu_compiler.CompiledProgram,
    executor: Executor,
    weights: Weights,
    signature: Signature,
    threads: int = 0,
) -> CompiledModule:
    """The callable for an IR that was compiled to one program."""
    model = Model(
        signature, lambda: [program.to_bytes()], weights, lambda: serialize_ir(ir).encode(), program.model_name
    )
    return _module_of(model, ProgramRunner(executor, weights, signature, program), ir, threads)


def _module_of(model: Model, runner: Runner, ir: IR, threads: int) -> CompiledModule:
    """The callable around a runner, whose results have the classes of the trace."""
    structure = model.signature.output_structure
    exact = structure is not None and ir.output_spec is not None
    make = as_traced(structure, ir.output_spec) if exact else Classes((), structure).make
    return CompiledModule(model, runner, make, ir=ir, threads=threads, traced=True)


def _of_open_sizes(
    module: nn.Module,
    ir: IR,
    signature: Signature,
    device: Device,
    threads: int,
    compile_ir: Compile,
    fallback: str,
    options: dict[str, Any],
    first: dict[str, int],
    most: int,
    buckets: Buckets | None,
) -> CompiledModule:
    check_state(ir)
    said: list[Any] = []  # the plan of which the notice has been given

    def make(sizes: dict[str, int], weights: SharedWeights) -> SizedRunner:
        fixed = ir.specialize(**sizes)
        program = _whole_program(fixed, compile_ir, fallback)
        if program is None:
            parts, program_of = make_parts(fixed.to_dict(), compile_ir)
            runner: Runner = PartitionRunner(parts.plan, weights, signature, device, threads, program_of)
            if not said:
                said.append(parts.plan)
                say_what_runs_on_the_host(parts.plan)
            return runner, lambda: SavedSize(sizes, parts=parts)
        loaded = _loaded(program)
        weights.on_device.check(loaded)
        executor = Executor(loaded, device, threads=threads)
        runner = ProgramRunner(executor, weights.on_device, signature, program)
        return runner, lambda: SavedSize(sizes, program.to_bytes())

    written = {m.target for m in ir.mutations if m.kind != "input"}  # also those that are constants at first
    weights = SharedWeights.of(_tensors(module, (ir.weights_read() - set(ir.constants)) | written))
    rules = rules_of(ir)
    first = first if buckets is None else buckets.target(rules, first)
    runner = open_runner(buckets, signature, rules, make, weights, first, most, options["compute_dtype"])
    open_sizes = OpenSizes(runner.rules, options, most, buckets=buckets)
    model = Model(signature, list, None, lambda: serialize_ir(ir).encode(), ir.model_name, None, open_sizes)
    return _module_of(model, runner, ir, threads)


def _parameters(module: nn.Module) -> tuple[list[str], dict[str, Any]]:
    """The names of the parameters of ``forward`` that may be given by position, and constants that are defaults."""
    parameters = inspect.signature(module.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    defaults = {p.name: encode_attr(p.default, p.name) for p in parameters if type(p.default) in _CONSTANTS}
    return names, defaults


def _on_host_too(module: nn.Module, ir: IR, device: Device, threads: int, compile_ir: Compile) -> CompiledModule:
    parts, program_of = make_parts(ir.to_dict(), compile_ir)
    tensors = _tensors(module, {meta.name for meta in ir.weights} - set(ir.constants))
    signature = make_signature(ir, *_parameters(module))
    runner = PartitionRunner(parts.plan, tensors, signature, device, threads, program_of)
    model = Model(
        signature,
        lambda: [program.to_bytes() for program in parts.programs.values()],
        None,
        lambda: serialize_ir(ir).encode(),
        ir.model_name,
        parts,
    )
    say_what_runs_on_the_host(parts.plan)
    return _module_of(model, runner, ir, threads)


def _target(device: AnyDevice | None, module: nn.Module) -> Device:
    return opened(_device_of(module) if device is None and isinstance(module, nn.Module) else device)


def _tensors(module: nn.Module, names: set[str]) -> dict[str, Tensor]:
    """The module's tensors of these names."""
    state = plain_tensors({**dict(module.named_buffers()), **module.state_dict()})
    tensors = {name: tensor.detach() for name, tensor in state.items() if name in names}
    sparse = next((name for name, tensor in tensors.items() if tensor.layout != torch.strided), None)
    if sparse is not None:
        what, got = f"the module's '{sparse}' is not a dense tensor", f"the layout {tensors[sparse].layout}"
        raise InvalidValueError(format_error("npu", what, got=got, action="x.to_dense()"))
    on_meta = [name for name, tensor in tensors.items() if tensor.is_meta]
    if on_meta:
        raise InvalidValueError(
            f"[npu] the module has no weights; got {len(on_meta)} tensors on the meta device, '{on_meta[0]}' first; "
            f"expected a module with values; try torch_ir.extract_ir, npu_compiler.compile and npu_runtime.load_weights"
        )
    return tensors
