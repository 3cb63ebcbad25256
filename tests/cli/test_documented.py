"""Every command block of README and docs is run, or marked with what it needs; every command line parses.

A block is marked by a comment above it, which no page shows:

    <!-- needs: minutes, network -->

Blocks without one are run here, in a folder that has what the pages name (``DIR``, ``RUN``, ``photos``),
made of synthetic scenes and one tiny run. Trainings are shortened to an epoch of two convolutions.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import pytest
import typer
from PIL import Image

from ctnet.cli import app
from ctnet.core.task import create_task, load_task_class, scenes_of
from ctnet.data.synthetic import write_dataset

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "plugins").glob("*/README.md")),
]
#: What a marked block may need.
NEEDS = {
    "network": "downloads something",
    "minutes": "trains or measures for minutes",
    "data": "reads a data set that is not in the repository",
    "release": "reads a checkpoint of the authors' release",
    "plugin": "needs an installed plugin",
    "processes": "starts several processes",
    "hardware": "needs a camera, a stream or a GPU",
    "environment": "changes the Python environment, or works on a checkout of the repository",
    "damaged files": "shows what ctnet says about files that are damaged in a particular way",
    "extras": "needs an extra of ctnet-toolkit",
}
#: Pages whose Python is run by a test of their own.
PYTHON_ELSEWHERE = {
    "docs/python.md": "tests/docs/test_python.py",
    "docs/serving.md": "tests/serve/test_docs.py",
    "docs/plugins/conventions.md": "tests/docs/test_plugins.py",
    "docs/plugins/task-in-90-lines.md": "tests/docs/test_task_in_90_lines.py",
    "docs/plugins/tutorial.md": "tests/docs/test_tutorial.py",
}
PROGRAMS = (
    "ctnet",
    "python",
    "pip",
    "torchrun",
    "git",
    "pytest",
    "ruff",
    "mypy",
    "npm",
    "node",
    "zensical",
    "srun",
)
SHELLS = ("", "sh", "bash", "console")
MARK = re.compile(r"<!-- needs: ([\w ,]+) -->")
OPTIONAL = re.compile(r" \[[^\]]*\]")


class Block(NamedTuple):
    """A block of commands.

    Attributes:
        page: path of its page in the repository.
        line: number of its first line.
        language: shell or python.
        lines: its lines, without indentation.
        needs: what its mark says; empty: it is run.
    """

    page: str
    line: int
    language: str
    lines: tuple[str, ...]
    needs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its command lines, continued lines joined."""
        lines = iter(self.lines)
        prompted = any(line.startswith("$ ") for line in self.lines)
        found = []
        for line in lines:
            if line.startswith("$ ") if prompted else is_command(line):
                while line.endswith("\\"):
                    line = line[:-1] + next(lines).strip()
                found.append(line.removeprefix("$ "))
        return found


def is_command(line: str) -> bool:
    words = [word for word in line.split() if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    return bool(words) and (words[0] in PROGRAMS or words[0] == ".ci/run")


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """The command blocks of a page: fenced, or indented by four spaces after an empty line."""
    lines = text.split("\n")
    mark, number = "", 0
    while number < len(lines):
        start, line = number, lines[number]
        number += 1
        fence = re.fullmatch(r"```(\w*)", line)
        indented = line.startswith("    ") and (start == 0 or not lines[start - 1].strip())
        if fence:
            number = lines.index("```", number) + 1
            inside = lines[start + 1 : number - 1]
        elif indented:
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number].strip()):
                number += 1
            inside = [each[4:] for each in lines[start:number]]
        else:
            mark = line if line.strip() else mark
            continue
        language = language_of(inside, fence[1] if fence else "")
        if language:
            found = MARK.fullmatch(mark.strip())
            needs = tuple(word.strip() for word in found[1].split(",")) if found else ()
            yield Block(page, start + 1 + bool(fence), language, tuple(inside), needs)
        mark = ""


def language_of(lines: Sequence[str], stated: str) -> str | None:
    """shell, python, or None for blocks that are neither."""
    if stated in ("python", "pycon"):
        return "python"
    if stated not in SHELLS or not lines:
        return None
    if any(line.startswith("$ ") or is_command(line) for line in lines):
        return "shell"
    if re.match(r"(import|from) \w", lines[0]):
        return "python"
    return None


BLOCKS = [
    block
    for path in PAGES
    if not path.read_text("utf-8").startswith("<!-- Written by")  # generated pages show signatures
    for block in blocks_of(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
]
COMMANDS = [(block, command) for block in BLOCKS if block.language == "shell" for command in block.commands]


def calls(command: str) -> list[list[str]]:
    """The arguments of every call of ctnet in a command line."""
    found = []
    for part in re.split(r" && | \| ", command):
        words = shlex.split(part, comments=True)
        if "ctnet" in words and is_command(part) and words[0] not in ("git", "pip"):
            found.append(words[words.index("ctnet") + 1 :])
    return found


def complete(command: str) -> str:
    """A line with all that is optional in it, and the first of each alternative."""
    return re.sub(r"(?<=[A-Z])\|[A-Z]+", "", re.sub(r" \[([^\]]*)\]", r" \1", command)).replace("...", "")


def minimal(command: str) -> str:
    """A line without all that is optional in it."""
    return OPTIONAL.sub("", command).replace("...", "")


@cache
def command_line() -> Any:
    return typer.main.get_command(app)


def parse(arguments: list[str]) -> None:
    """Parse a command line without running it; names, types and choices of all options are checked."""
    command = command_line()
    context = command.make_context("ctnet", [], resilient_parsing=True)
    rest = list(arguments)
    while hasattr(command, "list_commands") and rest:
        name = rest.pop(0)
        command = command.get_command(context, name)
        if command is None:
            raise ValueError(f"there is no command {name}")
        if not hasattr(command, "list_commands"):
            command.make_context(name, rest, parent=context)
            continue
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
        if name == "backbones" and rest[:1] not in (["list"], ["check"]):
            rest.insert(0, "list")  # its short form


def plugins_of(arguments: list[str]) -> bool:
    """Whether a call uses a plugin of the folder plugins, which need not be installed."""
    theirs = (["convert", "dota"], ["convert", "mot"], ["convert", "kitti-tracking"], ["analyze", "tracks"])
    return arguments[:2] in theirs


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "shell"], ids=str)
def test_every_command_line_parses(block: Block) -> None:
    assert block.commands
    for command in block.commands:
        for line in {complete(command), minimal(command)}:
            for arguments in calls(line):
                if not plugins_of(arguments):
                    parse(arguments)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train ctdet --epoch 3", "No such option"),
        ("train ctdet --epochs many", "integer"),
        ("eval --nms medium", "medium"),
        ("data chek mydata", "no command chek"),
        ("convert voc", "Missing (argument|parameter)"),
    ],
)
def test_what_is_wrong_does_not_parse(line: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        parse(line.split())


def test_marks_are_of_the_known_kinds_and_above_a_block() -> None:
    for block in BLOCKS:
        assert set(block.needs) <= set(NEEDS), f"{block}: {block.needs}"
    lines = [line for path in PAGES for line in path.read_text("utf-8").splitlines()]
    marks = sum(line.startswith("<!-- needs: ") for line in lines)
    assert marks == sum(bool(block.needs) for block in BLOCKS)


def test_what_is_not_marked_can_be_run_here() -> None:
    for block in BLOCKS:
        if block.language == "shell" and not block.needs:
            for command in block.commands:
                assert command.startswith("ctnet "), f"{block}: mark it with what it needs: {command}"


def test_blocks_are_found() -> None:
    """Also counts them: pytest -s shows the figures."""
    text = "text\n\n    $ ctnet eval\n    an output\n\n<!-- needs: minutes -->\n\n```\npython a.py\n```\n"
    first, second = blocks_of("page.md", text)
    assert (first.line, first.language, first.commands, first.needs) == (3, "shell", ["ctnet eval"], ())
    assert (second.line, second.commands, second.needs) == (9, ["python a.py"], ("minutes",))
    assert complete("ctnet eval [RUN|FILE] [--split S]") == "ctnet eval RUN --split S"
    assert minimal("ctnet eval [RUN|FILE] A... [--split S]") == "ctnet eval A"
    assert calls("A=1 torchrun -m ctnet eval x && pip install ctnet  # y") == [["eval", "x"]]
    count = Counter("marked" if each.needs else how_run(each) for each in BLOCKS)
    print("command blocks:", dict(count), "in all", len(BLOCKS), "command lines:", len(COMMANDS))
    assert count["run here"] > 50


def how_run(block: Block) -> str:
    python = block.language == "python"
    return "run by another test" if python and block.page in PYTHON_ELSEWHERE else "run here"


@pytest.mark.parametrize("page", PYTHON_ELSEWHERE)
def test_another_test_runs_the_python_of_a_page(page: str) -> None:
    assert any(block.page == page and block.language == "python" for block in BLOCKS)
    assert Path(page).name in (ROOT / PYTHON_ELSEWHERE[page]).read_text("utf-8")


#: Pages that every run of the tests runs; the others are for thorough runs.
QUICK = ("README.md", "docs/index.md", "docs/first-detector.md", "docs/getting-started.md")
#: The task of the data and the run that a page names; ctdet elsewhere.
TASKS = {"docs/pose.md": "pose"}
RUNNABLE = sorted({block.page for block in BLOCKS if not block.needs and how_run(block) == "run here"})
DATA = (
    "DIR",
    "DATA",
    "SCENES",
    "coco",
    "coco-mini",
    "coco-pose-mini",
    "orchard",
    "data/bolts",
    "data/bccd",
    "new/place",
)
RUNS = ("RUN", "CTDET_RUN", "A", "B", "A1", "A2", "A3", "B1", "B2", "B3")
RUNS += ("runs/{task}-resfpn18-2", "runs/{task}-resfpn18-1")
PLACEHOLDERS = {"SPLIT": "val", "NAME": "resfpn18"}
SHORT = [
    "--epochs",
    "1",
    "--batch-size",
    "3",
    "--size",
    "64",
    "--workers",
    "0",
    "--device",
    "cpu",
    "--backbone",
]


def shortened(arguments: list[str], backbone: str) -> list[str]:
    """The same call, but a training takes an epoch of a small network, and nothing starts processes."""
    arguments = [PLACEHOLDERS.get(word, word) for word in arguments]
    if arguments[0] == "train":
        if "--resume" not in arguments:
            return [*arguments, *SHORT, backbone]
        return [*arguments, "--epochs", "2"] if "--epochs" in arguments else arguments
    if arguments[0] == "demo":
        return [*arguments, "--epochs", "1", "--device", "cpu"]
    return [*arguments, "--workers", "0"] if arguments[0] == "eval" else arguments


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory, tiny: str, call_ctnet) -> Callable[[str], Path]:
    """A task's folder with all that pages name; to be copied."""

    @cache
    def make(task: str) -> Path:
        folder = tmp_path_factory.mktemp(f"documented-{task}")
        write_names(folder, task, tiny, call_ctnet)
        return folder

    return make


def write_names(folder: Path, name: str, backbone: str, call: Callable[..., Any]) -> None:
    """Data, runs, pictures and videos under the names that the pages give them."""
    task = create_task(name, scenes_of(load_task_class(name)).categories)
    data = folder / "DIR"
    write_dataset(task, data, {"train": 6, "val": 4, "test": 2}, (64, 64))
    for split in ("train", "val"):
        path = data / "annotations" / f"{task.layout.prefix}_{split}.json"
        shutil.copy(path, path.with_name(path.name.replace(split, f"{split}2017")))
        shutil.copytree(data / split, data / f"{split}2017")
    for other in DATA[1:]:
        shutil.copytree(data, folder / other)
    write_other_formats(folder, data, task.layout.prefix, call)
    write_pictures(folder, sorted((data / "val").glob("*.jpg")))
    (folder / "camera.json").write_text('{"focal": 700.0, "centre": [320.0, 240.0]}')
    recipes = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    (folder / "mine.toml").write_text(recipes.partition("```toml\n")[2].partition("```")[0])
    size = [*SHORT, backbone, "--lr", "1e-5"]
    run = folder / "RUN"
    done = call("train", name, "--data", data, *size, "-o", run)
    assert done.code == 0, done.err
    for other in RUNS[1:]:
        shutil.copytree(run, folder / other.format(task=name))
    for results in ("a.json", "f.json"):
        assert call("eval", run, "--workers", 0, "--save", folder / results).code == 0


def write_other_formats(folder: Path, data: Path, prefix: str, call: Callable[..., Any]) -> None:
    """One split of the data as other tools export it, and as COCO."""
    content = json.loads((data / "annotations" / f"{prefix}_train.json").read_text())
    for name in ("roboflow", "bolts", "SOURCE"):
        shutil.copytree(data / "train", folder / name / "train")
        (folder / name / "train" / "_annotations.coco.json").write_text(json.dumps(content))
    (folder / "data" / "mine" / "annotations").mkdir(parents=True)
    shutil.copy(
        data / "annotations" / f"{prefix}_train.json",
        folder / "data" / "mine" / "annotations" / "instances_all.json",
    )
    shutil.copytree(data / "train", folder / "data" / "mine" / "images")
    for name in ("yolodata", "coco8"):
        assert call("convert", "yolo", data, "-o", folder / name, "--export", "--images", "copy").code == 0
    names = {each["id"]: each["name"] for each in content["categories"]}
    for image in content["images"]:
        objects = [each for each in content["annotations"] if each["image_id"] == image["id"]]
        xml, picture = voc_xml(image, objects, names), data / "train" / image["file_name"]
        stem = picture.stem
        for labels, pictures in (("VOCdevkit", "VOCdevkit"), ("bccd/Annotations", "bccd/JPEGImages")):
            for each in (labels, pictures):
                (folder / each).mkdir(parents=True, exist_ok=True)
            (folder / labels / f"{stem}.xml").write_text(xml)
            shutil.copy(picture, folder / pictures)
        for split in ("train", "val"):
            (folder / "bccd/ImageSets/Main").mkdir(parents=True, exist_ok=True)
            with (folder / f"bccd/ImageSets/Main/{split}.txt").open("a") as lists:
                lists.write(f"{stem}\n")
    (folder / "photos").mkdir()
    for number, image in enumerate(content["images"][:3], start=1):
        objects = [each for each in content["annotations"] if each["image_id"] == image["id"]]
        shapes = [labelme_rectangle(names[each["category_id"]], each["bbox"]) for each in objects]
        stem = f"IMG_{number:04d}"
        document = {"imagePath": f"{stem}.jpg", "imageData": None, "shapes": shapes}
        document |= {"imageHeight": image["height"], "imageWidth": image["width"]}
        (folder / "photos" / f"{stem}.json").write_text(json.dumps(document))
        shutil.copy(data / "train" / image["file_name"], folder / "photos" / f"{stem}.jpg")


def voc_xml(image: dict[str, Any], objects: list[dict[str, Any]], names: dict[int, str]) -> str:
    """A file of Pascal VOC, whose pixels count from 1."""
    lines = [f"<filename>{image['file_name']}</filename>"]
    lines += [f"<size><width>{image['width']}</width><height>{image['height']}</height></size>"]
    for each in objects:
        x, y, width, height = each["bbox"]
        corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}
        box = "".join(f"<{name}>{round(value)}</{name}>" for name, value in corners.items())
        lines += [f"<object><name>{names[each['category_id']]}</name><bndbox>{box}</bndbox></object>"]
    return f"<annotation>{''.join(lines)}</annotation>"


def labelme_rectangle(label: str, box: list[float]) -> dict[str, Any]:
    x, y, width, height = box
    return {"label": label, "shape_type": "rectangle", "points": [[x, y], [x + width, y + height]]}


def write_pictures(folder: Path, pictures: list[Path]) -> None:
    """Single pictures, a folder of some, an animation, a scan and short videos."""
    for name in ("photo.jpg", "a.jpg", "b.jpg", "new/IMG_0004.jpg", "folder/one.jpg", "folder/two.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(pictures[0], folder / name)
    images = [cv2.imread(str(path)) for path in pictures]
    cv2.imwrite(str(folder / "scan.tif"), images[0])
    frames = [Image.fromarray(image[:, :, ::-1]) for image in images]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    for name in ("film.mp4", "street.mp4"):
        writer = cv2.VideoWriter(str(folder / name), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
        for image in images:
            writer.write(image)
        writer.release()


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=() if page in QUICK else pytest.mark.thorough) for page in RUNNABLE],
)
def test_what_a_page_shows_runs(page: str, ctnet, quick_demo, tiny: str, folder_of) -> None:
    """All unmarked blocks of a page, one after the other, in one folder."""
    task = TASKS.get(page, "ctdet")
    quick_demo(load_task_class(task))
    shutil.copytree(folder_of(task), ".", dirs_exist_ok=True)
    for block in BLOCKS:
        if block.page != page or block.needs or how_run(block) != "run here":
            continue
        if block.language == "python":
            with redirect_stdout(StringIO()):
                exec(compile("\n".join(block.lines), str(block), "exec", dont_inherit=True), {})
            continue
        for command in block.commands:
            for arguments in calls(minimal(command)):
                done = ctnet(*shortened(arguments, tiny))
                expected = shown_error(block, command)
                assert done.code == (2 if expected else 0), f"{block}: {command}\n{done.err}"
                assert expected in done.err


def shown_error(block: Block, command: str) -> str:
    """The error that a block shows below a command, if it does."""
    below = block.lines[block.lines.index(f"$ {command}") + 1 :] if f"$ {command}" in block.lines else ()
    return below[0] if below and below[0].startswith("error: ") else ""
