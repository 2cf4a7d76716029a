"""Finds the arguments of a module's constructor in the source code that calls it."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from .rebuilding import is_plain
from .source import assignments, constructor_of, definer_of, is_on_self, only_set_in, parameters_of
from .stored import PLACEMENT, UnknownError, holds_tensors, stored_argument


def call_site(model: nn.Module, path: str, module: nn.Module) -> dict[str, Any] | None:
    """The arguments with which the constructor of the surrounding module calls the module's class.

    ``UnknownError`` stands for arguments that the code does not determine, or that differ among possible calls.
    """
    parts = path.split(".") if path else []
    for depth in range(len(parts) - 1, -1, -1):
        around = model.get_submodule(".".join(parts[:depth]))
        if not type(around).__module__.startswith("torch.nn."):
            return _merged(_sites(around, parts[depth], module))
    return None


def _sites(around: nn.Module, name: str, module: nn.Module) -> list[dict[str, Any]]:
    function = constructor_of(definer_of(type(around)))
    if function is None or not only_set_in(type(around), function, name):
        return []
    scope = _Scope(function, around)
    # If the code assigns the result, `self.name = Class(...)`, only that call counts.
    assigned = {id(v): t.attr for t, v in assignments(function) if isinstance(t, ast.Attribute) and v is not None}
    sites: list[tuple[str | None, dict[str, Any]]] = []
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            arguments = scope.arguments(node, type(module))
            if arguments is not None:
                sites.append((assigned.get(id(node)), arguments))
    own = [arguments for target, arguments in sites if target == name]
    return own or [arguments for target, arguments in sites if target is None]


def _merged(sites: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not sites:
        return None
    first, *others = sites
    names = {name for site in sites for name in site}
    return {
        n: first[n] if n in first and all(_same(first[n], o.get(n)) for o in others) else UnknownError for n in names
    }


def _same(a: Any, b: Any) -> bool:
    return a is b or (is_plain(a) and is_plain(b) and type(a) is type(b) and a == b)


class _Scope:
    """The values of names in a constructor that has run."""

    def __init__(self, function: ast.FunctionDef, module: nn.Module) -> None:
        self.function, self.module = function, module
        init = inspect.unwrap(definer_of(type(module)).__init__)  # type: ignore[misc]
        self.globals: dict[str, Any] = getattr(init, "__globals__", {})
        cells = zip(init.__code__.co_freevars, init.__closure__ or (), strict=True) if hasattr(init, "__code__") else ()
        self.closure = {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}
        signature = function.args
        self.parameters = {a.arg for a in (*signature.posonlyargs, *signature.args, *signature.kwonlyargs)} - {"self"}
        self.others = {a.arg for a in (signature.vararg, signature.kwarg) if a is not None}
        self.local: dict[str, list[ast.expr | None]] = {}
        plain = {id(t): v for t, v in assignments(function) if isinstance(t, ast.Name)}
        for node in ast.walk(function):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.local.setdefault(node.id, []).append(plain.get(id(node)))

    def arguments(self, node: ast.Call, cls: type) -> dict[str, Any] | None:
        """The arguments by parameter, if this calls the class or a ``functools.partial`` of it."""
        try:
            target = self.value(node.func)
        except UnknownError:
            return None
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        while isinstance(target, functools.partial):
            positional, keywords, target = [*target.args, *positional], {**target.keywords, **keywords}, target.func
        if target is not cls:
            return None
        positional += [UnknownError if isinstance(a, ast.Starred) else self._or_unknown(a) for a in node.args]
        starred = any(isinstance(a, ast.Starred) for a in node.args)
        for keyword in node.keywords:
            if keyword.arg is not None:
                keywords[keyword.arg] = self._or_unknown(keyword.value)
                continue
            spread = self._or_unknown(keyword.value)
            if not isinstance(spread, dict):
                starred = True
            else:
                keywords.update(spread)
        try:
            bound = inspect.signature(cls.__init__).bind_partial(None, *positional, **keywords).arguments
        except TypeError:
            return None
        names = [p.name for p in parameters_of(cls)]
        return {n: bound.get(n, UnknownError) for n in names} if starred else {n: bound[n] for n in names if n in bound}

    def _or_unknown(self, node: ast.expr) -> Any:
        try:
            return self.value(node)
        except UnknownError:
            return UnknownError

    def value(self, node: ast.expr, depth: int = 0) -> Any:
        known: dict[str, Any] = {}
        tree = _Names(lambda inner: self._look_up(inner, depth), known).visit(ast.parse(ast.unparse(node), mode="eval"))
        try:
            value = eval(compile(ast.fix_missing_locations(tree), "<call>", "eval"), {**known, "__builtins__": {}})
        except UnknownError:
            raise
        except Exception as error:
            raise UnknownError(ast.unparse(node)) from error
        if holds_tensors(value):
            raise UnknownError(ast.unparse(node))
        return value

    def _look_up(self, node: ast.Name | ast.Attribute, depth: int) -> Any:
        if depth > 8:
            raise UnknownError(ast.unparse(node))
        if isinstance(node, ast.Attribute):
            value = vars(self.module).get(node.attr, UnknownError)
            if value is UnknownError or holds_tensors(value):
                raise UnknownError(node.attr)
            return value
        name = node.id
        if name in self.others or name == "self":
            raise UnknownError(name)
        if name in self.parameters:
            if name in self.local:
                raise UnknownError(name)
            return None if name in PLACEMENT else stored_argument(self.module, name)
        if name in self.local:
            values = self.local[name]
            if len(values) != 1 or values[0] is None:
                raise UnknownError(name)
            return self.value(values[0], depth + 1)
        for names in (self.closure, self.globals, vars(builtins)):
            if name in names:
                return names[name]
        raise UnknownError(name)


class _Names(ast.NodeTransformer):
    """Replaces names and attributes of ``self`` by variables with their values."""

    def __init__(self, look_up: Callable[[Any], Any], values: dict[str, Any]) -> None:
        self.look_up, self.values = look_up, values

    def _put(self, node: ast.Name | ast.Attribute) -> ast.Name:
        name = f"value_{len(self.values)}"
        self.values[name] = self.look_up(node)
        return ast.Name(name, ast.Load())

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return self._put(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return self._put(node) if is_on_self(node) else self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.NamedExpr)):
            raise UnknownError(type(node).__name__)
        return super().generic_visit(node)


def _is_filled(cell: Any) -> bool:
    try:
        return bool(cell.cell_contents is not None)
    except ValueError:
        return False
