"""Shared by all tests: where to find reference numbers and real data (tests without them are skipped and say
so), a tiny backbone, and ground truth with flawed detections of it, in which every kind of match occurs."""

from __future__ import annotations

import os
import shutil
import signal

# Workers share the cores; read when torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from torch import Tensor, nn

from ctnet.backbones import Backbone, _registry, register_backbone
from ctnet.core.evaluator import Evaluator
from ctnet.core.task import Task, create_task
from ctnet.evaluation import CocoBoxEvaluator
from ctnet.measuring.results import read_results

# Background processes (`&`, nohup) inherit that these are ignored; tests send them and expect a reaction.
for _name, _usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    _signal = getattr(signal, _name, None)  # Windows has no SIGHUP
    if _signal is not None and signal.getsignal(_signal) == signal.SIG_IGN:
        signal.signal(_signal, _usual)

# The same examples in every run, however busy the machine is.
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")

SHARED = Path(os.environ.get("CTNET_SHARED", Path(__file__).parents[1].parent / "shared"))


def shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"no {name} folder in {SHARED}; set CTNET_SHARED to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference numbers."""
    return shared_folder("golden")


@pytest.fixture(scope="session")
def golden_nms(golden: Path) -> list[tuple[Any, str]]:
    """The reference's suppression cases: the content of a file, and the suffix of the case's entries."""
    files = [np.load(file) for file in sorted(golden.glob("nms*.npz"))]
    names = [(data, name) for data in files for name in data.files if name.startswith("boxes")]
    return [(data, name.removeprefix("boxes")) for data, name in names]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets."""
    return shared_folder("data")


class Tiny(Backbone):
    """Two convolutions."""

    channels, divisor, hidden = 8, 32, 8

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.layers(images)]


def tiny(pretrained: bool = False) -> Backbone:
    return Tiny()


@pytest.fixture
def register_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Task]], str]:
    """Installs the entry point of a task class that a test module defines at its top; returns its name."""

    def register(cls: type[Task]) -> str:
        site = tmp_path / "site-of-tasks"
        folder = site / f"tasks_of_tests_{cls.name}-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {cls.name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(
            f"[ctnet.tasks]\n{cls.name} = {cls.__module__}:{cls.__qualname__}\n"
        )
        monkeypatch.syspath_prepend(site)
        return cls.name

    return register


@contextmanager
def registered(*factories: Callable[..., Backbone]) -> Iterator[str]:
    """Registers backbones temporarily, unless they already are; gives the first one's name."""
    new = [factory for factory in factories if factory.__name__ not in _registry._factories]
    for factory in new:
        register_backbone(factory)
    try:
        yield factories[0].__name__
    finally:
        for factory in new:
            del _registry._factories[factory.__name__]


@pytest.fixture(scope="session")
def registered_backbones() -> Callable[..., AbstractContextManager[str]]:
    """Registers backbones temporarily: other tests are parametrised over the registry, or count it."""
    return registered


@pytest.fixture(scope="session")
def tiny_backbone() -> Callable[[], AbstractContextManager[str]]:
    """Registers a backbone of two convolutions temporarily."""
    return partial(registered, tiny)


CATEGORY_IDS = [2, 5, 9, 11]
CLASS_NAMES = ["ant", "bee", "cat", "dog"]  # there are no dogs


def _random_truth(rng: np.random.Generator) -> dict[str, Any]:
    images = [{"id": 10 + 3 * n, "file_name": f"{n}.jpg", "width": 300, "height": 200} for n in range(12)]
    annotations = []
    for image in images[1:]:  # the first stays empty
        for _ in range(rng.integers(1, 9)):
            width, height = np.exp(rng.uniform(np.log(8), np.log(150), 2))
            annotation = {
                "id": 100 + len(annotations),
                "image_id": image["id"],
                "category_id": int(rng.choice(CATEGORY_IDS[:3])),
                "bbox": [rng.uniform(0, 200), rng.uniform(0, 100), width, height],
                "area": width * height * 0.7,
                "iscrowd": int(rng.random() < 0.1),
                "difficult": int(rng.random() < 0.2),
            }
            annotations.append(annotation)
    categories = [{"id": i, "name": n} for i, n in zip(CATEGORY_IDS, CLASS_NAMES, strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}


def perturbed(truth: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Results with duplicates, shifted boxes, wrong classes, misses, false positives; some scores equal."""
    ids = [category["id"] for category in truth["categories"]]
    results = []
    for annotation in truth["annotations"]:
        for _ in range(rng.integers(0, 4)):
            x, y, width, height = annotation["bbox"]
            shift = rng.normal(0, 0.12, 4)
            box = [x + shift[0] * width, y + shift[1] * height]
            box += [width * np.exp(shift[2]), height * np.exp(shift[3])]
            category = annotation["category_id"] if rng.random() < 0.85 else int(rng.choice(ids))
            score = round(float(rng.random()), 2)
            results.append(
                {"image_id": annotation["image_id"], "category_id": category, "bbox": box, "score": score}
            )
    for _ in range(20):
        image_id = int(rng.choice([image["id"] for image in truth["images"]]))
        box = [*rng.uniform(0, 150, 2), *rng.uniform(5, 80, 2)]
        results.append(
            {
                "image_id": image_id,
                "category_id": int(rng.choice(ids)),
                "bbox": box,
                "score": float(rng.random()),
            }
        )
    return results


@pytest.fixture
def truth() -> dict[str, Any]:
    return _random_truth(np.random.default_rng(0))


@pytest.fixture
def results(truth: dict[str, Any]) -> list[dict[str, Any]]:
    return perturbed(truth, np.random.default_rng(1))


@pytest.fixture
def random_case() -> Callable[[int], tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Makes other ground truth and results from a seed."""

    def make(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        rng = np.random.default_rng(seed)
        truth = _random_truth(rng)
        return truth, perturbed(truth, rng)

    return make


@pytest.fixture
def perturb() -> Callable[[dict[str, Any], np.random.Generator], list[dict[str, Any]]]:
    return perturbed


def measured(
    truth: dict[str, Any],
    results: list[dict[str, Any]],
    kind: type[Evaluator] = CocoBoxEvaluator,
    **options: Any,
) -> dict[str, float]:
    task = create_task("ctdet", truth["categories"])
    evaluator = kind(truth, task.categories.ids, task.categories.names, **options)
    image_ids = [image["id"] for image in truth["images"]]
    for image_id, detections in (read_results(results, task, image_ids) if results else {}).items():
        evaluator.update(image_id, detections)
    return evaluator.compute()


@pytest.fixture
def measure() -> Callable[..., dict[str, float]]:
    """An evaluator's metrics for results (entries of a COCO results file)."""
    return measured


@pytest.fixture(scope="session")
def examined_run(
    tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Callable[[], AbstractContextManager[str]]
) -> Callable[..., Any]:
    """``examined_run(names)``: a ctdet run as a report examines it, with random detections of 24 scenes."""
    from ctnet.analysis.reported import Examined, ReportedRun
    from ctnet.analysis.scored import Scored
    from ctnet.analysis.subject import DetectorSubject
    from ctnet.checkpoint import Description
    from ctnet.core.records import Detections
    from ctnet.data.dataset import Dataset
    from ctnet.data.shape_scenes import SHAPES
    from ctnet.data.synthetic import write_dataset
    from ctnet.evaluation.evaluators import evaluator_of
    from ctnet.inference.detector import Detector
    from ctnet.measuring.run import Evaluation
    from ctnet.model import create_model

    folder = tmp_path_factory.mktemp("examined")
    write_dataset(create_task("ctdet", SHAPES), folder, {"val": 24}, (96, 64))

    def make(names: Sequence[str] = (), nothing: bool = False) -> Examined:
        entries = [{**one, "name": name} for one, name in zip(SHAPES, names, strict=False)] or SHAPES
        task = create_task("ctdet", entries)
        dataset = Dataset.open(folder, "val", task)
        with tiny_backbone() as backbone:
            detector = Detector(task, create_model(task, backbone), Description.of(task, backbone, (96, 64)))
        evaluator, rng = evaluator_of(task, dataset), np.random.default_rng(0)
        for index in range(len(dataset)) if not nothing else ():
            truth = dataset.instances(index)
            boxes = np.concatenate([truth.boxes + rng.normal(0, 3, truth.boxes.shape), truth.boxes[:1] / 2])
            labels = np.where(rng.random(len(boxes)) < 0.85, np.append(truth.labels, 0), 1)
            boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
            scores = np.sort(rng.random(len(boxes)))[::-1]
            evaluator.update(int(dataset.image_ids[index]), Detections(boxes, scores, labels))
        done = Evaluation(evaluator.compute(), evaluator.main_metric, evaluator=evaluator)
        subject = DetectorSubject(folder / "best.pt", task, dataset, False, detector)
        run = ReportedRun(folder / "run", detector, subject, done, evaluator.state(), len(dataset))
        rows = [
            {"epoch": float(n), "learning_rate": 1e-3, "loss": 3.0 / n, "AP": n / 10} for n in range(1, 6)
        ]
        return Examined(run, None, rows, Scored.of(dataset, run.found), None, None, [])

    return make


_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def _missing(what: str) -> Any:
    """Skip; fail where all extras are declared to be installed."""
    if "CTNET_ALL_EXTRAS" in os.environ:
        pytest.fail(f"needs {what}, and CTNET_ALL_EXTRAS is set")
    pytest.skip(f"needs {what}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by playwright, for the tests of one module: its event loop excludes others."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright (extra browser)")
    program = os.environ.get("CTNET_BROWSER") or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if program is None:
        _missing("Chromium (a package of the distribution), or CTNET_BROWSER")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@pytest.fixture
def serious_problems() -> Callable[[Any], dict[str, list[str]]]:
    """What axe finds on an open page that keeps people from using it: elements by rule."""
    source = Path(os.environ.get("CTNET_AXE", "node_modules/axe-core/axe.min.js"))
    if not source.is_file():
        _missing("axe-core (npm), named by CTNET_AXE")

    def find(page: Any) -> dict[str, list[str]]:
        page.evaluate(source.read_text("utf-8"))  # not as an element, which the page's policy would refuse
        return {
            one["id"]: [node["html"][:120] for node in one["nodes"][:3]]
            for one in page.evaluate("axe.run()")["violations"]
            if one["impact"] in ("serious", "critical")
        }

    return find
