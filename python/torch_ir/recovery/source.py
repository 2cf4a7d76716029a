"""Analyses the source of constructors, without running them."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from torch import nn


@functools.cache
def names_set_on_others(cls: type) -> frozenset[str] | None:
    """Attributes that code of the class may set on objects other than ``self``. None if its source is not available."""
    names: set[str] = set()
    for base in cls.__mro__:
        if base in (nn.Module, object) or base.__module__.startswith("torch.nn."):
            continue
        tree = tree_of(base)
        if tree is None:
            return None
        for node in ast.walk(tree):
            names |= _set_on_others(node)
    return frozenset(names)


@functools.cache
def setters_of(cls: type, attribute: str) -> frozenset[str]:
    """Methods that may set ``self.attribute`` after the constructor, directly or through each other."""
    methods = _methods_of(cls)
    setters = {name for name, tree in methods.items() if any(_sets_own(node, attribute) for node in ast.walk(tree))}
    while more := {n for n, tree in methods.items() if n not in setters and _calls(tree, on_self=True) & setters}:
        setters |= more
    again = _reached("reset_parameters", methods) if ends_with_reset(cls) else set()  # it sets the same value again
    return frozenset(setters - again - {"__init__"})


@functools.cache
def called_on_others(cls: type) -> frozenset[str]:
    """Methods of other objects that the constructor calls, directly or through methods of ``self``."""
    methods = _methods_of(cls)
    constructors = [m for base in cls.__mro__ if (m := _methods_of(base).get("__init__")) is not None]
    reached = {name for tree in constructors for own in _calls(tree, on_self=True) for name in _reached(own, methods)}
    trees = [*constructors, *(methods[name] for name in reached)]
    return frozenset(name for tree in trees for name in _calls(tree, on_self=False))


def _methods_of(cls: type) -> dict[str, ast.AST]:
    """Methods by name, as an object of the class has them."""
    methods: dict[str, ast.AST] = {}
    for base in cls.__mro__:
        tree = None if base in (nn.Module, object) else tree_of(base)
        body = tree.body if isinstance(tree, ast.Module) else []
        for node in body[0].body if body and isinstance(body[0], ast.ClassDef) else ():
            if isinstance(node, ast.FunctionDef):
                methods.setdefault(node.name, node)
    return methods


def _reached(start: str, methods: dict[str, ast.AST]) -> set[str]:
    """The method, the methods that it calls on ``self``, and so on."""
    reached: set[str] = set()
    waiting = {start}
    while waiting := (waiting & methods.keys()) - reached:
        reached |= waiting
        waiting = {name for own in waiting for name in _calls(methods[own], on_self=True)}
    return reached


def _calls(tree: ast.AST, on_self: bool) -> set[str]:
    calls = (n.func for n in ast.walk(tree) if isinstance(n, ast.Call))
    return {f.attr for f in calls if isinstance(f, ast.Attribute) and is_on_self(f) == on_self}


def _sets_own(node: ast.AST, attribute: str) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr == attribute and isinstance(node.ctx, ast.Store) and is_on_self(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "register_buffer":
        return any(isinstance(a, ast.Constant) and a.value == attribute for a in node.args)
    return False


def only_set_in(cls: type, function: ast.FunctionDef, attribute: str) -> bool:
    """Whether no other method of the class sets ``self.attribute``."""
    trees = [tree_of(base) for base in cls.__mro__ if base not in (nn.Module, object)]
    if any(tree is None for tree in trees):
        return False
    everywhere = sum(_count_set(tree, attribute) for tree in trees if tree is not None)
    return everywhere == _count_set(function, attribute)


def _count_set(tree: ast.AST, attribute: str) -> int:
    return sum(
        isinstance(n, ast.Attribute) and n.attr == attribute and isinstance(n.ctx, ast.Store) and is_on_self(n)
        for n in ast.walk(tree)
    )


def ends_with_reset(cls: type) -> bool:
    """Whether the constructor ends with ``self.reset_parameters()``."""
    definer = definer_of(cls)
    function = constructor_of(definer)
    if function is None or not function.body:
        return False
    last = function.body[-1]
    if not (isinstance(last, ast.Expr) and isinstance(last.value, ast.Call)):
        return False
    called = last.value.func
    if isinstance(called, ast.Attribute) and called.attr == "reset_parameters":
        return isinstance(called.value, ast.Name) and called.value.id == "self"
    base = _base(definer)
    return _is_super_init(last.value) and base is not None and ends_with_reset(base)


def text_compared(cls: type) -> list[str]:
    """Strings that the source of a class compares with: possible values of options."""
    texts: dict[str, None] = {}
    for base in cls.__mro__:
        tree = None if base in (nn.Module, object) else tree_of(base)
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.Compare):
                for leaf in ast.walk(node):
                    if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str):
                        texts[leaf.value] = None
    return list(texts)


def parameters_of(cls: type) -> list[inspect.Parameter]:
    return list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]


@functools.cache
def stored_under(definer: type, name: str) -> str | None:
    """The attribute that stores the argument unmodified, if the code assigns neither of them again."""
    function = constructor_of(definer)
    if function is None or _is_stored(function, name):
        return None
    stored: dict[str, list[bool]] = {}
    for target, value in assignments(function):
        for leaf in ast.walk(target):
            if isinstance(leaf, ast.Attribute) and isinstance(leaf.ctx, ast.Store):
                plain = leaf is target and isinstance(value, ast.Name) and value.id == name and is_on_self(leaf)
                stored.setdefault(leaf.attr, []).append(plain)
    unaltered = [attribute for attribute, stores in stored.items() if all(stores)]
    if unaltered:
        return name if name in unaltered else unaltered[0]
    base = _base(definer)
    passed = None if base is None or name in stored else _passed_on(function, base, name)
    attribute = stored_under(base, passed) if base is not None and passed is not None else None
    return None if attribute in stored else attribute


def _passed_on(function: ast.FunctionDef, base: type, name: str) -> str | None:
    """The parameter of the base's constructor to which the argument is passed unmodified."""
    calls = [n for n in ast.walk(function) if isinstance(n, ast.Call) and _is_super_init(n)]
    if len(calls) != 1 or any(isinstance(a, ast.Starred) for a in calls[0].args):
        return None
    for keyword in calls[0].keywords:
        if isinstance(keyword.value, ast.Name) and keyword.value.id == name:
            return keyword.arg
    parameters = parameters_of(base)
    for parameter, argument in zip(parameters, calls[0].args, strict=False):
        if isinstance(argument, ast.Name) and argument.id == name and parameter.kind != parameter.VAR_POSITIONAL:
            return parameter.name
    return None


def definer_of(cls: type) -> type:
    return next(base for base in cls.__mro__ if "__init__" in vars(base))


def _base(definer: type) -> type | None:
    """The class whose constructor ``super().__init__`` calls, for an object of exactly this class."""
    return next((b for b in definer.__mro__[1:] if "__init__" in vars(b) and b not in (nn.Module, object)), None)


@functools.cache
def tree_of(source: Any) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(source)))
    except (OSError, TypeError, SyntaxError):
        return None


def constructor_of(definer: type) -> ast.FunctionDef | None:
    tree = tree_of(vars(definer)["__init__"])
    body = tree.body if isinstance(tree, ast.Module) else []
    return body[0] if body and isinstance(body[0], ast.FunctionDef) else None


def _is_super_init(call: ast.Call) -> bool:
    func = call.func
    return (
        isinstance(func, ast.Attribute)
        and func.attr == "__init__"
        and isinstance(func.value, ast.Call)
        and isinstance(func.value.func, ast.Name)
        and func.value.func.id == "super"
    )


def is_on_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def _is_stored(tree: ast.AST, name: str) -> bool:
    return any(isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store) for n in ast.walk(tree))


def _set_on_others(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Attribute):
        return {node.attr} if isinstance(node.ctx, ast.Store) and not is_on_self(node) else set()
    if isinstance(node, ast.Call):
        func = node.func
        by_name = isinstance(func, ast.Name) and func.id in ("setattr", "delattr")
        if by_name or (isinstance(func, ast.Attribute) and func.attr == "register_buffer" and not is_on_self(func)):
            return {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return set()


def assignments(tree: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Every assigned target with its value, or None if it is not a plain ``target = value``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                if len(names) == len(values):
                    yield from zip(names, values, strict=True)
                else:
                    yield target, None
        elif isinstance(node, ast.AnnAssign):
            yield node.target, node.value
        elif isinstance(node, (ast.AugAssign, ast.NamedExpr, ast.For)):
            yield node.target, None
