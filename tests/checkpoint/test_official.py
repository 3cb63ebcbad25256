from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ctnet.backbones import Backbone
from ctnet.base.errors import CtnetError
from ctnet.checkpoint import (
    MEAN,
    STD,
    Description,
    from_official,
    load,
    load_model,
    load_official,
    official,
    official_state_dict,
    read_tensors,
    save,
    to_official,
)
from ctnet.checkpoint.released_data import COCO, KITTI, VOC
from ctnet.core.heads import Head
from ctnet.core.task import Task, create_task, list_tasks, load_task_class
from ctnet.model import CenterNet, create_model
from ctnet.tasks.ctdet import CenterDetection

BACKBONES = {"res": "resnet{}", "resdcn": "resdcn{}", "dla": "dla{}", "hourglass": "hourglass104"}


def backbone_of(arch: str) -> str:
    """The reference's name of an architecture -> ours."""
    family, _, depth = arch.partition("_")
    return BACKBONES[family].format(depth)


def layouts(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in sorted(folder.glob("state_dict_*.json")):
        yield file, json.loads(file.read_text())


def empty_network(document: dict[str, Any]) -> CenterNet:
    """The network of a layout under the release's names of heads, its memory not yet filled."""
    heads = {name: Head(channels) for name, channels in document["heads"].items()}
    with torch.device("meta"):
        network = create_model(heads, backbone_of(document["arch"]))
    return network.to_empty(device="cpu").eval()


def cheap_state(document: dict[str, Any]) -> dict[str, Tensor]:
    """A state dict that takes no memory: every entry has its own value, the stem one per channel."""
    state = {}
    for place, (name, shape, dtype) in enumerate(document["state_dict"]):
        value = torch.tensor(place, dtype=getattr(torch, dtype.removeprefix("torch.")))
        state[name] = value.expand(shape)
        if len(shape) == 4 and shape[1] == 3:
            state[name] = (value + torch.arange(3)).view(1, 3, 1, 1).expand(shape)
    return state


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name]) for name in first
    )


# --- against the reference


@pytest.mark.golden
def test_networks_have_the_published_layout_and_size(golden: Path) -> None:
    documents = list(layouts(golden))
    assert documents
    for file, document in documents:
        with torch.device("meta"):
            heads = {name: Head(channels) for name, channels in document["heads"].items()}
            network = create_model(heads, backbone_of(document["arch"]))
        ours = official_state_dict(network)
        theirs = {name: shape for name, shape, _ in document["state_dict"]}
        unused = {name for name in theirs if name.startswith("base.fc.")}
        assert {name: list(value.shape) for name, value in ours.items()} == {
            name: shape for name, shape in theirs.items() if name not in unused
        }, file.name
        parameters = sum(parameter.numel() for parameter in network.parameters())
        left_out = sum(int(np.prod(theirs[name])) for name in unused)
        assert parameters + left_out == document["num_parameters"], file.name


@pytest.mark.golden
def test_forward_equals_the_published_networks(golden: Path, recipe_state: Callable[..., Any]) -> None:
    files = sorted(golden.glob("forward_*.npz"))
    assert files
    for file in files:
        arrays = np.load(file)
        layout = golden / f"state_dict_{file.stem.removeprefix('forward_')}.json"
        document = json.loads(layout.read_text())
        network = empty_network(document)
        load_official(network, recipe_state(document, int(arrays["seed"])), channel_order="keep")
        for suffix in ("", "_b"):
            if f"input_shape{suffix}" in arrays:
                _compare(network, arrays, suffix, file.name)


def _compare(network: CenterNet, arrays: Any, suffix: str, name: str) -> None:
    images = np.random.default_rng(7).standard_normal(arrays[f"input_shape{suffix}"]).astype(np.float32)
    with torch.no_grad():
        stacks = network(torch.from_numpy(images))
    for head in network.heads:
        expected = torch.from_numpy(arrays[head + suffix])
        tolerance = 1e-3 * expected.std(correction=0).item()
        torch.testing.assert_close(
            stacks[-1][head], expected, rtol=1e-3, atol=tolerance, msg=f"{name} {head}"
        )
        for stack, maps in enumerate(stacks[:-1]):
            key = f"{head}_stack{stack}_{{}}{suffix}"
            mean, std = (float(arrays[key.format(kind)]) for kind in ("mean", "std"))
            assert maps[head].mean().item() == pytest.approx(mean, rel=1e-3, abs=1e-3 * std)
            assert maps[head].std(correction=0).item() == pytest.approx(std, rel=1e-3)


@pytest.mark.thorough
@pytest.mark.golden
def test_every_layout_survives_the_way_there_and_back(golden: Path) -> None:
    """Through a network with heads given directly, so that no task has to be installed."""
    for file, document in layouts(golden):
        network, state = empty_network(document), cheap_state(document)
        load_official(network, {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}})
        used = {name: value for name, value in state.items() if not name.startswith("base.fc.")}
        assert equal(official_state_dict(network), used), file.name


@pytest.mark.thorough
@pytest.mark.golden
def test_every_file_of_an_installed_task_survives_the_way_there_and_back(
    golden: Path, tmp_path: Path
) -> None:
    converted, installed = 0, [load_task_class(name) for name in list_tasks()]
    for file, document in layouts(golden):
        state, source = cheap_state(document), tmp_path / f"{file.stem}.pth"
        optimizer = {"state": {0: {"step": 1, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
        wrapped = {f"module.{name}": value for name, value in state.items()}
        torch.save({"epoch": 140, "state_dict": wrapped, "optimizer": optimizer}, source)
        if not any(set(document["heads"]) <= set(official._released(cls).values()) for cls in installed):
            with pytest.raises(CtnetError, match="no installed task has the heads"):
                from_official(source, tmp_path / "ours.pt")
            continue
        done = from_official(source, tmp_path / "ours.pt")
        converted += 1
        unused = [name for name in state if name.startswith("base.fc.")]
        assert done.description.backbone == backbone_of(document["arch"])
        assert done.dropped == unused
        left_out = sum(state[name].numel() for name in unused)
        assert done.parameters + left_out == document["num_parameters"]
        assert load(tmp_path / "ours.pt").description == done.description
        to_official(tmp_path / "ours.pt", tmp_path / "back.pth")
        assert equal(read_tensors(tmp_path / "back.pth")["state_dict"], state), file.name
    assert converted


# --- a small network of the release, for the tests that need no reference


@pytest.fixture(scope="module")
def resnet() -> CenterNet:
    torch.manual_seed(0)
    heads = create_task("ctdet", [{"id": i, "name": f"thing {i}"} for i in range(1, 4)]).heads
    return create_model(heads, "resdcn18").eval()


@pytest.fixture(scope="module")
def state(resnet: CenterNet) -> dict[str, Tensor]:
    """A file of the release, written by hand."""
    names = {"heatmap": "hm", "size": "wh", "offset": "reg"}
    state = {}
    for name, value in resnet.state_dict().items():
        room, *rest = name.split(".")
        official_name = ".".join(rest) if room == "backbone" else ".".join([names[rest[1]], *rest[2:]])
        state[official_name] = value
    state["conv1.weight"] = state["conv1.weight"][:, [2, 1, 0]]
    return state


def heads_of(classes: int) -> Any:
    return create_task("ctdet", [{"id": i, "name": str(i)} for i in range(1, classes + 1)]).heads


def with_classes(state: dict[str, Tensor], classes: int) -> dict[str, Tensor]:
    head = {"hm.2.weight": torch.rand(classes, 64, 1, 1), "hm.2.bias": torch.rand(classes)}
    return {**state, **head}


@pytest.fixture
def file(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    torch.save({"epoch": 1, "state_dict": with_classes(state, 80)}, tmp_path / "release.pth")
    return tmp_path / "release.pth"


def test_a_network_for_bgr_images_reads_rgb_ones(resnet: CenterNet, state: dict[str, Tensor]) -> None:
    images = torch.rand(1, 3, 64, 64)
    as_is, reversed_ = (
        create_model(heads_of(3), "resdcn18").eval(),
        create_model(heads_of(3), "resdcn18").eval(),
    )
    load_official(as_is, state, channel_order="keep")
    load_official(reversed_, state)
    with torch.no_grad():
        expected = resnet(images)[0]["heatmap"]
        torch.testing.assert_close(reversed_(images)[0]["heatmap"], expected)
        torch.testing.assert_close(as_is(images.flip(1))[0]["heatmap"], expected)
        assert not torch.allclose(as_is(images)[0]["heatmap"], expected)


def test_the_inverse(resnet: CenterNet, state: dict[str, Tensor]) -> None:
    assert equal(official_state_dict(resnet), state)
    kept = official_state_dict(resnet, channel_order="keep")
    assert torch.equal(kept["conv1.weight"], resnet.backbone.conv1.weight)


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"state_dict": s, "optimizer": 3}]
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrapping_and_prefixes(tmp_path: Path, state: dict[str, Tensor], wrap: Any, prefix: str) -> None:
    content = wrap({prefix + name: value for name, value in state.items()})
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    for source in (content, tmp_path / "a.pth"):
        network = create_model(heads_of(3), "resdcn18")
        load_official(network, source)
        assert equal(official_state_dict(network), state)


def test_a_mismatch_is_a_table_and_changes_nothing(state: dict[str, Tensor]) -> None:
    network = create_model(heads_of(3), "resdcn18")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    changed = {**with_classes(state, 5), "more.weight": torch.zeros(2)}
    del changed["bn1.bias"]
    with pytest.raises(CtnetError) as raised:
        load_official(network, changed)
    first, rows = str(raised.value), list(raised.value.details)
    assert first == (
        "the state dict does not fit the network: 1 entries are missing, 1 unexpected, 2 of another shape; "
        "nothing was loaded"
    )
    assert rows == [
        "  missing      bn1.bias [64]",
        "  unexpected   more.weight [2]",
        "  other shape  hm.2.weight [5, 64, 1, 1] for [3, 64, 1, 1]",
        "  other shape  hm.2.bias [5] for [3]",
    ]
    assert equal(network.state_dict(), before)


def test_a_long_table_is_cut(state: dict[str, Tensor]) -> None:
    with pytest.raises(CtnetError) as raised:
        load_official(create_model(heads_of(3), "resdcn34"), state)
    assert "... and " in raised.value.details[-1]
    assert len(raised.value.details) < 30


def test_wrong_channel_order() -> None:
    with pytest.raises(CtnetError, match="channel_order is 'rgb'; it must be 'bgr' or 'keep'"):
        load_official(CenterNet(Backbone(), {}), {}, channel_order="rgb")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no weights"),
        ({"state_dict": {}}, "holds no weights"),
        ({"epoch": 3}, "holds no state dict"),
        (torch.zeros(3), "holds no state dict"),
        ({"a.weight": torch.zeros(3)}, r"holds no network of the release \(ResNet, DLA-34, Hourglass-104\)"),
    ],
)
def test_files_that_hold_something_else(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CtnetError, match=rf"a\.pth {message}"):
        from_official(tmp_path / "a.pth", tmp_path / "b.pt")
    assert not (tmp_path / "b.pt").exists()


def test_a_pickle_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": nn.Linear(1, 1)}, tmp_path / "a.pth")
    with pytest.raises(CtnetError, match=r"a\.pth holds Python objects besides tensors.*never runs code"):
        from_official(tmp_path / "a.pth", tmp_path / "b.pt")


# --- recognition


def test_a_converted_file_is_a_detector(file: Path, tmp_path: Path, state: dict[str, Tensor]) -> None:
    done = from_official(file, tmp_path / "ours.pt")
    assert (done.description.task, done.description.backbone, done.data) == ("ctdet", "resdcn18", "COCO")
    assert (done.description.mean, done.description.std) == (MEAN, STD)
    task, network = load_model(load(tmp_path / "ours.pt"))
    assert task.categories.names[:3] == ("person", "bicycle", "car")
    assert torch.equal(network.backbone.conv1.weight, state["conv1.weight"][:, [2, 1, 0]])


@pytest.mark.parametrize(
    ("classes", "name", "first", "size"),
    [
        (80, "COCO", "person", (512, 512)),
        (20, "Pascal VOC", "aeroplane", (384, 384)),
        (3, "KITTI", "Pedestrian", (1280, 384)),
    ],
)
def test_categories_by_their_number(
    tmp_path: Path, state: dict[str, Tensor], classes: int, name: str, first: str, size: tuple[int, int]
) -> None:
    torch.save(with_classes(state, classes), tmp_path / "a.pth")
    done = from_official(tmp_path / "a.pth", tmp_path / "b.pt")
    assert (done.data, done.description.categories[0]["name"]) == (name, first)
    assert done.description.size == size
    assert len(done.description.categories) == classes


def test_unknown_categories_have_to_be_named(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(with_classes(state, 7), tmp_path / "a.pth")
    with pytest.raises(
        CtnetError, match=r"the heads hm 7, wh 2, reg 2; name the categories with --names FILE"
    ):
        from_official(tmp_path / "a.pth", tmp_path / "b.pt")
    named = [{"id": 10 + i, "name": f"n{i}"} for i in range(7)]
    done = from_official(tmp_path / "a.pth", tmp_path / "b.pt", named)
    assert (done.description.categories, done.data) == (named, "COCO")
    with pytest.raises(
        CtnetError, match="6 categories do not match the heads hm 7, wh 2, reg 2 of task ctdet"
    ):
        from_official(tmp_path / "a.pth", tmp_path / "b.pt", named[:6])


def test_options_make_other_heads(tmp_path: Path, state: dict[str, Tensor]) -> None:
    specific = {
        **with_classes(state, 20),
        "wh.2.weight": torch.rand(40, 64, 1, 1),
        "wh.2.bias": torch.rand(40),
    }
    torch.save(specific, tmp_path / "a.pth")
    with pytest.raises(CtnetError, match="state the task's options with -O"):
        from_official(tmp_path / "a.pth", tmp_path / "b.pt")
    done = from_official(tmp_path / "a.pth", tmp_path / "b.pt", options={"class_specific_size": "true"})
    assert done.description.options["class_specific_size"] is True
    with pytest.raises(CtnetError, match=r"no option of task .* called 'class_specific'"):
        from_official(tmp_path / "a.pth", tmp_path / "b.pt", options={"class_specific": "true"})


def test_a_task_is_known_by_the_released_names_of_its_heads(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Angles(CenterDetection):
        name = "angles"
        scenes = None

        def __init__(self, categories: Any, **options: Any) -> None:
            super().__init__(categories, **options)
            self.heads = {**self.heads, "angle": Head(2, released="ang")}

    turned = {
        f"ang.{name}": value
        for name, value in (
            ("0.weight", torch.rand(64, 64, 3, 3)),
            ("0.bias", torch.rand(64)),
            ("2.weight", torch.rand(2, 64, 1, 1)),
            ("2.bias", torch.rand(2)),
        )
    }
    torch.save({**with_classes(state, 80), **turned}, tmp_path / "a.pth")
    with pytest.raises(
        CtnetError, match=r"no installed task has the heads hm 80, wh 2, reg 2, ang 2; install"
    ):
        from_official(tmp_path / "a.pth", tmp_path / "b.pt")
    tasks: list[type[Task]] = [Angles, CenterDetection]
    monkeypatch.setattr(official, "_installed_tasks", lambda: iter(tasks))
    assert from_official(tmp_path / "a.pth", tmp_path / "b.pt").description.task == "angles"
    assert "branches.0.angle.2.bias" in load(tmp_path / "b.pt").weights


@pytest.mark.parametrize(("name", "shape"), [("layer4.1.bn2.bias", None), ("layer4.1.bn2.bias", (7,))])
def test_an_unknown_network_is_compared_with_the_nearest(
    tmp_path: Path, state: dict[str, Tensor], name: str, shape: tuple[int, ...] | None
) -> None:
    changed = with_classes(state, 80)
    del changed[name]
    if shape:
        changed[name] = torch.zeros(shape)
    torch.save(changed, tmp_path / "a.pth")
    with pytest.raises(CtnetError) as raised:
        from_official(tmp_path / "a.pth", tmp_path / "b.pt")
    assert "does not fit resdcn18, the nearest network" in str(raised.value)
    assert raised.value.details[0].split()[-2:] == (
        ["layer4.1.bn2.bias", "[512]"] if not shape else ["for", "[512]"]
    )


# --- the way back


def test_the_file_itself_cannot_be_converted_twice(file: Path, tmp_path: Path) -> None:
    from_official(file, tmp_path / "ours.pt")
    with pytest.raises(CtnetError, match=r"ours\.pt is already a checkpoint of ctnet"):
        from_official(tmp_path / "ours.pt", tmp_path / "b.pt")
    with pytest.raises(CtnetError, match=r"release\.pth was not written by ctnet"):
        to_official(file, tmp_path / "b.pt")


@pytest.mark.thorough
def test_entries_that_no_network_has_come_back(tmp_path: Path) -> None:
    """DLA's classifier, which the release stores without using it."""
    network = create_model(create_task("ctdet", COCO.categories).heads, "dla34")
    classifier = {"base.fc.weight": torch.rand(1000, 512, 1, 1), "base.fc.bias": torch.rand(1000)}
    state = {**official_state_dict(network), **classifier}
    torch.save({"state_dict": state}, tmp_path / "release.pth")
    done = from_official(tmp_path / "release.pth", tmp_path / "ours.pt")
    assert done.dropped == ["base.fc.weight", "base.fc.bias"]
    assert not any("fc" in name for name in load(tmp_path / "ours.pt").weights)
    to_official(tmp_path / "ours.pt", tmp_path / "back.pth")
    assert equal(read_tensors(tmp_path / "back.pth")["state_dict"], state)
    trained = load(tmp_path / "ours.pt")
    save(tmp_path / "trained.pt", trained.description, trained.weights)
    to_official(tmp_path / "trained.pt", tmp_path / "back.pth")
    assert equal(read_tensors(tmp_path / "back.pth")["state_dict"], official_state_dict(network))


class Nameless(CenterDetection):
    """A task whose heads, except the heatmap, have no released names."""

    name = "nameless"

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        self.heads = {
            name: head if name == "heatmap" else dataclasses.replace(head, released="")
            for name, head in self.heads.items()
        }


def test_networks_that_the_release_does_not_have(
    tmp_path: Path, register_task: Callable[[type[Task]], str]
) -> None:
    task = create_task("ctdet", VOC.categories)
    save(tmp_path / "a.pt", Description.of(task, "resfpn18", (64, 64)), {})
    with pytest.raises(CtnetError, match="the released code has no network resfpn18"):
        to_official(tmp_path / "a.pt", tmp_path / "b.pth")
    save(tmp_path / "a.pt", Description.of(task, "resnet18", (64, 64)), {})
    task = create_task(register_task(Nameless), [{"id": 1, "name": "a"}])
    save(tmp_path / "a.pt", Description.of(task, "resnet18", (64, 64)), {})
    with pytest.raises(CtnetError, match="the released code has no head for size, offset of task nameless"):
        to_official(tmp_path / "a.pt", tmp_path / "b.pth")


@pytest.mark.real
def test_categories_are_those_of_the_data_sets(shared_data: Path) -> None:
    file = shared_data / "coco-mini/annotations/instances_val2017.json"
    if not file.exists():
        pytest.skip(f"no {file}")
    expected = [{"id": one["id"], "name": one["name"]} for one in json.loads(file.read_text())["categories"]]
    assert expected == COCO.categories


def test_released_normalisation_is_bgr_turned_round() -> None:
    """The release normalises BGR images with (0.485, 0.456, 0.406) for VOC and KITTI."""
    assert VOC.mean[::-1] == KITTI.mean[::-1] == (0.485, 0.456, 0.406)
    assert VOC.std[::-1] == (0.229, 0.224, 0.225)
    assert [len(data.categories) for data in (COCO, VOC, KITTI)] == [80, 20, 3]
