"""Write contract.md, checks.md and ../reference/public-names.md: python docs/plugins/generate.py.

The pages follow the code: what ``ctnet.plugin`` and the other public modules hold, with their docstrings.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

from ctnet import plugin
from ctnet.testing import BACKBONE_CHECKS, TASK_CHECKS

FOLDER = Path(__file__).parent
NOTE = "<!-- Written by docs/plugins/generate.py; change the docstrings instead. -->"
#: The modules whose ``__all__`` is public, but for ``ctnet.plugin``, which has a page of its own.
PUBLIC = (
    "ctnet",
    "ctnet.checkpoint",
    "ctnet.analysis",
    "ctnet.backbones",
    "ctnet.heatmap",
    "ctnet.ops",
    "ctnet.testing",
)
_WIDTH = 100


def pages() -> dict[str, str]:
    """The generated pages by path from this folder."""
    return {
        "contract.md": contract_page(),
        "checks.md": checks_page(),
        "../reference/public-names.md": public_names_page(),
    }


def contract_page() -> str:
    """Everything in ``ctnet.plugin``, with signatures and docstrings."""
    oldest, newest = plugin.CONTRACTS
    lines = [NOTE, "", "# The contract", ""]
    lines += [f"Everything that a plugin may import, all of it from `ctnet.plugin`: contract {newest}"]
    lines[-1] += f" (this ctnet also keeps those from {oldest} on)." if oldest < newest else "."
    lines += ["Coordinates, strides and how the parts work together: [conventions.md](conventions.md).", ""]
    for section, modules in plugin.CONTENTS.items():
        links = [f"[`{name}`](#{name.lower()})" for names in modules.values() for name in names]
        lines.append(f"- **{section}**: {', '.join(links)}")
    for section, modules in plugin.CONTENTS.items():
        lines += ["", f"## {section}"]
        for module, names in modules.items():
            for name in names:
                lines += ["", f"### {name}", "", *described(name, module)]
    return "\n".join(lines) + "\n"


def described(name: str, module: str) -> Iterator[str]:
    """A public name: signature, documentation and, of a class, its public members."""
    value = getattr(plugin, name)
    if not is_documented(value):
        yield from (*code(assignment(name, module)), "", *markdown(comment(name, module)))
        return
    if inspect.isfunction(value) or is_constructed(value):
        yield from (*code(called(name, value)), "")
    yield from markdown(inspect.getdoc(value) or "")
    if inspect.isclass(value):
        own_making = inspect.isfunction(value.__init__) and not dataclasses.is_dataclass(value)
        if own_making and value.__init__.__module__.startswith("ctnet."):
            yield from ("", *markdown(inspect.getdoc(value.__init__) or ""))
        bases = [base.__name__ for base in value.__mro__[1:] if base.__name__ in plugin.__all__]
        if bases:
            yield from (
                "",
                f"Also has what {', '.join(f'[`{base}`](#{base.lower()})' for base in bases)} has.",
            )
        for member, owner in members(value):
            yield from ("", f"#### {name}.{member}", "", *described_member(owner, member))


def is_documented(value: Any) -> bool:
    """Whether it is a function or a class, and so has a docstring of its own."""
    return inspect.isfunction(value) or (inspect.isclass(value) and get_origin(value) is None)


def is_constructed(cls: type) -> bool:
    """Whether it says how one of it is made; protocols, and exceptions and modules as they are, do not."""
    if getattr(cls, "_is_protocol", False):
        return False
    own = getattr(cls.__init__, "__module__", "") or ""
    return dataclasses.is_dataclass(cls) or issubclass(cls, tuple) or own.startswith("ctnet.")


def members(cls: type) -> Iterator[tuple[str, type]]:
    """Public methods and properties of a class and of its private bases, in the order of the file.

    What it shares with a base that is public itself is described there, unless it has another docstring.
    """
    seen: set[str] = set()
    for owner in cls.__mro__:
        elsewhere = owner is not cls and owner.__name__ in plugin.__all__
        if elsewhere or not owner.__module__.startswith("ctnet."):
            continue
        for name, member in vars(owner).items():
            kinds = (property, classmethod, staticmethod)
            wanted = not name.startswith("_") or (name == "__getitem__" and member.__doc__)
            known = name in seen or (not member.__doc__ and overrides(owner, name))
            if wanted and not known and (inspect.isfunction(member) or isinstance(member, kinds)):
                seen.add(name)
                yield name, owner


def overrides(owner: type, name: str) -> bool:
    """Whether a base has a member of this name too."""
    return any(hasattr(base, name) for base in owner.__mro__[1:])


def described_member(owner: type, name: str) -> Iterator[str]:
    """A method or property, marked where a subclass must give it."""
    member = inspect.getattr_static(owner, name)
    function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    if isinstance(member, property):
        yield from code(f"{name}: {returned(function)}")
    else:
        kind = {classmethod: "classmethod ", staticmethod: "staticmethod "}.get(type(member), "")
        yield from code(f"{kind}{called(name, function)}")
    yield ""
    if getattr(member, "__isabstractmethod__", False):
        yield from ("A subclass must give it.", "")
    yield from markdown(inspect.getdoc(function) or "")


def called(name: str, value: Any) -> str:
    """A function or class with its parameters, one per line where they need more than one."""
    signature = inspect.signature(value)
    given = [
        parameter for parameter in signature.parameters.values() if parameter.name not in ("self", "cls")
    ]
    parts = []
    for number, parameter in enumerate(given):
        if parameter.kind is parameter.KEYWORD_ONLY and (not number or parts[-1][0] != "*"):
            parts.append("*")
        parts.append(written(parameter))
    back = f" -> {returned(value)}" if inspect.isfunction(value) else ""
    whole = f"{name}({', '.join(parts)}){back}"
    if len(whole) <= _WIDTH:
        return whole
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){back}"])


def written(parameter: inspect.Parameter) -> str:
    """A parameter as in the source."""
    star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = star + parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {type_name(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        default = parameter.default
        plain = default is None or isinstance(default, (bool, int, float, str, tuple))
        text += f" = {default!r}" if plain else " = ..."
    return text


def returned(function: Any) -> str:
    return type_name(inspect.signature(function).return_annotation)


def type_name(annotation: Any) -> str:
    """An annotation as in the source."""
    if isinstance(annotation, str):
        return annotation
    return getattr(annotation, "__forward_arg__", None) or getattr(annotation, "__name__", str(annotation))


def source_of(name: str, module: str) -> tuple[list[str], int]:
    """The lines of the module that assigns a name, and the number of that line."""
    lines = inspect.getsource(importlib.import_module(module)).splitlines()
    return lines, next(i for i, line in enumerate(lines) if re.match(rf"{name}(:.*)? = ", line))


def assignment(name: str, module: str) -> str:
    """A constant's definition, cut where it goes on."""
    lines, number = source_of(name, module)
    line = lines[number]
    if line.endswith(" = ("):  # parentheses around three dots say nothing, and ruff takes them away
        return f"{line[:-1]}..."
    return (
        line
        if not line.endswith(("(", "[", "{"))
        else f"{line}...{ {'(': ')', '[': ']', '{': '}'}[line[-1]] }"
    )


def comment(name: str, module: str) -> str:
    """The ``#:`` lines above a constant."""
    lines, number = source_of(name, module)
    found: list[str] = []
    while lines[number - 1].startswith("#: "):
        number -= 1
        found.insert(0, lines[number].removeprefix("#: "))
    return "\n".join(found)


def code(text: str) -> tuple[str, ...]:
    return ("```python", *text.splitlines(), "```")


def markdown(docstring: str) -> Iterator[str]:
    """A docstring's lines as Markdown: sections become bold words, their entries bullets."""
    for line in docstring.replace("``", "`").splitlines():
        section = re.fullmatch(r"(Args|Attributes|Returns|Raises|Source):", line)
        entry = re.fullmatch(r"    (\w[\w, ]*): (.*)", line)
        source = re.fullmatch(r"Source: (.+)", line)
        if section:
            yield f"**{section[1]}**"
            yield ""
        elif entry:
            yield f"- `{entry[1]}`: {entry[2]}"
        elif source:
            yield f"*Source: {source[1]}*"
        else:
            yield re.sub(r"^ {6,}", "  ", line) if line.startswith("      ") else line.strip()


def checks_page() -> str:
    """Every check with what it wants."""
    lines = [NOTE, "", "# The checks of the conformance kit"]
    for what, command, checks in (
        ("task", "tasks", TASK_CHECKS),
        ("backbone", "backbones", BACKBONE_CHECKS),
    ):
        lines += ["", f"## Of a {what}: `ctnet {command} check NAME`", ""]
        lines += ["| check | part of the contract | what the contract wants |", "|---|---|---|"]
        lines += [f"| `{check.name}` | {check.member} | {check.wants} |" for check in checks]
    return "\n".join(lines) + "\n"


def public_names_page() -> str:
    """Every public name of the library, with the first line of its docstring."""
    lines = [NOTE, "", "# Public names", "", "What is not on this page may move between versions."]
    for module in PUBLIC:
        loaded = importlib.import_module(module)
        lines += [
            "",
            f"## {module}",
            "",
            (loaded.__doc__ or "").partition("\n")[0],
            "",
            "| name | |",
            "|---|---|",
        ]
        lines += [f"| `{name}` | {first_line(getattr(loaded, name))} |" for name in sorted(loaded.__all__)]
    lines += ["", "## ctnet.plugin", "", first_line(plugin)]
    lines += ["Signatures and documentation: [contract.md](../plugins/contract.md).", ""]
    for section, modules in plugin.CONTENTS.items():
        names = sorted(name for part in modules.values() for name in part)
        lines.append(f"- {section}: {', '.join(f'`{name}`' for name in names)}")
    lines.append("- `CONTRACTS`: the oldest and the newest version of the contract that this ctnet keeps")
    return "\n".join(lines) + "\n"


def first_line(value: Any) -> str:
    """Of a docstring; plain values have none of their own."""
    documented = inspect.ismodule(value) or is_documented(value)
    return (value.__doc__ or "").strip().partition("\n")[0].replace("``", "`") if documented else ""


if __name__ == "__main__":
    for name, text in pages().items():
        path = FOLDER / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
