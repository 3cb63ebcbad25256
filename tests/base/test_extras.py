"""Modules of extras that are not installed."""

from __future__ import annotations

import re
import sys

import pytest

from ctnet.base.errors import CtnetError
from ctnet.base.extras import need


@pytest.mark.parametrize(
    ("module", "extra"),
    [("onnxruntime.quantization", "export"), ("nncf", "openvino"), ("python_multipart", "serve")],
)
def test_the_extra_of_a_missing_module_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    for name in (module, module.partition(".")[0]):
        monkeypatch.setitem(sys.modules, name, None)
    install = re.escape(f"install it with: pip install --upgrade 'ctnet-toolkit[{extra}]'")
    with pytest.raises(CtnetError, match=rf"^{re.escape(module)} cannot be imported .*; {install}$"):
        need(module)
