from __future__ import annotations

import json

import pytest


def test_all_are_listed_with_figures(ctnet) -> None:
    rows = {row["name"]: row for row in json.loads(ctnet("backbones", "--json").out)}
    assert {"resnet18", "resdcn101", "resfpn18"} <= set(rows)
    assert rows["resnet18"]["parameters"] > 11e6
    assert (rows["resfpn18"]["stride"], rows["resfpn18"]["divisor"]) == (4, 32)
    assert rows["hourglass104"]["divisor"] == 128
    assert rows["timm/<model>"]["source"].startswith("timm")


def test_a_family_is_one_row(ctnet) -> None:
    assert [row["name"] for row in json.loads(ctnet("backbones", "timm/*", "--json").out)] == ["timm/<model>"]


def test_models_of_a_family(ctnet) -> None:
    pytest.importorskip("timm")
    rows = json.loads(ctnet("backbones", "timm/resnet1?", "--json").out)
    assert [row["name"] for row in rows] == ["timm/resnet10", "timm/resnet18"][-len(rows) :]
    assert all(row["parameters"] > 1e6 for row in rows)
    refused = ctnet("backbones", "timm/maxvit_tiny_tf_224").out.splitlines()[-1]
    assert "does not accept images of any size" in refused
    assert "did you mean timm/resnet18" in ctnet("backbones", "timm/resnte18").message


def test_a_pattern_selects(ctnet) -> None:
    names = [row["name"] for row in json.loads(ctnet("backbones", "resdcn*", "--json").out)]
    assert names == ["resdcn18", "resdcn34", "resdcn50", "resdcn101", "resdcn152"]


def test_the_table(ctnet) -> None:
    done = ctnet("backbones", "resfpn18")
    assert done.err == ""
    assert done.out.splitlines()[-1].split()[:3] == ["resfpn18", "11.8", "M"]


def test_a_pattern_without_a_match_offers_the_nearest(ctnet) -> None:
    assert (
        "there is no backbone called 'resnet19'; did you mean resnet18"
        in ctnet("backbones", "resnet19").message
    )
