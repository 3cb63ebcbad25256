"""The training loop: read it from ``Trainer.fit`` downwards."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from ctnet import checkpoint
from ctnet.base.device import choose_amp
from ctnet.base.errors import CtnetError
from ctnet.base.memory import is_out_of_memory
from ctnet.base.ranks import Ranks, raise_first, told
from ctnet.base.schema import check_text, check_values
from ctnet.base.signals import on_termination
from ctnet.checkpoint import Description
from ctnet.core.recipe import Augmentation
from ctnet.data.dataset import Dataset
from ctnet.data.loader import Loader, TrainingSet
from ctnet.data.problems import Problem, refuse
from ctnet.data.workers import WorkerDied, default_workers
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import Evaluation
from ctnet.model import CenterNet, create_model
from ctnet.ops.sync_batch_norm import use_sync_batch_norm
from ctnet.ops.winograd_layers import use_winograd
from ctnet.training.best import best_of, is_out_of_patience, is_over
from ctnet.training.config import TrainingConfig
from ctnet.training.data import Splits
from ctnet.training.display import Display
from ctnet.training.freezing import freeze
from ctnet.training.gpu import gpu_settings, prepare_gpu
from ctnet.training.gradients import Gradients, NotFinite, Step, StepLosses
from ctnet.training.learner import Learner
from ctnet.training.memory import check_memory, out_of_memory
from ctnet.training.observers import (
    CheckpointSaved,
    EpochEnd,
    EvaluationEnd,
    Observers,
    RunEnd,
    RunStart,
    StepEnd,
)
from ctnet.training.optimization import MovingAverage, make_optimizer, rate_factor, set_rate
from ctnet.training.run import Run
from ctnet.training.start import start_from
from ctnet.training.state import DAMAGED, Position, TrainingState
from ctnet.training.teacher import teachers_of
from ctnet.training.validation import Validation

#: Epochs longer than this get a checkpoint before evaluation, which might fail.
_COSTLY_SECONDS = 120.0

#: No augmentation: for --overfit, where the same images are evaluated.
STILL = Augmentation(flip=0.0, scale=None, shift=0.0, colour=0.0, lighting=0.0)


class Trainer:
    """One training run, new or resumed from its last checkpoint.

    Attributes:
        config, run, task: what is trained, and its folder.
        ranks: the processes that train together.
        position: progress so far.
        started: description of what was copied from ``config.init``.
    """

    def __init__(
        self,
        config: TrainingConfig,
        run: Run,
        splits: Splits,
        device: torch.device,
        workers: int | None = None,
        display: Display | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """Build network, optimizer and loader; continue from the run's last.pt, if it has one.

        Args:
            config: resolved settings.
            run: the run folder, with its config written.
            splits: the data, and the task bound to its categories; without ``val`` there is no evaluation and
                the last weights are the best.
            device: to train on.
            workers: worker processes; a default for the device when None.
            display: where progress is shown.
            ranks: the processes that share every batch, and all train; this one alone when None.
        """
        self.config, self.run, self.device, self.ranks = config, run, device, ranks or Ranks()
        prepare_gpu(device, config.recipe)
        train, self.task = splits.train, splits.task
        self.position = Position()
        recipe = config.recipe
        torch.manual_seed(config.seed)
        self.started: list[str] = []
        self.model = self._network()
        self.description = Description.of(self.task, config.backbone, recipe.size, self.model.backbone)
        self.optimizer = make_optimizer(self.model, recipe, config.learning_rate)
        self.average = MovingAverage(self.model, recipe.ema) if recipe.ema else None
        self.amp = choose_amp(config.amp, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp == torch.float16)
        self.workers = default_workers(device) if workers is None else workers
        self.loader = self._loader(train)
        self.steps_per_epoch = max(1, math.ceil(len(self.loader) / config.accumulate))
        self.display = display or Display()
        #: Who looks on; added before the training starts, in the first process.
        self.observers = Observers({}, self.display.say)
        self._stop = False
        #: The wishes of all processes, told with the losses of a step; empty for one process.
        self._agreed: tuple[float, ...] = ()
        self._has_gradients = False
        self.gradients = self._gradients()
        self._saved = time.monotonic()
        self.validation = None if splits.val is None else self._validation(splits.val)
        if run.last.is_file():
            self._resume()

    def _network(self) -> CenterNet:
        """The network on the device, with the weights that it starts from."""
        config, recipe = self.config, self.config.recipe
        model = create_model(self.task, config.backbone, config.pretrained, recipe.small_heads)
        # A resumed run has its own weights, and the checkpoint that it started from may be gone.
        if config.init and not self.run.last.is_file():
            self.started = start_from(model, config.init)
        model = model.to(self.device).to(memory_format=torch.channels_last)
        if self.device.type == "cpu":
            use_winograd(model)
        check_memory(model.backbone, recipe.size, self.device)
        freeze(model, recipe)
        return model

    def _loader(self, train: Dataset) -> Loader:
        config, recipe = self.config, self.config.recipe
        augmentation = STILL if config.overfit else recipe.augmentation
        stride = self.model.backbone.stride
        samples = TrainingSet(train, self.task, recipe.size, augmentation, config.seed, stride, recipe.epochs)
        batch_size, pinned = min(recipe.batch_size, len(train)), self.device.type == "cuda"
        return Loader(samples, batch_size, self.workers, config.seed, pinned, self.ranks)

    def _gradients(self) -> Gradients:
        teachers = teachers_of(self.config, self.task, self.model, self.average, self.steps_per_epoch)
        losses = StepLosses(self.task, self.model, self.description, teachers, self.config.recipe.compile)
        return Gradients(losses, self.scaler, self.amp, self.ranks)

    def _validation(self, val: Dataset) -> Validation:
        settings = Settings(workers=self.workers, amp=self.amp)
        found = Validation(self.task, self.description, val, self.device, settings, self.ranks)
        if found.warning:
            self.display.say(f"warning: {found.warning}")
        return found

    @property
    def main_metric(self) -> str:
        """The metric that decides which epoch was the best; empty without evaluation."""
        return "" if self.validation is None else self.validation.main_metric

    def fit(self) -> bool:
        """Train to the last epoch, or until patience ends.

        Returns:
            True when finished; False when Ctrl-C or SIGTERM ended it after a step (the checkpoint is
            written).

        Raises:
            CtnetError: when a loss is not finite, an epoch had no readable image, a worker process died, or
                a checkpoint cannot be written.
        """
        position, folder = self.position, self.run.path.absolute()
        config = json.loads(json.dumps(self.config.to_json()))
        start = RunStart(folder, config, position.epoch, position.step, position.rows, self.main_metric)
        with (
            on_termination(lambda number, frame: self._ask_to_stop()),
            self.observers.watching(start, self._end),
            self.display,
            gpu_settings(self.device, self.config.recipe),
        ):
            self._connect()
            while not self.is_over:
                if not self._epoch_or_stop():
                    if self.position.batch:  # at the end of an epoch it was already saved, with its metrics
                        self._save()
                    return False
        return True

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or patience has ended."""
        position = self.position
        return is_over(position.rows, self.main_metric, self.config.recipe, position.waits_from)

    @property
    def out_of_patience(self) -> bool:
        """Whether so many evaluations in a row gave no new best one as the recipe allows."""
        position = self.position
        return is_out_of_patience(position.rows, self.main_metric, self.config.recipe, position.waits_from)

    def _end(self, error: BaseException | None) -> RunEnd:
        """The report of the end."""
        position = self.position
        if error is not None and not isinstance(error, KeyboardInterrupt):
            said = " ".join(str(error).splitlines()[:1]) or type(error).__name__
            return RunEnd("failed", position.epoch, position.step, said)
        if error is not None or not self.is_over:
            return RunEnd("stopped", position.epoch, position.step)
        reason: Literal["patience", "finished"] = "patience" if self.out_of_patience else "finished"
        return RunEnd(reason, position.epoch, position.step)

    def _connect(self) -> None:
        """Make one training of those of all processes."""
        if self.config.recipe.batch_norm == "sync" and self.ranks.count > 1:
            apart = self.ranks.apart()
            use_sync_batch_norm(self.model, apart.add, apart.group)
        self.gradients.connect()

    def _ask_to_stop(self) -> None:
        """The first Ctrl-C or SIGTERM asks to stop after the current step; the second one stops at once.

        An evaluation does not change any saved state, so it stops immediately. Several processes stop
        together: none can leave at once, and ``torchrun`` passes on a Ctrl-C that all have heard already.
        """
        again, self._stop = self._stop, True
        if self.observers.interrupt(again) or self.ranks.count > 1:
            return
        if again or self._evaluates:
            raise KeyboardInterrupt

    @property
    def _evaluates(self) -> bool:
        return self.validation is not None and self.validation.is_running

    def _epoch_or_stop(self) -> bool:
        """One epoch; False when it was stopped anywhere."""
        try:
            return self._epoch()
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise out_of_memory(self.config, self.loader.batch_size, error) from error
            raise
        except KeyboardInterrupt:
            if not self._evaluates:
                raise
        except WorkerDied:
            time.sleep(0.5)  # stopping a whole job stops its worker processes at the same time
            if not self._stop:
                raise
        if self.validation is not None:
            self.validation.is_running = False
        return False

    def _epoch(self) -> bool:
        """One epoch (or the rest of it); False when asked to stop."""
        position = self.position
        self.display.begin_epoch(position.epoch, self.config.recipe.epochs, len(self.loader), position.batch)
        self._train_mode()
        batches = self.display.timed(self.loader.epoch(position.epoch, position.batch))
        for step in self.gradients.steps(batches, self.config.accumulate):
            self._report(step.problems)
            images, terms = self._losses_and_gradients(step)
            position.batch += len(step.batches)
            self._step()
            done = StepEnd(position.step, position.epoch + 1, images, terms, self._rate())
            self.observers.tell("step", done)
            stopping, due = self._agreed or self._wishes()
            if stopping:
                return False
            if due:
                self._save()
            self.display.step(len(step.batches), images, terms, self._rate())
        self._finish_epoch()
        stopping = any(self.ranks.exchange(self._stop))
        return not stopping or self.is_over

    def _train_mode(self) -> None:
        self.model.train()
        freeze(self.model, self.config.recipe)

    def _losses_and_gradients(self, step: Step) -> tuple[int, dict[str, float]]:
        """Accumulate the gradients of a step, and learn whether to stop or save after it.

        Returns:
            The number of images in it, and its losses.
        """
        try:
            learnt = self.gradients.accumulate(step, self._wishes() if self.ranks.count > 1 else ())
        except NotFinite as error:
            mistake = None if error.batch is None else self._not_finite(error, step)
            raise_first(self.ranks.exchange(told(mistake)), mistake)
            raise
        self._agreed = learnt.flags
        if not learnt.images:
            return 0, {}
        self._has_gradients = True
        sums = self.position.sums
        for name, value in learnt.terms.items():
            sums[name] = sums.get(name, 0.0) + value * learnt.images
        sums["images"] = sums.get("images", 0.0) + learnt.images
        return learnt.images, learnt.terms

    def _wishes(self) -> tuple[bool, bool]:
        """Whether to stop after this step, and whether a checkpoint is due, which the first process says."""
        late = time.monotonic() - self._saved > self.config.recipe.save_every
        return self._stop, late and self.ranks.is_first

    def _step(self) -> None:
        set_rate(self.optimizer, self._rate())
        self.position.step += 1
        if not self._has_gradients:  # none of the step's images could be read
            return
        if self.config.recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._has_gradients = False
        if self.average is not None:
            self.average.update(self.model)

    def _rate(self) -> float:
        factor = rate_factor(self.config.recipe, self.position.step, self.steps_per_epoch)
        return self.config.learning_rate * factor

    def _finish_epoch(self) -> None:
        position, recipe = self.position, self.config.recipe
        images = position.sums.get("images", 0.0)
        if not images:
            raise CtnetError(
                f"not one image of {self.config.data} could be read in epoch {position.epoch + 1}, so "
                "nothing was learnt; see `ctnet data check`"
            )
        # A failing evaluation must not lose a long epoch, and there is never a best.pt without a last.pt.
        costly = time.monotonic() - self._saved > _COSTLY_SECONDS or not self.run.last.is_file()
        if self.ranks.broadcast(costly):
            self._save()
        row: dict[str, Any] = {"epoch": position.epoch + 1, "learning_rate": self._rate()}
        losses = [name for name in position.sums if name != "images"]
        row |= {name: position.sums[name] / images for name in losses}
        last = position.epoch + 1 == recipe.epochs
        done: Evaluation | None = None
        shown = losses
        if self.validation is not None and (last or (position.epoch + 1) % recipe.evaluate_every == 0):
            done = self._evaluate(self.validation)
            overall = {name: value for name, value in done.metrics.items() if "/" not in name}
            row |= {self.main_metric: 0.0, **overall}
            shown = [*overall][:3] + losses
        position.rows.append(row)
        position.epoch, position.batch, position.sums = position.epoch + 1, 0, {}
        best = best_of(position.rows, self.main_metric, recipe.smooth)
        improved = self.validation is None or (best is not None and best.epoch == position.epoch)
        metrics = {} if done is None else done.metrics
        if improved:
            self._save_best(metrics)
        self._save(metrics)
        self._tell_of_epoch(row, done, improved)
        self.display.end_epoch(row, shown, self._comment(done, improved))

    def _tell_of_epoch(self, row: Mapping[str, float], done: Evaluation | None, improved: bool) -> None:
        epoch, step = self.position.epoch, self.position.step
        if done is not None:
            self.observers.tell("evaluation", EvaluationEnd(epoch, step, done.metrics, improved))
        if improved:
            self.observers.tell("checkpoint", CheckpointSaved(self.run.best.absolute(), epoch, step, True))
        self.observers.tell("epoch", EpochEnd(epoch, step, dict(row)))

    def _save_best(self, metrics: Mapping[str, float]) -> None:
        self._check_weights()
        with self.ranks.agreed():
            if self.ranks.is_first:
                points = None
                if self.validation is not None and metrics and not self.config.overfit:
                    points = self.validation.operating_points()
                checkpoint.save(
                    self.run.best,
                    self.description,
                    self._learner.weights,
                    None,
                    metrics,
                    operating_points=points,
                )

    def _comment(self, done: Evaluation | None, improved: bool) -> str:
        """What is said of the epoch that just ended."""
        if done is None or self.validation is None or not self.ranks.is_first:
            return "best" if improved else ""
        return self.validation.comment(self.position.epoch, improved)

    def _evaluate(self, validation: Validation) -> Evaluation:
        self.display.note("evaluating")
        done = validation.evaluate(self.model, self._learner.weights, lambda: self._stop)
        with self.ranks.agreed():
            self._report(done.problems)
        return done

    def _report(self, problems: Sequence[Problem]) -> None:
        """Report images that could not be read, or refuse them."""
        if self.config.strict:
            refuse(problems, self.config.data)
        for problem in problems:
            self.display.say(f"skipped {problem}")

    @property
    def _learner(self) -> Learner:
        return Learner(self.model, self.optimizer, self.scaler, self.average, self.device)

    def _save(self, metrics: Mapping[str, float] | None = None) -> None:
        position = self.position
        self._check_weights()
        training: dict[str, Any] = {
            "config": json.dumps(self.config.to_json()),
            "position": json.dumps(vars(position)),
            **self._learner.state(),
        }
        with self.ranks.agreed():
            if self.ranks.is_first:
                checkpoint.save(self.run.last, self.description, self._learner.weights, training, metrics)
        self._saved = time.monotonic()
        saved = CheckpointSaved(self.run.last.absolute(), position.epoch, position.step, False)
        self.observers.tell("checkpoint", saved)

    def _check_weights(self) -> None:
        """Refuse to replace the last good checkpoint with NaN or infinite weights."""
        if self._learner.is_finite:
            return
        position = self.position
        kept = f"; {self.run.last} holds the last good ones" if self.run.last.is_file() else ""
        raise CtnetError(
            f"the weights are not finite after step {position.step} (epoch {position.epoch + 1}, batch "
            f"{position.batch}){kept}; lower --lr, or set -R clip_norm=10"
        )

    def _resume(self) -> None:
        saved = checkpoint.load(self.run.last)
        if saved.description.task != self.task.name or saved.description.backbone != self.config.backbone:
            raise CtnetError(
                f"{self.run.last} is of {saved.description.task} with {saved.description.backbone}, but "
                f"config.json says {self.task.name} with {self.config.backbone}; the files of the run "
                "folder do not belong together: train again"
            )
        try:
            self._continue(saved, saved.training)
        except CtnetError as error:
            raise CtnetError(f"{self.run.last} cannot be continued: {error}") from error

    def _continue(self, saved: checkpoint.Checkpoint, training: Mapping[str, Any]) -> None:
        if not training:
            raise CtnetError("it has weights but no training state (a copy of best.pt?); start with --init")
        state = check_values(TrainingState, training, "its training state", DAMAGED)
        before = check_text(dict[str, Any], state["config"], "its config", DAMAGED)
        if changes := self.config.changes(before):
            raise CtnetError(
                f"{self.run.config} was changed since it was written ({'; '.join(changes[:3])}); restore "
                f"it, or start a new run from these weights with --init {self.run.path}"
            )
        self.position = check_text(Position, state["position"], "its position", DAMAGED, finite=False)
        self._learner.restore(saved.weights, state)

    def _not_finite(self, error: NotFinite, step: Step) -> CtnetError:
        assert error.batch is not None
        dataset = self.loader.samples.dataset
        indices = step.batches[error.batch].indices
        names = ", ".join(dataset.info(index).file_name for index in indices)
        terms = ", ".join(f"{name} {value}" for name, value in error.terms.items())
        kept = f"; {self.run.last} holds the last good weights" if self.run.last.is_file() else ""
        return CtnetError(
            f"the loss is not finite in epoch {self.position.epoch + 1}, "
            f"batch {self.position.batch + error.batch + 1} ({terms}); its images: {names}{kept}; lower "
            "--lr, or check these images with `ctnet data check`"
        )
