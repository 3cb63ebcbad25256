"""The components, layers and imports (arrows) of ctnet, and whether every import points down.

    python docs/architecture.py [--root CHECKOUT] [--svg FILE]

A component is the first part of a module's name below ``ctnet`` (``ctnet.data.coco`` is in ``data``), or a
plugin's package. Every import counts, wherever it stands: in a function, under TYPE_CHECKING, relative, named
in an annotation, given to import_module or __import__, listed in the table of a module that loads lazily.
Exits with 1 if a rule is broken. Needs only the standard library, and imports nothing that it examines.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard, TypeVar
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]

#: Component -> what is in it, lowest layer first: a component may import those before it in this list.
LAYERS = {
    "base": "what any program needs: errors, files, progress, plugins, devices; imports nothing else",
    "heatmap": "the paper's mathematics: Gaussians, losses, peaks; imports nothing else",
    "ops": "operators that know nothing of detection: deformable convolution, Winograd, NMS, overlaps",
    "core": "the contract: records, geometry, targets, heads, task, evaluator, recipe, options",
    "backbones": "from images to features",
    "model": "a backbone and its heads",
    "checkpoint": "the one file format, and the authors' released checkpoints",
    "data": "data sets, augmentation, batches, synthetic scenes",
    "evaluation": "evaluators: detections and ground truth in, figures out; knows no detector",
    "report": "drawing and tables",
    "convert": "other formats of data sets, to COCO JSON and back",
    "inference": "the detector: preprocessing, test-time augmentation, decoding, sources",
    "export": "detectors as files for other runtimes, compared with their run",
    "measuring": "a detector, a results file or stored maps over a data set; the round trip on real data",
    "budget": "a backbone and an input size for a time per image, by measured building blocks",
    "serve": "a detector as an HTTP service",
    "training": "the loop, schedules, run folders, the demo",
    "audit": "likely label errors of a data set, and decisions about them",
    "analysis": "the paper's studies",
    "plugin": "all that a plugin may import",
    "tasks": "the built-in task; every plugin's package is in this layer",
    "testing": "the conformance kit for tasks and backbones",
    "doctor": "what this machine can do, and whether its fast paths are right",
    "new_task": "a new plugin from the template",
    "ctnet": "the public names, loaded on first use",
    "cli": "one module per command: parse, call, print",
    "__main__": "`python -m ctnet`",
}
#: Components that may import only the listed components of ctnet, or none.
ONLY: dict[str, set[str]] = {
    "base": set(),
    "heatmap": set(),
    "ops": {"base"},
    "core": {"base", "heatmap", "ops"},
}
PLUGIN = "ctnet_tasks_"
PLUGIN_LAYER = "tasks"
#: The component of the template's files, which are a plugin's.
TEMPLATE = f"{PLUGIN}TEMPLATE"
Node = TypeVar("Node", bound=Hashable)


@dataclass(frozen=True, order=True)
class Import:
    """One place where a module of ours knows another."""

    source: str
    line: int
    target: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


@dataclass
class Tree:
    """All modules of a checkout by name, their imports of each other, and those of the template's tests."""

    modules: dict[str, Path]
    imports: list[Import]
    imports_of_tests: list[Import]

    def components(self) -> Counter[str]:
        """Component -> number of its modules."""
        return Counter(map(component_of, self.modules))

    def arrows(self) -> Counter[tuple[str, str]]:
        """(component, component that it imports) -> number of places."""
        pairs = ((component_of(each.source), component_of(each.target)) for each in self.imports)
        return Counter(pair for pair in pairs if pair[0] != pair[1])


# --- modules and their imports


def read_tree(root: Path) -> Tree:
    """The packages of ctnet, of the plugins beside it and under ``plugins/``, and the template."""
    packages = [root / "ctnet", *root.glob(f"{PLUGIN}*"), *root.glob(f"plugins/*/{PLUGIN}*")]
    modules = {}
    for package in packages:
        for path in sorted(package.rglob("*.py")):
            parts = path.relative_to(package.parent).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    for path in sorted(root.glob("ctnet/templates/*/@package@/*.py.template")):
        modules[f"{TEMPLATE}.{path.name.partition('.')[0]}"] = path
    tests = {f"{TEMPLATE}.{path.name}": path for path in root.glob("ctnet/templates/*/tests/*.py.template")}
    return Tree(modules, _imports(modules, modules), _imports(tests, modules))


def _imports(sources: Mapping[str, Path], modules: Mapping[str, Path]) -> list[Import]:
    found = {
        Import(name, line, target)
        for name, path in sources.items()
        for line, target in imports_of(name, path, modules)
        if target != name
    }
    return sorted(found)


def component_of(module: str) -> str:
    """``ctnet.data.coco`` -> ``data``; a plugin's module -> its package."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "ctnet" and rest else first


def imports_of(name: str, path: Path, modules: Mapping[str, Path]) -> Iterator[tuple[int, str]]:
    """(line, module of ours) for every import in a module, at whatever depth."""
    text = path.read_text("utf-8")
    if path.suffix == ".template":
        text = re.sub(r"@(\w+)@", r"\1", text)
    nodes = list(ast.walk(ast.parse(text)))
    package = name if path.name.startswith("__init__.") else name.rpartition(".")[0]
    lazy, importers = any(map(_loads_lazily, nodes)), _names_of_importers(nodes)
    for node in nodes:
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            home = _absolute("." * node.level + (node.module or ""), package)
            named = [f"{home}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and _last_name(node.func) in importers:
            named = [_absolute(*[*_strings(node)[:2], package][:2])] if _strings(node) else []
        elif isinstance(node, ast.Constant):
            named = [node.value.replace(":", ".")] if lazy and _is_dotted(node.value) else []
        else:
            named = [chain for part in _annotations(node) for chain in _chains(part)]
        for target in filter(None, (_longest(each, modules) for each in named)):
            yield node.lineno, target  # type: ignore[attr-defined]


def _loads_lazily(node: ast.AST) -> bool:
    """Whether a module with this node imports on first use what its strings name."""
    return isinstance(node, ast.Name) and node.id == "lazy_attributes"


def _is_dotted(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and re.fullmatch(r"\w+(\.\w+)+(:\w+)?", value) is not None


def _longest(name: str, modules: Mapping[str, Path]) -> str | None:
    """The module that a dotted name leads to, ``ctnet.data.coco.CocoFile`` -> ``ctnet.data.coco``."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def _absolute(name: str, package: str) -> str:
    """``..heatmap`` seen from ``ctnet.data`` -> ``ctnet.heatmap``."""
    rest = name.lstrip(".")
    if len(rest) == len(name):
        return name
    above = package.split(".")
    base = above[: len(above) - (len(name) - len(rest) - 1)]
    return ".".join([*base, rest] if rest else base)


def _names_of_importers(nodes: list[ast.AST]) -> set[str]:
    """What the functions that import a module by its name are called here."""
    functions = {"import_module", "__import__", "resolve_name", "find_spec", "run_module"}
    aliases = [alias for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    return functions | {alias.asname for alias in aliases if alias.name in functions and alias.asname}


def _last_name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _strings(call: ast.Call) -> list[str]:
    """Literal strings among a call's arguments."""
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return [each.value for each in values if isinstance(each, ast.Constant) and isinstance(each.value, str)]


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    """Types that a node states: annotations, results, the type of a cast, the bound of a TypeVar."""
    for name in ("annotation", "returns"):
        if getattr(node, name, None) is not None:
            yield getattr(node, name)
    if isinstance(node, ast.Call) and _last_name(node.func) == "cast":
        yield from node.args[:1]
    if isinstance(node, ast.Call) and _last_name(node.func) in {"TypeVar", "NewType", "ForwardRef"}:
        yield from [*node.args, *(keyword.value for keyword in node.keywords)]


def _chains(annotation: ast.AST) -> Iterator[str]:
    """Dotted names in an annotation, also inside its strings."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                inner = ast.parse(node.value.strip(), mode="eval")
            except SyntaxError:
                continue
            yield from _chains(inner)


# --- rules


def cycles(edges: Iterable[tuple[Node, Node]]) -> list[list[Node]]:
    """Groups of nodes that reach each other (strongly connected components), largest first."""
    below: dict[Node, set[Node]] = {}
    for source, target in edges:
        below.setdefault(source, set()).add(target)
        below.setdefault(target, set())
    reached = {node: _reachable(node, below) for node in below}
    groups = {
        frozenset(other for other in reached[node] if node in reached[other])
        for node in below
        if node in reached[node]
    }
    return sorted((sorted(group, key=str) for group in groups if len(group) > 1), key=lambda each: -len(each))


def _reachable(start: Node, below: Mapping[Node, set[Node]]) -> set[Node]:
    found: set[Node] = set()
    waiting = [start]
    while waiting:
        new = below[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def layer_of(component: str) -> int | None:
    """A component's layer from 0, or None for a component that has none."""
    if component.startswith(PLUGIN):
        component = PLUGIN_LAYER
    return list(LAYERS).index(component) if component in LAYERS else None


def points_up(each: Import) -> bool:
    """Whether an import does not lead to a lower layer, both having one."""
    source, target = component_of(each.source), component_of(each.target)
    layers = layer_of(source), layer_of(target)
    return source != target and None not in layers and layers[0] <= layers[1]  # type: ignore[operator]


def is_plugin(component: str) -> bool:
    return component == PLUGIN_LAYER or component.startswith(PLUGIN)


def past_the_plugin_module(tree: Tree) -> list[Import]:
    """Imports of a plugin other than ``ctnet.plugin`` (in the template's test also ``ctnet.testing``)."""
    plugin = [
        each
        for each in tree.imports
        if is_plugin(component_of(each.source)) and each.target != "ctnet.plugin"
    ]
    tests = [each for each in tree.imports_of_tests if each.target not in {"ctnet.plugin", "ctnet.testing"}]
    return [each for each in [*plugin, *tests] if component_of(each.source) != component_of(each.target)]


def names_of_tasks(tree: Tree) -> list[str]:
    """Lines below ``ctnet.plugin`` that name a task in code: a plugin's anywhere in ctnet."""
    plugins = {
        component.removeprefix(PLUGIN) for component in tree.components() if component.startswith(PLUGIN)
    }
    own = {name.rpartition(".")[2] for name in tree.modules if name.startswith(f"ctnet.{PLUGIN_LAYER}.")}
    plugin_layer, found = layer_of("plugin"), []
    for name, path in tree.modules.items():
        layer = layer_of(component_of(name))
        if name.startswith(PLUGIN) or layer is None or plugin_layer is None:
            continue
        tasks = plugins | own if layer < plugin_layer else plugins
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and node.value in tasks:
                found.append(f"{name}:{node.lineno} names the task {node.value}")
    return found


def broken_rules(tree: Tree) -> dict[str, list[str]]:
    """Rule -> what breaks it, in words; empty lists where all is well."""
    components, arrows = tree.components(), tree.arrows()
    only = [
        each
        for each in tree.imports
        if (source := component_of(each.source)) in ONLY
        and component_of(each.target) not in ONLY[source] | {source}
    ]
    by_a_module = [
        each
        for each in tree.imports
        if is_plugin(component_of(each.target)) and component_of(each.target) != component_of(each.source)
    ]
    return {
        "modules without a layer": [name for name in tree.modules if layer_of(component_of(name)) is None],
        "arrows up": [str(each) for each in tree.imports if points_up(each)],
        "imports of the four lowest components that they may not have": [str(each) for each in only],
        "cycles of components": [" ".join(group) for group in cycles(arrows)],
        "cycles of modules": [" ".join(group) for group in module_cycles(tree)],
        "imports of a plugin past ctnet.plugin": [str(each) for each in past_the_plugin_module(tree)],
        "imports of a task's package by others": [str(each) for each in by_a_module],
        "names of tasks": names_of_tasks(tree) if "plugin" in components else [],
    }


def module_cycles(tree: Tree) -> list[list[str]]:
    return cycles((each.source, each.target) for each in tree.imports)


# --- what is printed


def report(tree: Tree) -> str:
    """Components by layer, arrows, figures, and what breaks a rule."""
    components, arrows = tree.components(), tree.arrows()
    lines = [
        "Components, lowest layer first (layer, component, modules, its imports, from how many places)",
        "",
    ]
    for component in sorted(components, key=_order):
        layer = layer_of(component)
        number = "--" if layer is None else f"{layer:2}"
        below = sorted((target for source, target in arrows if source == component), key=_order)
        imported = ", ".join(f"{target} {arrows[component, target]}" for target in below)
        lines.append(f"{number}  {component:<20} {components[component]:3}  {imported}".rstrip())
    lines += ["", *(f"{value:5}  {name}" for name, value in figures(tree).items())]
    for rule, broken in broken_rules(tree).items():
        lines += ["", f"{rule}:", *(f"  {each}" for each in broken)] if broken else []
    return "\n".join(lines)


def figures(tree: Tree) -> dict[str, int]:
    """What the page states, before and after."""
    up = {(component_of(each.source), component_of(each.target)) for each in tree.imports if points_up(each)}
    of_components, of_modules = cycles(tree.arrows()), module_cycles(tree)
    without = {component for component in tree.components() if layer_of(component) is None}
    return {
        "modules": len(tree.modules),
        "components": len(tree.components()),
        "components without a layer": len(without),
        "arrows between components": len(tree.arrows()),
        "arrows up": len(up),
        "cycles of components": len(of_components),
        "components in the largest": max(map(len, of_components), default=0),
        "cycles of modules": len(of_modules),
        "modules in the largest": max(map(len, of_modules), default=0),
        "imports of a plugin past ctnet.plugin": len(past_the_plugin_module(tree)),
    }


def _order(component: str) -> tuple[int, bool, str]:
    layer = layer_of(component)
    return (len(LAYERS) if layer is None else layer, component.startswith(PLUGIN), component)


# --- the picture

ROW, LEFT, WIDTH, REACH, TOP = 27, 300, 250, 300, 64


def picture(tree: Tree) -> str:
    """Components as boxes, lowest layer at the bottom; left the arrows that no others imply, right all."""
    components = sorted(
        (component for component in tree.components() if component != TEMPLATE), key=_order, reverse=True
    )
    arrows = [pair for pair in sorted(tree.arrows()) if TEMPLATE not in pair]
    needed = _not_implied(arrows)
    rows = {component: TOP + ROW * number for number, component in enumerate(components)}
    height, width = TOP + ROW * len(components) + 12, 2 * REACH + WIDTH
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
            f' height="{height}" font-family="sans-serif" font-size="13">',
            "<style>path{fill:none;stroke:#8aa4c8;stroke-width:1}path.needed{stroke:#1f4e8c;stroke-width:1.4}"
            "path.up{stroke:#d22;stroke-width:2}g:hover path{stroke:#e07000;stroke-width:2.2}"
            "g:hover rect{fill:#ffe3c2}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6"'
            ' orient="auto"><path d="M0 0L8 4L0 8z" style="fill:#1f4e8c;stroke:none"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            f'<text x="{width / 2}" y="24" text-anchor="middle" font-size="16">ctnet: components import only'
            " from lower layers</text>",
            f'<text x="{LEFT}" y="46" text-anchor="end" fill="#1f4e8c">arrows that no others imply</text>',
            f'<text x="{LEFT + WIDTH}" y="46" fill="#5a7aa8">all arrows</text>',
            *(_drawn_component(component, rows, arrows, needed) for component in components),
            "</svg>\n",
        ]
    )


def _drawn_component(
    component: str, rows: Mapping[str, int], arrows: list[tuple[str, str]], needed: set[tuple[str, str]]
) -> str:
    """A component's box and its arrows; pointing at the box shows them."""
    plugin, layer = component.startswith(PLUGIN), layer_of(component)
    shade = "#e9f5e6" if plugin else "#eef3fa"
    label = f"{component} (plugin)" if plugin else component
    number = "" if layer is None else str(layer)
    parts = [
        f'<rect x="{LEFT}" y="{rows[component]}" width="{WIDTH}" height="{ROW - 5}" rx="4" fill="{shade}"'
        ' stroke="#4a6080"/>',
        f'<text x="{LEFT + 34}" y="{rows[component] + 15}">{escape(label)}</text>',
        f'<text x="{LEFT + 8}" y="{rows[component] + 15}" fill="#7a8aa0">{number}</text>',
    ]
    for source, target in (pair for pair in arrows if pair[0] == component):
        start, end = rows[source] + 15, rows[target] + 7
        reach = 14 + 0.42 * abs(end - start) ** 0.98
        up = ' class="up"' if end < start else ""
        sides = [(LEFT + WIDTH, 1, up)]
        if (source, target) in needed:
            sides.append((LEFT, -1, up or ' class="needed"'))
        for x, side, kind in sides:
            bow = round(x + side * min(reach, REACH * 1.28), 1)
            curve = f"M{x} {start}C{bow} {start} {bow} {end} {x} {end}"
            parts.append(f'<path d="{curve}"{kind} marker-end="url(#tip)"/>')
    return f"<g>{''.join(parts)}</g>"


def _not_implied(arrows: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Arrows without a longer way from the same component to the same component."""
    below: dict[str, set[str]] = {}
    for source, target in arrows:
        below.setdefault(source, set()).add(target)
        below.setdefault(target, set())
    return {
        (source, target)
        for source, target in arrows
        if not any(target in _reachable(other, below) for other in below[source] - {target})
    }


# --- the command


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to look at (default: this one)")
    parser.add_argument("--svg", type=Path, help="also draw components, layers and arrows into this file")
    arguments = parser.parse_args()
    tree = read_tree(arguments.root)
    if not tree.modules:
        parser.error(f"{arguments.root} holds no package ctnet; give the folder of a checkout with --root")
    print(report(tree))
    if arguments.svg:
        arguments.svg.write_text(picture(tree), "utf-8")
    return int(any(broken_rules(tree).values()))


if __name__ == "__main__":
    sys.exit(main())
