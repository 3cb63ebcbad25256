"""The subject of an evaluation or study: a detector, a results file or stored maps, with its data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ctnet.analysis.oracles import Heads, Oracle, oracle, oracle_of_maps
from ctnet.base.device import choose_amp
from ctnet.base.errors import CtnetError
from ctnet.base.files import read_json
from ctnet.base.ranks import Ranks
from ctnet.core.evaluator import State
from ctnet.core.task import Task, create_task, load_task_class
from ctnet.data.dataset import Dataset
from ctnet.data.problems import refuse
from ctnet.data.workers import default_workers
from ctnet.inference.detector import Detector, checkpoint_of
from ctnet.inference.maps import MapFile, write_maps
from ctnet.inference.prepare import Preparation
from ctnet.measuring.reading import Settings
from ctnet.measuring.results import evaluate_results, read_results
from ctnet.measuring.run import Evaluation, evaluate
from ctnet.measuring.stored import evaluate_maps
from ctnet.training.data import check_categories, evaluation_data
from ctnet.training.run import latest_run


@dataclass(frozen=True)
class Ground:
    """Location of the ground truth.

    Attributes:
        data: the data directory; the run's own when None; results and maps have none.
        split: split of the data; the run's validation split, or "val", when None.
        strict: refuse bad records, and images that cannot be read, instead of leaving them out.
    """

    data: Path | None = None
    split: str | None = None
    strict: bool = False

    def directory(self, what: str) -> Path:
        """The data directory, for a subject without one of its own.

        Raises:
            CtnetError: when none is given.
        """
        if self.data is None:
            raise CtnetError(f"name the data set of the {what}: --data DIR [--split SPLIT]")
        return self.data


@dataclass(frozen=True)
class Subject(ABC):
    """Detections, or their source, and the ground truth that they are compared with.

    Attributes:
        kind: "checkpoint", "results" or "maps".
        source: its file.
        task: the task of the detections.
        dataset: images and ground truth.
        strict: see ``Ground``.
    """

    kind: ClassVar[str]

    source: Path
    task: Task
    dataset: Dataset
    strict: bool

    @staticmethod
    def of(
        run: Path | None = None,
        results: Path | None = None,
        maps: Path | None = None,
        task_name: str | None = None,
        ground: Ground | None = None,
        device: str = "auto",
        options: Mapping[str, Any] | None = None,
        preparation: Preparation | None = None,
    ) -> Subject:
        """Open a results file, a file of maps, or else a run.

        Args:
            run: folder or checkpoint; the latest run when None.
            results: a COCO results file of any program.
            maps: a file that ``ctnet eval --save-maps`` wrote.
            task_name: the task of ``results``.
            ground: the ground truth.
            device: the device of a run's detector.
            options: options of a run's task that replace those of its training.
            preparation: how a run's network is prepared.

        Raises:
            CtnetError: for a file that is missing or damaged, data that does not match it, and with
                ``Ground.strict`` for bad records.
        """
        ground = ground or Ground()
        if (results is None) != (task_name is None):
            raise CtnetError("--task is for --results; a detector and its maps know their task")
        if results is not None and task_name is not None:
            subject: Subject = ResultsSubject.open(results, task_name, ground)
        elif maps is not None:
            subject = MapsSubject.open(maps, ground)
        else:
            subject = DetectorSubject.open(run, ground, device, options, preparation)
        if ground.strict:
            refuse(subject.dataset.problems, subject.dataset.coco.path)
        return subject

    def on_device(self, settings: Settings, workers: int | None, amp: str) -> Settings:
        """The settings with device-dependent defaults filled in, if a network runs.

        Args:
            settings: test-time settings.
            workers: worker processes; a default for the device when None.
            amp: see ``choose_amp``.
        """
        return settings

    def evaluate(
        self, settings: Settings, ranks: Ranks | None = None, save_maps: Path | None = None
    ) -> Evaluation:
        """Compute the metrics.

        Args:
            settings: test-time settings, as far as they apply.
            ranks: the processes that share a detector's work.
            save_maps: the file to store a detector's maps in.

        Raises:
            CtnetError: see ``evaluate``, ``evaluate_results`` and ``evaluate_maps``.
        """
        done = self._evaluate(settings, ranks, save_maps)
        if self.strict:
            refuse(done.problems, self.dataset.coco.path)
        return done

    @abstractmethod
    def _evaluate(self, settings: Settings, ranks: Ranks | None, save_maps: Path | None) -> Evaluation: ...

    def oracle(self, heads: Heads | None, settings: Settings) -> Oracle | None:
        """The cost of each head's errors, see ``ctnet.analysis.oracles``; None where there are no maps."""
        return None

    def found(self, settings: Settings) -> State:
        """All detections by image id."""
        done = self.evaluate(settings)
        assert done.evaluator is not None
        return done.evaluator.state()


@dataclass(frozen=True)
class DetectorSubject(Subject):
    """A trained network."""

    kind = "checkpoint"

    detector: Detector

    @classmethod
    def open(
        cls,
        run: Path | None,
        ground: Ground,
        device: str,
        options: Mapping[str, Any] | None = None,
        preparation: Preparation | None = None,
    ) -> DetectorSubject:
        """See ``Subject.of``."""
        path, detector = open_detector(run, device, options, preparation)
        dataset = evaluation_data(detector, path, ground.data, ground.split)
        return cls(checkpoint_of(path), detector.task, dataset, ground.strict, detector)

    def on_device(self, settings: Settings, workers: int | None, amp: str) -> Settings:
        device = self.detector.device
        count = default_workers(device) if workers is None else workers
        return replace(settings, workers=count, amp=choose_amp(amp, device))

    def _evaluate(self, settings: Settings, ranks: Ranks | None, save_maps: Path | None) -> Evaluation:
        description = self.detector.description
        keeping = nullcontext() if save_maps is None else write_maps(save_maps, description, settings)
        with keeping as keep_maps:
            return evaluate(self.detector, self.dataset, settings, ranks=ranks, keep_maps=keep_maps)

    def oracle(self, heads: Heads | None, settings: Settings) -> Oracle:
        return oracle(self.detector, self.dataset, heads, settings)


@dataclass(frozen=True)
class ResultsSubject(Subject):
    """Detections in a COCO results file."""

    kind = "results"

    @classmethod
    def open(cls, path: Path, task_name: str, ground: Ground) -> ResultsSubject:
        """See ``Subject.of``."""
        directory = ground.directory(f"results of {path}")
        dataset = Dataset.open(directory, ground.split or "val", load_task_class(task_name))
        task = create_task(task_name, dataset.categories)
        return cls(path, task, dataset.with_task(task), ground.strict)

    def _evaluate(self, settings: Settings, ranks: Ranks | None, save_maps: Path | None) -> Evaluation:
        return evaluate_results(self.dataset, self.task, self.source, settings.metric, settings.max_dets)

    def found(self, settings: Settings) -> State:
        ids = self.dataset.image_ids.tolist()
        return read_results(read_json(self.source), self.task, ids, str(self.source))


@dataclass(frozen=True)
class MapsSubject(Subject):
    """A network's stored maps."""

    kind = "maps"

    @classmethod
    def open(cls, path: Path, ground: Ground) -> MapsSubject:
        """See ``Subject.of``."""
        directory = ground.directory(f"maps of {path}")
        with MapFile.open(path) as maps:
            task = maps.description.create_task(path)
        dataset = Dataset.open(directory, ground.split or "val", task)
        check_categories(dataset, task, directory)
        return cls(path, task, dataset, ground.strict)

    def _evaluate(self, settings: Settings, ranks: Ranks | None, save_maps: Path | None) -> Evaluation:
        with MapFile.open(self.source) as maps:
            chosen = (settings.topk, settings.nms, settings.metric, settings.max_dets)
            return evaluate_maps(maps, self.dataset, self.task, *chosen)

    def oracle(self, heads: Heads | None, settings: Settings) -> Oracle:
        with MapFile.open(self.source) as maps:
            return oracle_of_maps(maps, self.dataset, heads, settings)


def open_detector(
    run: Path | None,
    device: str = "auto",
    options: Mapping[str, Any] | None = None,
    preparation: Preparation | None = None,
) -> tuple[Path, Detector]:
    """A run's folder or checkpoint (the latest run's when None), and its detector; see ``Detector.load``."""
    path = run or latest_run()
    return path, Detector.load(path, device, options, **vars(preparation or Preparation()))
