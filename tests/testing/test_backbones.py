"""Every registered backbone keeps the contract; the largest ones are slow."""

from __future__ import annotations

import pytest

from ctnet.backbones import describe_backbone, list_backbones
from ctnet.testing import backbone_checks, check_backbone

NAMES = list_backbones()
SMALL = [name for name in NAMES if describe_backbone(name).parameters < 30e6]


@backbone_checks(*SMALL)
def test_contract(factory, check) -> None:
    check(factory)


@pytest.mark.slow
@backbone_checks(*(name for name in NAMES if name not in SMALL))
def test_contract_of_large_backbones(factory, check) -> None:
    check(factory)


def test_check_backbone_takes_a_name() -> None:
    assert {outcome.result for outcome in check_backbone("resfpn18")} == {"passed"}
