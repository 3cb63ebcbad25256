"""A file that ctnet did not export, or that this runtime cannot run, gets one line."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from ctnet.base.errors import CtnetError
from ctnet.base.extras import need
from ctnet.checkpoint.exported import KEY, Exported
from ctnet.core.geometry import Affine
from ctnet.core.records import Detections, ImageInfo
from ctnet.export.detector import export_detector
from ctnet.export.graph import GraphSettings
from ctnet.inference import DetectionSettings, Detector, Prepared
from ctnet.tasks.ctdet import CenterDetection


def cut(source: Path, target: Path, share: float) -> None:
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    if source.suffix == ".xml":
        target.with_suffix(".bin").write_bytes(source.with_suffix(".bin").read_bytes())


@pytest.mark.export
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
@pytest.mark.parametrize("share", [0, 0.4, 0.97])
def test_a_file_that_was_cut(exported, tmp_path: Path, suffix: str, share: float) -> None:
    cut(exported("ctdet", suffix).path, tmp_path / f"x{suffix}", share)
    with pytest.raises(CtnetError, match=r"x\.\w+") as caught:
        Detector.load(tmp_path / f"x{suffix}")
    assert "export the run again" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.export
def test_weights_that_are_missing(exported, tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_bytes(exported("ctdet", ".xml").path.read_bytes())
    with pytest.raises(CtnetError, match=r"OpenVINO .* cannot open .*x\.xml"):
        Detector.load(tmp_path / "x.xml")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match=r"cannot read .*x\.onnx: No such file"):
        Detector.load(tmp_path / "x.onnx")


@pytest.mark.export
def test_a_file_of_another_program(exported, tmp_path: Path) -> None:
    source = exported("ctdet", ".onnx").path
    import onnx

    model = onnx.load(source)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(CtnetError, match=r"was not exported by ctnet; export a run with `ctnet export"):
        Detector.load(tmp_path / "x.onnx")


@pytest.fixture
def content(exported) -> dict:
    return json.loads(exported("ctdet", ".pt2").exported.to_json())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "ctnet export 2"}, "has format 'ctnet export 2'"),
        ({"topk": "many"}, "at topk: 'many', expected a whole number"),
        ({"divisor": 0}, "at divisor: 0, expected a number greater than or equal to 1"),
        ({"columns": [{"name": 3}]}, r"at columns\.0\.name: 3, expected a string"),
        ({"more": 1}, "at more: 1, expected no such key"),
    ],
)
def test_an_edited_description(content: dict, change: dict, words: str) -> None:
    with pytest.raises(CtnetError, match=words) as caught:
        Exported.from_json(json.dumps({**content, **change}), "x.onnx")
    assert str(caught.value).endswith("export the run again")


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", "[" * 100_000, "3", '{"format": 1, "format": 2}'])
def test_a_description_that_is_none(text: str) -> None:
    with pytest.raises(CtnetError, match="the description in x is damaged"):
        Exported.from_json(text, "x")


def test_descriptions_survive_the_file(content: dict) -> None:
    read = Exported.from_json(json.dumps(content), "x")
    assert json.loads(read.to_json()) == content
    assert KEY == "ctnet"


def edited(source: Path, target: Path, member: str, change: Callable[[dict], object]) -> Path:
    """A .pt2 file in which a JSON document was changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith(member):
                document = json.loads(data)
                change(document)
                data = json.dumps(document).encode()
            new.writestr(entry.filename, data)
    return target


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda d: d.update(columns=[]),
            r"x\.pt2 gives \[\] where task ctdet detects by boxes, scores, labels",
        ),
        (lambda d: d["columns"].pop(), r"gives \['boxes', 'scores'\] where task ctdet"),
        (lambda d: d["columns"][0].update(name="scores"), r"gives \['scores', 'scores', 'labels'\] where"),
        (lambda d: d["columns"].append(d["columns"][0]), "gives .* where task ctdet detects by"),
        (lambda d: d["description"].update(task="nothing"), r"x\.pt2: there is no task called 'nothing'"),
        (lambda d: d["description"].update(options={"x": 1}), r"x\.pt2: there is no option of task ctdet"),
        (lambda d: d["description"].update(categories=[]), r"x\.pt2: there are no categories"),
    ],
)
def test_a_description_of_another_task(exported, tmp_path: Path, change, words: str) -> None:
    source = exported("ctdet", ".pt2").path
    with pytest.raises(CtnetError, match=words):
        Detector.load(edited(source, tmp_path / "x.pt2", "/ctnet", change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["columns"].reverse(), "gives boxes, labels that do not fit its description"),
        (
            lambda d: d["description"].update(categories=d["description"]["categories"][:1]),
            "gives labels that do not fit its description; export the run again",
        ),
    ],
)
def test_detections_of_another_kind_than_described(exported, tmp_path: Path, change, words: str) -> None:
    source = exported("ctdet", ".pt2").path
    detector = Detector.load(edited(source, tmp_path / "x.pt2", "/ctnet", change))
    with pytest.raises(CtnetError, match=words):
        detector(np.zeros((96, 128, 3), np.uint8), score=0.0)


def test_a_program_of_other_weights_is_one_line(exported, tmp_path: Path, capfd) -> None:
    """torch prints a traceback for what it cannot read."""

    def shorten(document: dict) -> None:
        next(iter(document["config"].values()))["tensor_meta"]["strides"].pop()

    source = exported("ctdet", ".pt2").path
    path = edited(source, tmp_path / "x.pt2", "model_weights_config.json", shorten)
    with pytest.raises(
        CtnetError, match=r"cannot open .*x\.pt2: its graph and its weights do not fit together"
    ):
        Detector.load(path)
    assert "Traceback" not in capfd.readouterr().err


def test_code_in_a_program_is_never_run(exported, tmp_path: Path) -> None:
    """torch evaluates the conditions that a program declares."""
    code = f"[open({str(tmp_path / 'touched')!r}, 'w'), True][1]"
    path = edited(
        exported("ctdet", ".pt2").path,
        tmp_path / "x.pt2",
        "model.json",
        lambda d: d.update(guards_code=[code]),
    )
    with pytest.raises(CtnetError, match="guards_code in it is more than arithmetic; the file is"):
        Detector.load(path)(np.zeros((96, 128, 3), np.uint8))
    assert not (tmp_path / "touched").exists()


@pytest.mark.skipif(os.name != "posix", reason="pipes are files here")
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_a_pipe_is_not_read_for_ever(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"x{suffix}")
    with pytest.raises(
        CtnetError, match=rf"cannot read .*x\{suffix}: it is a named pipe; give a regular file"
    ):
        Detector.load(tmp_path / f"x{suffix}")


@pytest.mark.export
@pytest.mark.skipif(os.name != "posix", reason="pipes are files here")
def test_weights_in_a_pipe_are_not_read_for_ever(exported, tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_bytes(exported("ctdet", ".xml").path.read_bytes())
    os.mkfifo(tmp_path / "x.bin")
    with pytest.raises(CtnetError, match=r"cannot read .*x\.bin: it is a named pipe"):
        Detector.load(tmp_path / "x.xml")


# --- runtimes


def test_a_runtime_that_is_missing(monkeypatch, tmp_path: Path, run_of) -> None:
    (tmp_path / "x.onnx").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(CtnetError, match=r"onnxruntime cannot be imported .*pip install .*toolkit\[export\]"):
        Detector.load(tmp_path / "x.onnx")
    with pytest.raises(CtnetError, match=r"onnx cannot be imported .*pip install .*toolkit\[export\]"):
        export_detector(run_of("ctdet"), tmp_path / "y.onnx")
    with pytest.raises(CtnetError, match=r"openvino cannot be imported .*pip install .*toolkit\[openvino\]"):
        export_detector(run_of("ctdet"), tmp_path / "y.xml")


@pytest.mark.parametrize(
    ("name", "version", "floor"), [("onnxruntime", "1.24.4", "1.25"), ("onnxscript", "0.7.0", "0.7.1")]
)
def test_a_runtime_that_is_too_old(monkeypatch, name: str, version: str, floor: str) -> None:
    module = ModuleType(name)
    module.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    words = rf"{name} {version} is too old, ctnet needs {floor}; update it with: pip install --upgrade 'ctnet"
    with pytest.raises(CtnetError, match=words):
        need(name)
    module.__version__ = floor + ".0"  # type: ignore[attr-defined]
    assert need(name) is module


@pytest.mark.export
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_sizes_that_do_not_fit(exported, suffix: str) -> None:
    detector = Detector.load(exported("ctdet", suffix).path)
    image = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(CtnetError, match="the next size that fits is 128x96"):
        detector(image, DetectionSettings(size=(100, 90)))


@pytest.mark.export
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_images_that_do_not_fit(exported, suffix: str) -> None:
    detector = Detector.load(exported("ctdet", suffix).path)
    assert detector.exported is not None
    clear = Prepared(Affine.identity(), ImageInfo(1, "x", 64, 64), np.zeros((64, 64, 4), np.uint8))
    with pytest.raises(
        CtnetError, match=r"cannot run .* on images of \(1, 64, 64, 4\): .*; export"
    ) as caught:
        detector.exported.outputs([clear])
    assert "\n" not in str(caught.value)


@pytest.mark.export
def test_an_operator_that_the_runtime_lacks(exported, tmp_path: Path) -> None:
    source = exported("ctdet", ".onnx").path
    import onnx

    model = onnx.load(source)
    next(node for node in model.graph.node if node.op_type == "Conv").op_type = "FoldedConv"
    onnx.save(model, tmp_path / "x.onnx")
    words = r"onnxruntime \S+ cannot open .*x\.onnx: .*FoldedConv.* update the runtime$"
    with pytest.raises(CtnetError, match=words):
        Detector.load(tmp_path / "x.onnx")


@pytest.mark.export
@pytest.mark.parametrize(("suffix", "runtime"), [(".onnx", "ONNX"), (".xml", "OpenVINO")])
def test_an_operator_that_the_exporter_lacks(
    run_of, need_runtime, monkeypatch, tmp_path: Path, suffix: str, runtime: str
) -> None:
    need_runtime(suffix)
    decode = CenterDetection.decode

    def unusual(self: CenterDetection, maps: Mapping[str, Tensor], k: int) -> Detections:
        found = decode(self, maps, k)
        return replace(found, scores=found.scores * torch.special.airy_ai(found.scores))

    monkeypatch.setattr(CenterDetection, "decode", unusual)
    with pytest.raises(CtnetError, match=rf"{runtime} cannot convert this network: .*airy_ai") as caught:
        export_detector(run_of("ctdet"), tmp_path / f"x{suffix}")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# --- choices


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            DetectionSettings(flip=True),
            "does not average with the mirrored image; export the run with --flip",
        ),
        (DetectionSettings(topk=200), "gives 100 detections per image, not 200"),
    ],
)
def test_what_the_file_does_not_do(exported, settings: DetectionSettings, words: str) -> None:
    detector = Detector.load(exported("ctdet", ".pt2").path)
    with pytest.raises(CtnetError, match=words):
        detector(np.zeros((40, 40, 3), np.uint8), settings)


def test_options_devices_and_maps(exported) -> None:
    path = exported("ctdet", ".pt2").path
    with pytest.raises(CtnetError, match=r"chosen at export \(radius cannot be changed\)"):
        Detector.load(path, options={"radius": "corrected"})
    with pytest.raises(CtnetError, match="runs on the CPU, not on cuda"):
        Detector.load(path, "cuda")
    with pytest.raises(CtnetError, match="gives only detections, no maps"):
        _ = Detector.load(path).model


@pytest.mark.parametrize(
    ("name", "settings", "opset", "words"),
    [
        ("x.tflite", GraphSettings(), None, r"name a file that ends in \.onnx"),
        ("x.pt2", GraphSettings(fixed=(100, 96)), None, "the next size that fits is 128x96"),
        ("x.pt2", GraphSettings(), 18, "--opset 18 is for .onnx files"),
    ],
)
def test_exports_that_cannot_be(run_of, tmp_path: Path, name, settings, opset, words: str) -> None:
    with pytest.raises(CtnetError, match=words):
        export_detector(run_of("ctdet"), tmp_path / name, settings, opset)
    assert list(tmp_path.iterdir()) == []


def test_a_side_of_one_divisor_that_torch_export_takes_as_fixed(exported, monkeypatch) -> None:
    """The limit of networks whose deepest map then has one cell a side; torch words it as a guard."""
    network = Detector.load(exported("ctdet", ".pt2").path).exported
    assert network is not None

    def refuse(images: np.ndarray) -> list[np.ndarray]:
        raise RuntimeError("Guard failed: 1 + (-1 + images.size()[2]) // 32 > 1")

    monkeypatch.setattr(network.runtime, "run", refuse)
    clear = Prepared(Affine.identity(), ImageInfo(1, "x", 32, 32), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(CtnetError, match=r"does not take images of .* needs at least 64 pixels a side"):
        network.outputs([clear])


@pytest.mark.export
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_a_full_disk_is_one_line(run_of, need_runtime, tmp_path: Path, suffix: str) -> None:
    """The limit of file size stands for the disk; OpenVINO's own error does not say what happened."""
    need_runtime(suffix)
    resource = pytest.importorskip("resource")
    run, before = run_of("ctdet"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(CtnetError, match="cannot write") as caught:
            export_detector(run, tmp_path / f"x{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
