"""Plugins as users install them: wheels in a clean environment, every command from an empty folder.

    python tests/installed_plugins.py [--keep DIR]

Builds ctnet's source distribution and its wheel from that, and wheels of every distribution in ``plugins/``
and of one that ``ctnet tasks new`` has just written, installs them where no source of the project is on the
path, and runs the commands of a task's life
on each task. Next to them are wheels of plugins that cannot be loaded: each gets its one line, and none
affects another. Then one plugin is uninstalled, and the rest must not notice. Needs pip and, for the builds,
hatchling or a registry that has it. Not collected by pytest: it takes a few minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FRESH = "dials"
#: Distributions of the project; everything else that is installed here may serve as a dependency.
OURS = "ctnet"

TASK = "from ctnet.tasks.ctdet import CenterDetection\n\nclass Mine(CenterDetection):\n    name = {!r}\n"
TWINS = (
    r"two plugins are called 'twin' \(acme_\w+:Mine and acme_\w+:Mine of acme-\w+ 1\.0 and acme-\w+ 1\.0\); "
    r"uninstall one of them"
)
#: Distributions with one task that cannot be loaded: the task's name, the module, what ctnet says.
BROKEN = {
    "acme-older": (
        "older",
        TASK.format("older") + "    contract = 1\n",
        r"plugin 'older' of acme-older 1\.0 was written for version 1 of ctnet's contract, "
        r"and ctnet \S+ supports version \d+; update acme-older",
    ),
    "acme-newer": (
        "newer",
        TASK.format("newer") + "    contract = (998, 999)\n",
        r"plugin 'newer' of acme-newer 1\.0 was written for versions 998 to 999 of ctnet's contract, "
        r"and ctnet \S+ supports version \d+; update ctnet-toolkit",
    ),
    "acme-needy": (
        "needy",
        "import no_such_dependency\n",
        r"plugin 'needy' of acme-needy 1\.0 needs the Python module 'no_such_dependency', which is not "
        r"installed; install what acme-needy depends on, or uninstall it",
    ),
    "acme-broken": (
        "broken",
        "raise ValueError('no\\nway')\n",
        r"plugin 'broken' of acme-broken 1\.0 does not load: ValueError: no way; "
        r"update or uninstall acme-broken",
    ),
    "acme-first": ("twin", TASK.format("twin"), TWINS),
    "acme-second": ("twin", TASK.format("twin"), TWINS),
}


class Failure(Exception):
    """A command did not do what it must."""


class Environment:
    """A virtual environment that sees this one's packages, but of the project only its wheels.

    Attributes:
        folder: the folder of the environment.
        work: the empty folder in which its commands run.
    """

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder, self.work = folder, work
        work.mkdir(parents=True)
        venv.create(folder, with_pip=False)
        scripts = "Scripts" if os.name == "nt" else "bin"
        self.scripts = folder / scripts
        self.python = self.scripts / ("python.exe" if os.name == "nt" else "python")
        [packages] = self.run(self.python, "-c", "import site; print(site.getsitepackages()[-1])").split()
        borrowed = folder / "borrowed"
        borrow_packages(borrowed)
        Path(packages, "borrowed.pth").write_text(f"{borrowed}\n")

    def run(self, *command: object, code: int = 0) -> str:
        """Run a command in the empty folder -> its standard output.

        Raises:
            Failure: when it does not exit with ``code``, with all that it printed.
        """
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        variables |= {"CTNET_CACHE": str(self.folder / "cache"), "COLUMNS": "100"}
        variables.pop("CTNET_PLUGINS", None)
        words = [str(word) for word in command]
        started = time.monotonic()
        done = subprocess.run(words, cwd=self.work, env=variables, capture_output=True, text=True)
        if done.returncode != code:
            raise Failure(f"$ {' '.join(words)}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
        if words[0] != str(self.python):
            shown = " ".join(Path(word).name if os.sep in word else word for word in words)
            print(f"{time.monotonic() - started:6.1f} s  {shown}", flush=True)
        return done.stdout if code == 0 else done.stderr

    def ctnet(self, *arguments: object, code: int = 0) -> str:
        return self.run(self.scripts / "ctnet", *arguments, code=code)

    def pip(self, *arguments: object) -> None:
        """pip of the environment that runs this script, at work on this one."""
        self.run(sys.executable, "-m", "pip", "--quiet", "--python", self.python, *arguments)


def borrow_packages(folder: Path) -> None:
    """Links to everything installed here except the project: an editable install must not leak its source."""
    folder.mkdir()
    for packages in map(Path, site.getsitepackages()):
        for entry in packages.iterdir() if packages.is_dir() else ():
            name = entry.name.lower()
            ours = name.startswith((OURS, f"_{OURS}", f"__editable__.{OURS}", f"__editable___{OURS}"))
            if not ours and entry.suffix != ".pth" and not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry)


def build_wheel(source: Path, folder: Path) -> Path:
    """A distribution's wheel, built from a copy, so that no files are left next to the source."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "source"
        left_out = shutil.ignore_patterns(
            ".git", "runs", "build", "dist", "__pycache__", "*.egg-info", ".*_cache"
        )
        shutil.copytree(source, copy, ignore=left_out)
        before = set(folder.glob("*.whl"))
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
        subprocess.run([*pip, str(copy)], check=True)
    [wheel] = set(folder.glob("*.whl")) - before
    return wheel


def build_sdist(source: Path, folder: Path) -> Path:
    """ctnet's source distribution, by the backend that pyproject.toml names."""
    with tempfile.TemporaryDirectory() as temporary:
        backend = Path(temporary) / "backend"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(backend), "hatchling"]
        subprocess.run(pip, check=True)
        script = f"import hatchling.build; hatchling.build.build_sdist({str(folder)!r})"
        variables = {**os.environ, "PYTHONPATH": str(backend)}
        subprocess.run([sys.executable, "-c", script], cwd=source, env=variables, check=True)
    [archive] = folder.glob("*.tar.gz")
    return archive


def check_sdist(archive: Path) -> None:
    """What the source distribution must contain to be built and tested."""
    with tarfile.open(archive) as content:
        names = {name.partition("/")[2] for name in content.getnames()}
    wanted = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "ctnet/py.typed",
        "tests/conftest.py",
        "docs/design.md",
    }
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "ctnet" / "templates").rglob("*.template")}
    if missing := sorted((wanted | templates) - names):
        raise Failure(f"{archive.name} lacks {missing}")


def write_broken(folder: Path, distribution: str) -> Path:
    """The source of one of ``BROKEN``."""
    name, module, _ = BROKEN[distribution]
    package = distribution.replace("-", "_")
    source = folder / distribution
    (source / package).mkdir(parents=True)
    (source / package / "__init__.py").write_text(module)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{distribution}"\nversion = "1.0"\n'
        f'[project.entry-points."ctnet.tasks"]\n{name} = "{package}:Mine"\n'
    )
    return source


def check_broken(environment: Environment, well: set[str]) -> None:
    """Every broken plugin is named in one line, where it is asked for and in the list; the others work."""
    rows = {row["name"]: row for row in json.loads(environment.ctnet("tasks", "list", "--json"))}
    broken = {name: line for name, _, line in BROKEN.values()}
    if set(rows) != {*well, *broken} or any(rows[name]["error"] for name in well):
        raise Failure(f"beside broken plugins, ctnet tasks list says {rows}")
    for name, line in broken.items():
        said = environment.ctnet("tasks", "show", name, code=2)
        if not re.fullmatch(f"error: {line}\n", said):
            raise Failure(f"of the broken plugin {name} ctnet says\n{said}instead of\n{line}")
        if said != f"error: {rows[name]['error']}\n":
            raise Failure(
                f"ctnet tasks list says of {name} {rows[name]['error']!r}, and ctnet tasks show {said!r}"
            )


def live(environment: Environment, task: str) -> Path:
    """Everything that a user does with a task: check, train, evaluate, predict, analyse; returns its run."""
    environment.ctnet("tasks", "check", task)
    run = Path("runs") / task
    training = ("--overfit", 4, "--epochs", 2, "--size", 128, "-R", "evaluate_every=2")
    environment.ctnet("train", task, *training, "--device", "cpu", "--output", run)
    figures = json.loads(environment.ctnet("eval", run, "--flip", "--device", "cpu", "--json"))["metrics"]
    if not figures or not all(math.isfinite(value) for value in figures.values()):
        raise Failure(f"ctnet eval of {task} has no figures, or none that can be: {figures}")
    scenes = (environment.work / "runs" / "data").glob(f"{task}-scenes-*/**/*")
    image = min(path for path in scenes if path.suffix in {".jpg", ".png"})
    environment.ctnet("predict", run, image, "-o", f"out-{task}", "--device", "cpu")
    if not (environment.work / f"out-{task}" / "results.json").is_file():
        raise Failure(f"ctnet predict of {task} left no results.json")
    environment.ctnet("analyze", "errors", run, "--device", "cpu")
    return run


def installed_tasks(environment: Environment) -> dict[str, dict[str, str]]:
    """What ``ctnet tasks list`` says, by name; none may have an error."""
    rows = {row["name"]: row for row in json.loads(environment.ctnet("tasks", "list", "--json"))}
    broken = [row for row in rows.values() if row["error"]]
    if broken:
        raise Failure(f"ctnet tasks list shows errors: {broken}")
    return rows


def install_ctnet(folder: Path, wheels: Path) -> Environment:
    """An environment with only ctnet, from the wheel built from its source distribution."""
    archive = build_sdist(ROOT, wheels)
    check_sdist(archive)
    with tempfile.TemporaryDirectory() as temporary:
        shutil.unpack_archive(archive, temporary, filter="data")
        [source] = Path(temporary).iterdir()
        core = build_wheel(source, wheels)
    environment = Environment(folder / "environment", folder / "empty")
    environment.pip("install", "--no-deps", core)
    place = environment.run(environment.python, "-c", "import ctnet; print(ctnet.__file__)")
    if not Path(place.strip()).resolve().is_relative_to(environment.folder.resolve()):
        raise Failure(f"ctnet comes from {place.strip()}, not from its wheel")
    version = f"ctnet {archive.name.removesuffix('.tar.gz').rpartition('-')[2]}\n"
    module = environment.run(environment.python, "-m", "ctnet", "--version")
    if environment.ctnet("--version") != version or module != version:
        raise Failure(f"ctnet --version is not {version!r}")
    return environment


def check(folder: Path) -> None:
    """The whole story, in a folder of its own."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    environment = install_ctnet(folder, wheels)
    plugins = {path.name: build_wheel(path, wheels) for path in sorted((ROOT / "plugins").iterdir())}
    own = set(installed_tasks(environment))
    environment.ctnet("tasks", "new", FRESH)
    plugins[f"ctnet-tasks-{FRESH}"] = build_wheel(environment.work / f"ctnet-tasks-{FRESH}", wheels)
    for wheel in plugins.values():
        environment.pip("install", "--no-deps", wheel)
    rows = installed_tasks(environment)
    added = {name: row["distribution"] for name, row in rows.items() if name not in own}
    if sorted(added.values()) != sorted(plugins):
        raise Failure(f"the wheels {sorted(plugins)} added the tasks {added}")
    broken = [build_wheel(write_broken(folder / "broken", name), wheels) for name in BROKEN]
    environment.pip("install", "--no-deps", *broken)
    check_broken(environment, set(rows))
    runs = {name: live(environment, name) for name in added}
    environment.pip("uninstall", "--yes", *BROKEN)

    gone, *rest = added
    environment.pip("uninstall", "--yes", added[gone])
    if set(installed_tasks(environment)) != {*own, *rest}:
        raise Failure(f"without {gone}, ctnet tasks list names other tasks than {sorted({*own, *rest})}")
    for name in rest:
        environment.ctnet("eval", runs[name], "--device", "cpu")
    message = environment.ctnet("eval", runs[gone], "--device", "cpu", code=2)
    if gone not in message or "Traceback" in message:
        raise Failure(f"a run of the uninstalled {gone} is refused without its name: {message}")
    print(f"{len(added)} plugins work from their wheels beside {len(BROKEN)} that cannot be loaded")
    print(f"{gone} went, and {', '.join(rest)} did not notice")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", type=Path, help="work in this new folder, and leave it")
    keep = parser.parse_args().keep
    try:
        if keep:
            check(keep.resolve())
        else:
            with tempfile.TemporaryDirectory() as temporary:
                check(Path(temporary).resolve())
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
