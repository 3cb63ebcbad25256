"""What the extras of the distribution install, and the import of modules that only they bring."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from ctnet.base.errors import CtnetError

#: The extra that installs each optional distribution.
EXTRAS = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow-skinny": "mlflow",
    "sqlalchemy": "mlflow",
    "alembic": "mlflow",
    "matplotlib": "plots",
    "timm": "timm",
    "av": "video",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "openvino": "openvino",
    "nncf": "openvino",
    "starlette": "serve",
    "uvicorn": "serve",
    "python-multipart": "serve",
}

#: Lowest versions; older ones lack operators, or the names that the exporter uses for them.
_FLOORS = {"onnxscript": (0, 7, 1), "onnxruntime": (1, 25)}


def need(module: str) -> Any:
    """Import a module of an optional extra.

    Args:
        module: name of the module; its package is called as its distribution is, with ``_`` in place of
            ``-``.

    Raises:
        CtnetError: naming the extra, for a module that is not installed, too old or cannot be imported.
    """
    distribution = module.partition(".")[0].replace("_", "-")
    install = f"pip install --upgrade 'ctnet-toolkit[{EXTRAS[distribution]}]'"
    try:
        loaded = import_module(module)
    except ImportError as error:
        raise CtnetError(f"{module} cannot be imported ({error}); install it with: {install}") from error
    floor = _FLOORS.get(module, ())
    found = getattr(loaded, "__version__", "")
    if tuple(map(int, re.findall(r"\d+", found)[:3])) < floor:
        wanted = ".".join(map(str, floor))
        raise CtnetError(f"{module} {found} is too old, ctnet needs {wanted}; update it with: {install}")
    return loaded
