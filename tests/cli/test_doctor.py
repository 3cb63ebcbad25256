from __future__ import annotations

import importlib
import json

import pytest

from ctnet import doctor
from ctnet.doctor import TORCHVISION_TRAP, Finding, examine


def findings(monkeypatch: pytest.MonkeyPatch | None = None) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine()}


def test_everything_is_well_here(ctnet) -> None:
    done = ctnet("doctor", "--json")
    rows = {row["name"]: row for row in json.loads(done.out)}
    assert [name for name, row in rows.items() if not row["good"]] == []
    assert done.code == 0
    assert {"python", "torch", "torchvision", "cpu", "ctnet.tasks ctdet"} <= set(rows)


def test_the_active_deformable_convolution_agrees_with_the_other() -> None:
    finding = findings()["deformable convolution (cpu)"]
    assert finding.good
    assert finding.text.startswith("gather path; differs from the torchvision path by ")


def test_a_wrong_deformable_convolution_is_noticed(monkeypatch) -> None:
    from ctnet.ops import deform_conv

    right = deform_conv.deform_conv2d
    monkeypatch.setattr(
        deform_conv,
        "deform_conv2d",
        lambda *a, path="auto", **k: right(*a, path=path, **k) + (path == "auto"),
    )
    assert not findings()["deformable convolution (cpu)"].good


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


def test_missing_packages_name_their_mend(monkeypatch) -> None:
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


def test_a_check_that_breaks_is_a_finding(monkeypatch) -> None:
    def broken() -> Finding:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(doctor, "_devices", broken)
    assert findings()["devices"] == Finding("devices", False, "ZeroDivisionError: oh")


def test_the_table_marks_what_is_wrong(ctnet, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "_python", lambda: Finding("python", False, "too old"))
    done = ctnet("doctor")
    assert (done.code, done.out) == (1, "")
    assert any(line.split()[:2] == ["WRONG", "python"] for line in done.err.splitlines())
