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


# --- a budget


@pytest.mark.usefixtures("known_times")
def test_a_budget_proposes_a_backbone_and_a_size(ctnet, tiny: str) -> None:
    done = ctnet("backbones", tiny, "--budget", "2ms", "--threads", 2)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == ["backbone", "input", "predicted,", "ms", "million", "multiply-adds"]
    name, size, predicted, _, note = lines[2].split()
    assert (name, note) == (tiny, "chosen")
    assert 0 < float(predicted) <= 2
    side = size.partition("x")[0]
    takes = int(side) ** 2 / 1e5
    assert (
        f"{tiny} at {size}: predicted {predicted} ms, measured {takes:.1f} ms (median of 15, 2 threads)"
        in lines
    )
    assert lines[-1] == f"train it: `ctnet train TASK --backbone {tiny} --size {side}`"


@pytest.mark.usefixtures("known_times")
def test_a_budget_as_json(ctnet, tiny: str) -> None:
    found = json.loads(ctnet("backbones", tiny, "--budget", "0.002s", "--size", "128x64", "--json").out)
    assert found["budget"] == {"milliseconds": 2.0, "threads": 1}
    assert found["chosen"]["backbone"] == tiny
    assert found["chosen"]["size"] == [128, 64]
    assert found["chosen"]["measured"] == pytest.approx(0.08192)
    assert [one["backbone"] for one in found["candidates"]] == [tiny]


MISTAKES = [
    (["--budget", "fast"], "--budget is 'fast'; write a time per image, such as 30ms or 0.5s"),
    (["--budget", "30"], "--budget is '30'; write a time per image"),
    (["--budget", "0ms"], "--budget is '0ms'; write a time per image"),
    (["--budget", "-3ms"], "--budget is '-3ms'; write a time per image"),
    (["--budget", "nanms"], "--budget is 'nanms'; write a time per image"),
    (["--budget", "infs"], "--budget is 'infs'; write a time per image"),
    (["--budget", "3mss"], "--budget is '3mss'; write a time per image"),
    (["--threads", 2], "--threads is for --budget; add that, or leave it out"),
    (["--size", 256], "--size is for --budget"),
    (
        ["--budget", "0.001ms"],
        "no backbone takes 0.001 ms on 1 thread or less: the fastest, tiny at 128x128,",
    ),
    (["--budget", "2ms", "--size", 100], "size 100x100 does not fit tiny"),
    (["--budget", "2ms", "--size", "big"], "--size is 'big'"),
    (["--budget", "2ms", "--task", "ctdett"], "there is no task called 'ctdett'; did you mean ctdet"),
]


@pytest.mark.usefixtures("known_times")
@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(map(str, m[0])) for m in MISTAKES])
def test_a_budget_that_is_wrong_is_one_line(ctnet, tiny: str, arguments, message: str) -> None:
    assert ctnet("backbones", tiny, *arguments).message.startswith(message)


def test_a_budget_for_a_pattern_without_a_match(ctnet) -> None:
    assert "did you mean resfpn18" in ctnet("backbones", "resfpn19", "--budget", "30ms").message
