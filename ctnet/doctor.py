"""The checks of ``ctnet doctor``: versions, devices, fast paths, and common installation problems."""

from __future__ import annotations

import importlib
import math
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from ctnet.base.errors import CtnetError
from ctnet.base.extras import EXTRAS

if TYPE_CHECKING:
    from torch import Tensor

#: Distributions whose versions matter, with the extra that installs the optional ones.
PACKAGES = {
    "torch": "",
    "torchvision": "",
    "numpy": "",
    "opencv-python-headless": "",
    "pillow": "",
    "pycocotools": "",
    "faster-coco-eval": "",
    "typer": "",
    "rich": "",
    **EXTRAS,
}

#: Largest allowed error of a fast path relative to the largest value: a few roundings in float32.
BOUND = 1e-4

TORCHVISION_TRAP = (
    "torchvision does not match this torch: most likely torch came from the CPU-only index and torchvision "
    "from PyPI (or the other way round). Both must come from one place: "
    "pip uninstall torch torchvision, then pip install torch torchvision in one command"
)


#: How to install a torch that has no CUDA libraries: before ctnet, which then keeps it.
CPU_ONLY = "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu"

#: Distributions that a CPU-only build of torch does without, by the beginnings of their names.
_FOR_CUDA = ("nvidia-", "cuda-", "triton")


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was checked.
        good: False where something needs fixing.
        text: the result, and the fix.
    """

    name: str
    good: bool
    text: str


def examine() -> list[Finding]:
    """Run all checks; never raises."""
    checks: list[tuple[str, Callable[[], Finding | list[Finding]]]] = [
        ("python", _python),
        ("packages", _packages),
        ("installed size", _installed_size),
        ("torchvision", _torchvision),
        ("devices", _devices),
        ("fast path: deformable convolution", _deformable_convolution),
        ("fast path: Winograd in inference", _winograd_in_inference),
        ("fast path: Winograd in training", _winograd_in_training),
        ("deformable convolution (cuda)", _deformable_convolution_on_cuda),
        ("plugins", _plugins),
    ]
    findings: list[Finding] = []
    for name, check in checks:
        try:
            result = check()
        except CtnetError as error:
            result = Finding(name, False, str(error))
        except Exception as error:  # any failure is reported
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
            fix = (
                f"optional; pip install 'ctnet-toolkit[{extra}]'" if extra else f"missing: pip install {name}"
            )
            findings.append(Finding(name, bool(extra), f"not installed ({fix})"))
    return findings


def _installed_size() -> Finding:
    """Bytes of ctnet and all that it needs, as their installers noted them."""
    sizes = _sizes(["ctnet-toolkit", *(name for name, extra in PACKAGES.items() if not extra)])
    text = f"{sum(sizes.values()) / 1e9:.1f} GB with all that ctnet needs"
    cuda = sum(size for name, size in sizes.items() if name.startswith(_FOR_CUDA))
    if cuda:
        text += (
            f", {cuda / 1e9:.1f} GB of it libraries for GPUs; without them: a new environment, "
            f"{CPU_ONLY}, then ctnet"
        )
    return Finding("installed size", True, text)


def _sizes(names: list[str]) -> dict[str, int]:
    """Bytes of distributions and of what they need, by name; the needs of extras are left out."""
    sizes: dict[str, int] = {}
    while names:
        name = re.sub(r"[-_.]+", "-", names.pop()).lower()
        if name in sizes:
            continue
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # of another platform, or ctnet itself from a folder
            continue
        sizes[name] = sum(file.size or 0 for file in found.files or [])
        needs = (need for need in found.requires or [] if "extra ==" not in need)
        names += [match[0] for need in needs if (match := re.match(r"[\w.-]+", need))]
    return sizes


def _torchvision() -> Finding:
    """Its compiled operators load only with the torch that they were built for."""
    try:
        importlib.import_module("torchvision")
        importlib.import_module("torchvision.ops").nms  # noqa: B018  (looking it up is the test)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        return Finding("torchvision", False, f"{TORCHVISION_TRAP} ({type(error).__name__}: {error})")
    return Finding("torchvision", True, "loads, and matches this torch")


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
            Finding("cuda", True, f"this torch is built for CUDA {torch.version.cuda}, but no GPU is visible")
        )
    else:
        findings.append(Finding("cuda", True, "this torch is a CPU build"))
    return findings


def _fast_path(name: str, compute: Callable[[], list[Tensor]]) -> Finding:
    """Compare a fast path with the plain one, even if fast paths are turned off."""
    from ctnet.ops.fast import VARIABLE, fast_paths, fast_paths_enabled

    with fast_paths(True):
        found = compute()
    with fast_paths(False):
        difference = _difference(found, compute())
    state = "" if fast_paths_enabled() else f"; turned off by {VARIABLE}=0"
    text = f"differs from the plain path by {difference:.1e} of the largest value (bound {BOUND:.0e}){state}"
    return Finding(name, difference <= BOUND, text)


def _difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference of any two tensors relative to the largest value; NaN if either has NaN."""
    pairs = zip(found, expected, strict=True)
    shares = [((one - other).abs().max() / other.abs().max()).item() for one, other in pairs]
    return max(shares, key=lambda share: math.inf if math.isnan(share) else share)


def _deformable_convolution() -> Finding:
    return _fast_path("fast path: deformable convolution", lambda: _deform("cpu"))


def _deform(device: str) -> list[Tensor]:
    """The output and all gradients, on the CPU."""
    from ctnet.ops.deform_conv import deform_conv2d

    def run(x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
        return deform_conv2d(x, offset, weight, bias, mask, padding=1)

    shapes = ((2, 8, 9, 11), (2, 18, 9, 11), (6, 8, 3, 3), (6,), (2, 9, 9, 11))
    return _with_gradients(run, shapes, device)


def _with_gradients(
    function: Callable[..., Tensor], shapes: Sequence[tuple[int, ...]], device: str = "cpu"
) -> list[Tensor]:
    """A function's outputs and gradients for random inputs of these shapes, on the CPU."""
    import torch

    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator).to(device).requires_grad_() for shape in shapes]
    out = function(*inputs)
    slopes = torch.randn(out.shape, generator=generator).to(device)
    return [tensor.detach().cpu() for tensor in (out, *torch.autograd.grad(out, inputs, slopes))]


def _winograd_in_training() -> Finding:
    from torch.func import functional_call

    from ctnet.ops.winograd_layers import TrainingWinograd

    layer = TrainingWinograd(64, 72, 3, padding=1)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out: Tensor = functional_call(layer, {"weight": weight, "bias": bias}, (x,))
        return out

    shapes = ((2, 64, 24, 20), (72, 64, 3, 3), (72,))
    return _fast_path("fast path: Winograd in training", lambda: _with_gradients(run, shapes))


def _winograd_in_inference() -> Finding:
    import torch
    from torch import nn

    from ctnet.ops.winograd_layers import InferenceWinograd

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = torch.randn(2, 64, 24, 20)
        layers = [
            InferenceWinograd(nn.Conv2d(64, 64, 3, padding=1)),
            InferenceWinograd(nn.ConvTranspose2d(64, 64, 4, stride=2, padding=1)),
            InferenceWinograd(nn.Conv2d(64, 64, 3, padding=1), tail=nn.Conv2d(64, 5, 1)),
        ]

    def run() -> list[Tensor]:
        with torch.no_grad():
            return [layer(x) for layer in layers]

    return _fast_path("fast path: Winograd in inference", run)


def _deformable_convolution_on_cuda() -> list[Finding]:
    """torchvision's GPU kernels, compared with the CPU."""
    import torch

    if not torch.cuda.is_available():
        return []
    difference = _difference(_deform("cuda"), _deform("cpu"))
    text = f"differs from the CPU by {difference:.1e} of the largest value (bound {BOUND:.0e})"
    return [Finding("deformable convolution (cuda)", difference <= BOUND, text)]


def _plugins() -> list[Finding]:
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
