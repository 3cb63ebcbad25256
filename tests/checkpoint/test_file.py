from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ctnet import checkpoint
from ctnet.backbones import Backbone
from ctnet.base.errors import CtnetError
from ctnet.checkpoint import Description, load, load_model, load_weights, read_tensors, save
from ctnet.checkpoint.file import save_operating_points
from ctnet.core.operating import OperatingPoint, OperatingPoints
from ctnet.core.task import Task, create_task
from ctnet.model import CenterNet, create_model

CATEGORIES = [{"id": 3, "name": "ball", "colour": "red"}, {"id": 8, "name": "box"}]


class Patches(Backbone):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels, self.hidden = channels, 4
        self.layer = nn.Conv2d(3, channels, 4, stride=4)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.layer(images)]


@pytest.fixture(scope="module", autouse=True)
def _backbones(registered_backbones: Callable[..., AbstractContextManager[str]]) -> Iterator[None]:
    def narrow(pretrained: bool = False) -> Backbone:
        return Patches(4)

    def wide(pretrained: bool = False) -> Backbone:
        return Patches(6)

    with registered_backbones(narrow, wide):
        yield


@pytest.fixture
def task() -> Task:
    return create_task("ctdet", CATEGORIES, size_weight=0.3, radius="corrected")


@pytest.fixture
def model(task: Task) -> CenterNet:
    return create_model(task, "narrow")


@pytest.fixture
def description(task: Task) -> Description:
    return Description.of(task, "narrow", (96, 64))


@pytest.fixture
def file(tmp_path: Path, model: CenterNet, description: Description) -> Path:
    save(tmp_path / "a.pt", description, model.state_dict(), {"step": 7}, {"AP": 0.25})
    return tmp_path / "a.pt"


@pytest.fixture
def points() -> OperatingPoints:
    classes = {name: OperatingPoint(0.4, 0.9, 0.8, 0.85, 50) for name in ("ball", "box")}
    return OperatingPoints("f1", None, "IoU 0.5", "val", 60, classes, classes["ball"])


# --- what is written is read


def test_round_trip_is_exact(file: Path, model: CenterNet, description: Description) -> None:
    loaded = load(file)
    assert loaded.description == description
    assert loaded.training == {"step": 7}
    assert loaded.metrics == {"AP": 0.25}
    assert set(loaded.weights) == set(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.weights[name], tensor)


def test_operating_points_are_beside_the_weights(file: Path, points: OperatingPoints) -> None:
    before = load(file)
    assert before.operating_points is None
    save_operating_points(file, points)
    after = load(file)
    assert after.operating_points == points
    assert (after.training, after.metrics) == (before.training, before.metrics)
    assert all(torch.equal(after.weights[name], tensor) for name, tensor in before.weights.items())
    save(file, before.description, before.weights, operating_points=points)
    assert load(file).operating_points == points


def test_operating_points_of_other_classes_or_edited_ones(file: Path, points: OperatingPoints) -> None:
    other = replace(points, classes={"ball": points.everything, "cup": points.everything})
    with pytest.raises(
        CtnetError, match=r"the operating points in .*a\.pt are of other classes: 'box' is mis"
    ):
        save_operating_points(file, other)
    assert load(file).operating_points is None, "nothing was written"
    document = points.to_json()
    document["classes"]["ball"]["score"] = -0.1
    for text, message in (
        (json.dumps(document), r"at classes\.ball\.score: -0\.1"),
        ("{", "is not valid JSON"),
    ):
        torch.save({**read_tensors(file), "operating_points": text}, file)
        with pytest.raises(CtnetError, match=rf"the operating points in .*a\.pt.*{message}"):
            load(file)


def test_a_checkpoint_alone_makes_the_detector_again(file: Path, model: CenterNet) -> None:
    task, again = load_model(load(file))
    assert task.categories.names == ("ball", "box")
    assert task.categories[0]["colour"] == "red"
    assert task.options.size_weight == 0.3
    assert task.options.radius == "corrected"
    images = torch.rand(1, 3, 32, 32)
    for ours, theirs in zip(model(images)[0].values(), again(images)[0].values(), strict=True):
        assert torch.equal(ours, theirs)


def test_it_says_which_versions_wrote_it(file: Path) -> None:
    assert load(file).description.versions["torch"] == torch.__version__


# --- damaged files


def test_cut_in_half(file: Path) -> None:
    data = file.read_bytes()
    for size in (len(data) // 2, len(data) - 1, 1000, 100, 1):
        file.write_bytes(data[:size])
        with pytest.raises(CtnetError, match=r"a\.pt is (cut short or damaged|not a checkpoint)"):
            load(file)


def test_empty(file: Path) -> None:
    file.write_bytes(b"")
    with pytest.raises(CtnetError, match=r"a\.pt is cut short or damaged"):
        load(file)


def test_one_flipped_bit_in_a_weight_is_noticed(file: Path, model: CenterNet) -> None:
    data = bytearray(file.read_bytes())
    weight = model.backbone.layer.weight.detach().numpy().tobytes()
    data[data.index(weight) + 5] ^= 16
    file.write_bytes(data)
    with pytest.raises(CtnetError, match=r"a\.pt is cut short or damaged"):
        load(file)


@pytest.mark.parametrize("content", [b"hello world", b'{"a": 1}', b"<html></html>", bytes(range(256)) * 9])
def test_other_files_are_no_checkpoints(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(CtnetError, match=r"a\.pt is (cut short or damaged|not a checkpoint)"):
        load(file)


class Payload:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_code_in_a_file_is_never_run(tmp_path: Path, how: str) -> None:
    path, trace = tmp_path / "evil.pt", tmp_path / "it_ran"
    content = {"format": checkpoint.FORMAT, "weights": Payload(f"touch {trace}")}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(
        CtnetError, match=r"evil\.pt holds Python objects besides tensors; .* never runs code"
    ):
        load(path)
    assert not trace.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(CtnetError, match=r"save the state dict alone"):
        read_tensors(tmp_path / "module.pt")


def test_a_foreign_state_dict_was_not_written_by_ctnet(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "foreign.pt")
    with pytest.raises(
        CtnetError, match=r"foreign\.pt was not written by ctnet; .* reads 'ctnet checkpoint 1'"
    ):
        load(tmp_path / "foreign.pt")
    torch.save(torch.zeros(2), tmp_path / "tensor.pt")
    with pytest.raises(CtnetError, match="was not written by ctnet"):
        load(tmp_path / "tensor.pt")


def test_another_format_version_is_named(file: Path) -> None:
    torch.save({**read_tensors(file), "format": "ctnet checkpoint 9"}, file)
    with pytest.raises(CtnetError, match=r"has format 'ctnet checkpoint 9'; .* reads 'ctnet checkpoint 1'"):
        load(file)


@pytest.mark.parametrize("text", ["{}", "[1]", "{", '{"size": [1, 2], "mean": [], "std": [], "more": 1}'])
def test_a_description_of_another_kind(file: Path, text: str) -> None:
    torch.save({**read_tensors(file), "description": text}, file)
    with pytest.raises(CtnetError, match=r"the description in .*a\.pt.* damaged, or not of ctnet"):
        load(file)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match=r"cannot read .*gone\.pt: No such file"):
        load(tmp_path / "gone.pt")
    with pytest.raises(CtnetError, match=r"cannot read .*: it is a folder; give a regular file"):
        load(tmp_path)


# --- weights that do not fit


def test_weights_of_another_backbone(model: CenterNet, task: Task) -> None:
    with pytest.raises(
        CtnetError, match=r"these weights do not match the network: .* of another shape"
    ) as error:
        load_weights(create_model(task, "wide"), model.state_dict())
    assert "backbone.layer.weight [4, 3, 4, 4] for [6, 3, 4, 4]" in str(error.value)


def test_weights_of_other_classes(model: CenterNet) -> None:
    other = create_model(create_task("ctdet", [{"id": 1, "name": "x"}]), "narrow")
    with pytest.raises(CtnetError, match=r"2 of another shape \(branches.0.heatmap.2.weight \[2, 4, 1, 1\]"):
        load_weights(other, model.state_dict())


def test_missing_and_unexpected_entries(model: CenterNet) -> None:
    weights = {name: tensor for name, tensor in model.state_dict().items() if "size" not in name}
    weights["extra"] = torch.zeros(1)
    with pytest.raises(
        CtnetError,
        match=r"4 missing \(.*, \.\.\.\), 1 unexpected \(extra\); are they of another backbone or task",
    ):
        load_weights(model, weights)


def test_partial_takes_what_fits_and_reports_the_rest(model: CenterNet, task: Task) -> None:
    other = create_model(create_task("ctdet", [{"id": 1, "name": "x"}]), "narrow")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = load_weights(model, other.state_dict(), partial=True)
    assert not report.complete
    assert len(report.other_shape) == 2
    assert not report.missing
    for name, tensor in model.state_dict().items():
        theirs = other.state_dict()[name]
        assert torch.equal(tensor, theirs if theirs.shape == tensor.shape else before[name])
        assert (name in report.loaded) == (theirs.shape == tensor.shape)
    assert f"{len(report.loaded)} loaded, 2 of another shape" in report.summary()


def test_a_complete_report(model: CenterNet) -> None:
    report = load_weights(model, model.state_dict())
    assert report.complete
    assert report.summary() == f"{len(model.state_dict())} loaded"


def test_a_refused_load_changes_nothing(model: CenterNet) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    del weights["backbone.layer.bias"]
    with pytest.raises(CtnetError):
        load_weights(model, weights)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


# --- full and read-only disks


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The operating system does not let a file grow beyond this."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_file(file: Path, description: Description) -> None:
    before = file.read_bytes()
    with (
        largest_file(100_000),
        pytest.raises(CtnetError, match=r"cannot write .*a\.pt: (File too large|.*is the disk full)"),
    ):
        save(file, description, {"weight": torch.zeros(200_000)})
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == ["a.pt"]


def test_a_failing_sync_leaves_the_old_file(file: Path, model, description, monkeypatch) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = file.read_bytes()
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(CtnetError, match=r"cannot write .*a\.pt: No space left on device"):
        save(file, description, model.state_dict())
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == ["a.pt"]


def test_an_impossible_folder_is_named(file: Path, model: CenterNet, description: Description) -> None:
    with pytest.raises(CtnetError, match=r"cannot write .*a\.pt/b\.pt: (Not a directory|File exists)"):
        save(file / "b.pt", description, model.state_dict())


# --- documents within documents, and weights of any kind


def changed(file: Path, **fields: Any) -> None:
    """Rewrite a file with other fields of its description."""
    content = read_tensors(file)
    described = json.loads(content["description"]) | fields
    torch.save({**content, "description": json.dumps(described)}, file)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"options": "none"}, "at options: 'none', expected an object"),
        ({"categories": [[1, "ball"]]}, r"at categories.0: \[1, 'ball'\], expected an object"),
        ({"size": [96]}, "at size.1: missing, expected a value"),
        ({"size": [0, 64]}, "at size.0: 0, expected a number greater than or equal to 1"),
        ({"std": [0.2, 0.2, 0]}, "at std.2: 0, expected a number greater than 0"),
        ({"stride": "4"}, "at stride: '4', expected a whole number"),
        ({"mean": [float("nan")] * 3}, "at mean.0: nan, expected a finite number"),
    ],
)
def test_a_value_of_the_description_is_named(file: Path, fields: dict[str, Any], message: str) -> None:
    changed(file, **fields)
    with pytest.raises(CtnetError, match=rf"^the description in .*a\.pt: {message}; it is damaged"):
        load(file)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"categories": [{"id": "3", "name": "ball"}]}, "at 0.id: '3', expected a whole number"),
        ({"categories": [{"id": 2**63, "name": "ball"}]}, "at 0.id: .*, expected a number less than"),
        ({"categories": []}, "there are no categories"),
        ({"options": {"categories": 3}}, "there is no option of task ctdet called 'categories'"),
        ({"options": {"self": 3}}, "there is no option of task ctdet called 'self'"),
        ({"options": {"size_weight": []}}, "option size_weight of task ctdet is"),
        ({"backbone": "wide"}, "these weights do not match the network"),
        ({"stride": 8}, "says stride 8, but narrow has 4"),
    ],
)
def test_what_does_not_fit_together_names_the_file(file: Path, fields: dict[str, Any], message: str) -> None:
    changed(file, **fields)
    with pytest.raises(CtnetError, match=rf"^.*a\.pt.*{message}"):
        load_model(load(file))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("weights", [], r"at weights: \[\], expected an object"),
        ("weights", {"a": 1.0}, "at weights.a: 1.0, expected an instance of Tensor"),
        ("weights", {1: torch.zeros(1)}, "at weights.1"),
        ("training", 3, "at training: 3, expected an object"),
        ("metrics", {"AP": "high"}, "at metrics.AP: 'high', expected a number"),
        ("description", {}, "at description: {}, expected a string"),
        ("operating_points", {}, "at operating_points: {}, expected a string"),
    ],
)
def test_the_parts_of_a_file_are_checked(file: Path, field: str, value: Any, message: str) -> None:
    torch.save({**read_tensors(file), field: value}, file)
    with pytest.raises(CtnetError, match=rf"a\.pt: {message}"):
        load(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weight: weight.to(torch.complex64), "is a tensor of torch.complex64"),
        (lambda weight: weight.to(torch.int64), "is a tensor of torch.int64"),
        (lambda weight: weight.to_sparse(), "torch.sparse_coo"),
        (lambda weight: torch.empty(weight.shape, device="meta"), "on meta"),
        (lambda weight: torch.full_like(weight, float("nan")), "holds NaN or infinity"),
        (lambda weight: torch.tensor(float("inf")).expand(weight.shape), "holds NaN or infinity"),
        (lambda weight: weight[None], "1 of another shape"),
        (lambda weight: torch.zeros(1).expand(10**12), "1 of another shape"),
    ],
)
def test_weights_that_a_network_cannot_take(file: Path, change: Any, message: str) -> None:
    content = read_tensors(file)
    content["weights"]["backbone.layer.weight"] = change(content["weights"]["backbone.layer.weight"])
    torch.save(content, file)
    with pytest.raises(CtnetError, match=rf"a\.pt: .*{message}"):
        load_model(load(file))


def test_weights_of_another_precision_and_order_are_taken(file: Path, model: CenterNet) -> None:
    content = read_tensors(file)
    weight = content["weights"]["backbone.layer.weight"]
    content["weights"]["backbone.layer.weight"] = weight.double().to(memory_format=torch.channels_last)
    torch.save(content, file)
    _, again = load_model(load(file))
    assert torch.equal(again.state_dict()["backbone.layer.weight"], weight)


def test_a_tensor_as_format_is_not_ours(tmp_path: Path) -> None:
    torch.save({"format": torch.zeros(2)}, tmp_path / "odd.pt")
    with pytest.raises(CtnetError, match=r"odd\.pt was not written by ctnet"):
        load(tmp_path / "odd.pt")
