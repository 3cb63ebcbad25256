from __future__ import annotations

import importlib
import inspect
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ctnet import doctor
from ctnet.doctor import PACKAGES, TORCHVISION_TRAP, Finding, examine
from ctnet.ops import deform_conv, winograd_layers

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def findings() -> dict[str, Finding]:
    return {finding.name: finding for finding in examine()}


CHECKS = set(re.findall(r"\b_[a-z_]+\b", inspect.getsource(doctor.examine))) & set(vars(doctor))


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs only some checks: counting the bytes of an installation takes a second."""

    def leave_out(*kept: str) -> None:
        assert {*kept} <= CHECKS
        for name in CHECKS:
            if name not in kept:
                monkeypatch.setattr(doctor, name, list)

    return leave_out


def test_everything_is_well_here(ctnet) -> None:
    done = ctnet("doctor", "--json")
    rows = {row["name"]: row for row in json.loads(done.out)}
    assert [name for name, row in rows.items() if not row["good"]] == []
    assert done.code == 0
    assert {"python", "torch", "torchvision", "cpu", "ctnet.tasks ctdet"} <= set(rows)


FAST_PATHS = {
    "deformable convolution": "_deformable_convolution",
    "Winograd in inference": "_winograd_in_inference",
    "Winograd in training": "_winograd_in_training",
}


@pytest.mark.parametrize("path", FAST_PATHS)
def test_every_fast_path_is_held_against_the_plain_one(only, path: str) -> None:
    only(FAST_PATHS[path])
    finding = findings()[f"fast path: {path}"]
    assert finding.good
    found = re.fullmatch(
        r"differs from the plain path by (\S+) of the largest value \(bound 1e-04\)", finding.text
    )
    assert found
    assert 0 < float(found[1]) < 1e-5  # not 0: the two are not the same code


@pytest.mark.parametrize(
    ("path", "module", "function"),
    [
        ("deformable convolution", deform_conv, "_bilinear"),
        ("Winograd in inference", winograd_layers, "transform_kernel"),
        ("Winograd in training", winograd_layers, "kernel_gradient"),
    ],
)
@pytest.mark.parametrize("wrong", [0.999, math.nan])
def test_a_wrong_fast_path_is_noticed(
    monkeypatch, only, path: str, module, function: str, wrong: float
) -> None:
    only(FAST_PATHS[path])
    right = getattr(module, function)
    monkeypatch.setattr(module, function, lambda *a, **k: right(*a, **k) * wrong)
    assert not findings()[f"fast path: {path}"].good


def test_fast_paths_that_are_turned_off_are_still_checked(monkeypatch, only) -> None:
    monkeypatch.setenv("CTNET_FAST", "0")
    only(*FAST_PATHS.values())
    found = findings()
    for path in FAST_PATHS:
        finding = found[f"fast path: {path}"]
        assert finding.good
        assert finding.text.endswith("(bound 1e-04); turned off by CTNET_FAST=0")


def test_a_switch_that_says_neither_is_named(monkeypatch, only) -> None:
    only("_deformable_convolution")
    monkeypatch.setenv("CTNET_FAST", "no")
    finding = findings()["fast path: deformable convolution"]
    assert (finding.good, finding.text[:23]) == (False, "CTNET_FAST is 'no'; set")


@pytest.mark.parametrize(
    "error",
    [
        ImportError("undefined symbol"),
        RuntimeError("operator torchvision::nms does not exist"),
        OSError("libcudart.so: cannot open shared object file"),
    ],
)
def test_the_torchvision_trap_is_explained(ctnet, monkeypatch, error: Exception) -> None:
    real = importlib.import_module

    def broken(name: str, *rest: object):
        if name.startswith("torchvision"):
            raise error
        return real(name, *rest)

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    done = ctnet("doctor", "--json")
    assert done.code == 1
    wrong = [row for row in json.loads(done.out) if not row["good"]]
    assert [row["name"] for row in wrong] == ["torchvision"]
    assert TORCHVISION_TRAP in wrong[0]["text"]
    assert str(error) in wrong[0]["text"]
    assert "CPU-only index" in TORCHVISION_TRAP
    assert "pip install torch torchvision" in TORCHVISION_TRAP


def test_missing_packages_name_the_fix(monkeypatch, only) -> None:
    only("_packages")
    real = doctor.metadata.version

    def version(name: str) -> str:
        if name in ("typer", "tensorboard"):
            raise doctor.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    found = findings()
    assert (found["typer"].good, found["typer"].text) == (False, "not installed (missing: pip install typer)")
    assert found["tensorboard"].good
    assert "pip install 'ctnet-toolkit[tensorboard]'" in found["tensorboard"].text


def test_a_check_that_breaks_is_a_finding(monkeypatch, only) -> None:
    only()

    def broken() -> Finding:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(doctor, "_devices", broken)
    assert findings()["devices"] == Finding("devices", False, "ZeroDivisionError: oh")


def test_the_table_marks_what_is_wrong(ctnet, monkeypatch, only) -> None:
    only()
    monkeypatch.setattr(doctor, "_python", lambda: Finding("python", False, "too old"))
    done = ctnet("doctor")
    assert (done.code, done.err) == (1, "")
    assert any(line.split()[:2] == ["WRONG", "python"] for line in done.out.splitlines())


def test_long_findings_are_wrapped_on_a_terminal_and_whole_in_a_pipe(ctnet, monkeypatch) -> None:
    text = " ".join(["pip install torch torchvision --index-url https://example.org/whl/cpu"] * 3)
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("size", True, text), Finding("torch", False, "")])
    assert text in ctnet("doctor").out
    monkeypatch.setattr(sys.modules["ctnet.cli.doctor"], "width_of", lambda stream: 80)
    lines = ctnet("doctor").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines[2:-1]).split()) == f"ok size {text}"
    assert lines[-1].split() == ["WRONG", "torch"]


def test_every_extra_for_users_is_looked_at() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {
        re.split("[><=]", need)[0]: name
        for name, needs in extras.items()
        for need in needs
        if name not in ("test", "dev", "docs", "browser")
    }
    assert {name: extra for name, extra in PACKAGES.items() if extra} == wanted


class Installed:
    """A distribution as ``importlib.metadata`` describes it."""

    def __init__(self, megabytes: int, *requires: str) -> None:
        self.files = [type("File", (), {"size": megabytes * 10**6})(), type("File", (), {"size": None})()]
        self.requires = list(requires)


def test_the_installed_size_and_the_way_to_a_smaller_one(monkeypatch) -> None:
    installed = {
        "ctnet-toolkit": Installed(1, "torch>=2.6", "PyYAML>=6", "gone ; sys_platform == 'win32'"),
        "torch": Installed(1000, "nvidia-cudnn-cu13==9; platform_system == 'Linux'", "triton", "sympy"),
        "nvidia-cudnn-cu13": Installed(900),
        "triton": Installed(600, "torch"),
        "pyyaml": Installed(99, "big; extra == 'all'"),
        "big": Installed(10_000),
    }

    def distribution(name: str) -> Installed:
        if name not in installed:
            raise doctor.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(doctor.metadata, "distribution", distribution)
    text = doctor._installed_size().text
    assert text.startswith(
        "2.6 GB with all that ctnet needs, 1.5 GB of it libraries for GPUs; without them: "
    )
    assert "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu" in text
    del installed["nvidia-cudnn-cu13"], installed["triton"]
    assert doctor._installed_size().text == "1.1 GB with all that ctnet needs"


def test_the_way_to_a_cpu_only_build_is_the_one_in_the_docs() -> None:
    root = Path(__file__).parents[2]
    for page in ("README.md", "docs/install.md"):
        assert doctor.CPU_ONLY in (root / page).read_text("utf-8")
