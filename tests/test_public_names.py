"""The public names of the library: each exists, is listed by ``dir``, and is on the page that lists them."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "public-names.md"
SECTIONS = dict(
    re.findall(r"^## (ctnet[\w.]*)\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
)


def test_the_page_has_every_public_module() -> None:
    submodules = ("analysis", "backbones", "checkpoint", "heatmap", "ops", "plugin", "testing")
    assert set(SECTIONS) == {"ctnet", *(f"ctnet.{name}" for name in submodules)}


@pytest.mark.parametrize("module", SECTIONS)
def test_the_page_names_what_the_module_says_is_public(module: str) -> None:
    loaded = importlib.import_module(module)
    listed = SECTIONS[module]
    if module == "ctnet.plugin":
        names = re.findall(r"`(\w+)`", listed)
    else:
        names = re.findall(r"^\| `(\w+)` \|", listed, re.MULTILINE)
    assert sorted(names) == sorted(loaded.__all__)
    assert set(loaded.__all__) <= set(dir(loaded))
    for name in names:
        assert getattr(loaded, name) is not None


def test_dir_is_what_is_public() -> None:
    import ctnet
    import ctnet.inference.sources

    assert dir(ctnet) == sorted(ctnet.__all__)


def test_the_modules_that_ctnet_names_are_the_public_ones() -> None:
    import ctnet

    named = {f"ctnet.{name}" for name in ctnet.__all__ if f"ctnet.{name}" in SECTIONS}
    modules = {name for name in ctnet.__all__ if isinstance(getattr(ctnet, name), type(ctnet))}
    assert named == {f"ctnet.{name}" for name in modules} == set(SECTIONS) - {"ctnet"}
