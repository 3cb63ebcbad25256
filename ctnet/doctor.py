"""What ``ctnet doctor`` looks at: versions, devices, the operator, and the traps of an installation."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

#: Distributions whose versions matter, with the extra that brings the optional ones.
PACKAGES = {
    "torch": "",
    "torchvision": "",
    "numpy": "",
    "opencv-python-headless": "",
    "pycocotools": "",
    "faster-coco-eval": "",
    "typer": "",
    "rich": "",
    "tensorboard": "tensorboard",
}

TORCHVISION_TRAP = (
    "torchvision does not fit this torch: most likely torch came from the CPU-only index and torchvision "
    "from PyPI (or the other way round). Both must come from one place: "
    "pip uninstall torch torchvision, then pip install torch torchvision in one command"
)


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        good: False where something needs mending.
        text: what was found, and the mend.
    """

    name: str
    good: bool
    text: str


def examine() -> list[Finding]:
    """Look at everything; nothing here raises."""
    checks: list[tuple[str, Callable[[], Finding | list[Finding]]]] = [
        ("python", _python),
        ("packages", _packages),
        ("torchvision", _torchvision),
        ("devices", _devices),
        ("deformable convolution", _deformable_convolution),
        ("plugins", _plugins),
    ]
    findings: list[Finding] = []
    for name, check in checks:
        try:
            result = check()
        except Exception as error:  # a doctor reports what breaks, whatever it is
            result = Finding(name, False, f"{type(error).__name__}: {error}")
        findings += result if isinstance(result, list) else [result]
    return findings


def _python() -> Finding:
    return Finding("python", True, f"{platform.python_version()} on {platform.platform()}")


def _packages() -> list[Finding]:
    findings = []
    for name, extra in PACKAGES.items():
        try:
            findings.append(Finding(name, True, metadata.version(name)))
        except metadata.PackageNotFoundError:
            mend = (
                f"optional; pip install 'ctnet-toolkit[{extra}]'" if extra else f"missing: pip install {name}"
            )
            findings.append(Finding(name, bool(extra), f"not installed ({mend})"))
    return findings


def _torchvision() -> Finding:
    """Its compiled operators load only beside the torch they were built for."""
    try:
        importlib.import_module("torchvision")
        importlib.import_module("torchvision.ops").nms  # noqa: B018  (looking it up is the test)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        return Finding("torchvision", False, f"{TORCHVISION_TRAP} ({type(error).__name__}: {error})")
    return Finding("torchvision", True, "loads, and fits this torch")


def _devices() -> list[Finding]:
    import torch

    threads = f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    findings = [Finding("cpu", True, threads)]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            findings.append(
                Finding(f"cuda:{index}", True, f"{about.name}, {about.total_memory / 2**30:.0f} GiB")
            )
    elif torch.version.cuda:
        findings.append(
            Finding("cuda", True, f"this torch is built for CUDA {torch.version.cuda}, but no GPU is seen")
        )
    else:
        findings.append(Finding("cuda", True, "this torch is a CPU build"))
    return findings


def _deformable_convolution() -> list[Finding]:
    import torch

    from ctnet.ops.deform_conv import Path, active_path, deform_conv2d

    findings = []
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        generator = torch.Generator().manual_seed(0)
        shapes = ((2, 8, 9, 11), (2, 18, 9, 11), (6, 8, 3, 3), (2, 9, 9, 11))
        x, offset, weight, mask = (torch.randn(shape, generator=generator).to(device) for shape in shapes)
        ours = deform_conv2d(x, offset, weight, mask=mask, padding=1)
        path = active_path(x.device)
        other: Path = "torchvision" if path == "gather" else "gather"
        reference = deform_conv2d(x, offset, weight, mask=mask, padding=1, path=other)
        difference = (ours - reference).abs().max().item()
        good = difference < 1e-4
        text = f"{path} path; differs from the {other} path by {difference:.1e}"
        findings.append(Finding(f"deformable convolution ({device})", good, text))
    return findings


def _plugins() -> list[Finding]:
    from ctnet.base.errors import CtnetError
    from ctnet.base.plugins import discover

    findings = []
    for group in ("ctnet.tasks", "ctnet.backbones"):
        for name, plugin in discover(group).items():
            try:
                plugin.load()
                findings.append(Finding(f"{group} {name}", True, f"{plugin.distribution} {plugin.version}"))
            except CtnetError as error:
                findings.append(Finding(f"{group} {name}", False, str(error)))
    return findings
