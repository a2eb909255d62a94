"""The only place that turns a name into a class: entry points, through which built-ins and strangers register alike."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sparselm.damping.base import AbstractDamping
from sparselm.errors import PluginError, SparselmError
from sparselm.linear_solvers.base import AbstractLinearSolver
from sparselm.losses.base import AbstractLoss
from sparselm.manifolds.base import AbstractManifold
from sparselm.preconditioners.base import AbstractPreconditioner
from sparselm.residuals.base import AbstractResidual, UnboundResidual

#: The kinds of plug-in, by the last word of their entry-point group ``sparselm.<kind>``.
KINDS: Mapping[str, type] = {
    "residuals": AbstractResidual,
    "manifolds": AbstractManifold,
    "losses": AbstractLoss,
    "damping": AbstractDamping,
    "linear_solvers": AbstractLinearSolver,
    "preconditioners": AbstractPreconditioner,
}


def names(kind: str) -> list[str]:
    """Registered names of a kind, sorted."""
    return sorted({point.name for point in _points(kind)})


def distribution(kind: str, name: str) -> str:
    """The installed package that registers a name."""
    dist = _find(kind, name).dist
    return dist.name if dist is not None else "unknown"


def registered_name(kind: str, class_name: str) -> str:
    """The name under which a class is registered; the class's own name where it is not."""
    found = [point.name for point in _points(kind) if point.attr.rpartition(".")[2] == class_name]
    return min(found, default=class_name)


def load(kind: str, name: str) -> Any:
    """The class registered under a name, or the residual function."""
    point = _find(kind, name)
    try:
        loaded = point.load()
    except Exception as error:
        raise PluginError(f"{kind} plug-in {name!r} ({point.value}) cannot be loaded: {error}") from error
    is_function = kind == "residuals" and isinstance(loaded, UnboundResidual)
    if not (is_function or (isinstance(loaded, type) and issubclass(loaded, KINDS[kind]))):
        raise PluginError(f"{kind} plug-in {name!r} ({point.value}) is no subclass of {KINDS[kind].__name__}")
    return loaded


def create(kind: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
    """An instance of a registered class; options are fields of it, and a field that holds a plug-in may be given its name.

    Examples
    --------
    >>> create("preconditioners", "power-series", {"order": 2})
    PowerSeries(order=2)
    >>> create("linear_solvers", "schur-pcg", {"preconditioner": "block-jacobi"}).preconditioner
    BlockJacobi()
    """
    cls = load(kind, name)
    known = [field.name for field in dataclasses.fields(cls) if field.init] if dataclasses.is_dataclass(cls) else []
    for option in options or {}:
        if option not in known:
            raise PluginError(f"{name!r} has no option {option!r}; it has {', '.join(known) or 'none'}")
    try:
        return cls(**_checked(cls, name, options or {}))
    except SparselmError:
        raise
    except (TypeError, ValueError) as error:
        raise PluginError(f"{kind} plug-in {name!r} cannot be made with {dict(options or {})}: {error}") from error


def _checked(cls: type, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options whose kind is that of the field's default: a number for a number, a word for a word, a plug-in for one."""
    checked = dict(options)
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        default = field.default
        kind = _kind_of(field)
        if field.name in checked and kind is not None:
            checked[field.name] = _plug_in(kind, name, field.name, checked[field.name])
        if field.name not in checked or default is dataclasses.MISSING or default is None:
            continue
        value = checked[field.name]
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if isinstance(default, bool):
            fits = isinstance(value, bool)
        elif isinstance(default, int):
            fits = is_number and value == int(value)
        else:
            fits = is_number if isinstance(default, float) else isinstance(value, type(default))
        if not fits:
            words = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
            expected = words.get(type(default), type(default).__name__)
            raise PluginError(f"{name!r}: option {field.name} = {value!r}, expected {expected} such as {default!r}")
        if is_number and not isinstance(default, bool):
            checked[field.name] = type(default)(value)
    return checked


def _kind_of(field: dataclasses.Field[Any]) -> str | None:
    """The kind of plug-in that a field holds: that of the class which makes its default."""
    made_by = field.default_factory
    return next((k for k, base in KINDS.items() if isinstance(made_by, type) and issubclass(made_by, base)), None)


def _plug_in(kind: str, name: str, option: str, value: Any) -> Any:
    """An instance as it is, a name as an instance with its default options."""
    if isinstance(value, str):
        return create(kind, value)
    if not isinstance(value, KINDS[kind]):
        raise PluginError(f"{name!r}: option {option} = {value!r}, expected one of {', '.join(names(kind))}")
    return value


def parse_value(text: str) -> Any:
    """A command-line option's value: a Python literal where it reads as one, the text itself otherwise."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def parse_loss(text: str) -> AbstractLoss:
    """``name`` or ``name:number[:number…]``: the numbers fill the loss's fields in order.

    Examples
    --------
    >>> parse_loss("huber:1.5")
    Huber(scale=1.5)
    """
    name, *numbers = text.split(":")
    cls = load("losses", name)
    fields = [field.name for field in dataclasses.fields(cls) if field.init]
    required = [f.name for f in dataclasses.fields(cls) if f.init and f.default is dataclasses.MISSING]
    if len(numbers) < len(required):
        raise PluginError(
            f"loss {text!r} needs {len(required)} numbers ({', '.join(required)}), as in {name}" + ":1.0" * len(required)
        )
    if len(numbers) > len(fields):
        raise PluginError(f"loss {name!r} takes at most {len(fields)} numbers ({', '.join(fields)}), got {len(numbers)}")
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        raise PluginError(f"loss {text!r}: expected numbers after the name, as in 'huber:1.0'") from None
    loss: AbstractLoss = create("losses", name, dict(zip(fields, values, strict=False)))
    return loss


def _points(kind: str) -> list[EntryPoint]:
    if kind not in KINDS:
        raise PluginError(f"no plug-in kind {kind!r}; there are {', '.join(KINDS)}")
    return list(entry_points(group=f"sparselm.{kind}"))


def _find(kind: str, name: str) -> EntryPoint:
    for point in _points(kind):
        if point.name == name:
            return point
    raise PluginError(f"no {kind} plug-in {name!r}; installed are {', '.join(names(kind)) or 'none'}")
