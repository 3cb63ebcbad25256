"""The report of runs: evaluated once, and written as one page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from ctnet.analysis import report_figures, report_scores, report_training
from ctnet.analysis.breakdown import break_down
from ctnet.analysis.breakdown import compare as compare_images
from ctnet.analysis.report_comparison import side_by_side
from ctnet.analysis.reported import AFTER_TRAINING, Examined, ReportChoices, ReportedRun, examine_run
from ctnet.analysis.worst_images import MOST_FOUND, WorstImages
from ctnet.base.errors import CtnetError
from ctnet.base.files import atomic_write
from ctnet.base.output import printable
from ctnet.base.plugins import discover
from ctnet.base.version import __version__
from ctnet.report.embedding import as_jpeg, fitting_scale, resized
from ctnet.report.page import (
    LARGEST,
    PICTURES,
    PLUGIN_PICTURES,
    Drawn,
    Gallery,
    Page,
    ReportSection,
    RunPage,
    render_page,
)
from ctnet.report.plots import (
    MISSING,
    has_matplotlib,
    plot_confusion,
    plot_labels,
    plot_lines,
    plot_precision_recall,
)
from ctnet.report.writing import write_image
from ctnet.training.pictures import draw_training_samples
from ctnet.training.trainer import Trainer

#: Entry points of functions that take a ``ReportedRun`` and return a ``ReportSection``, or None for none.
GROUP = "ctnet.report_sections"

#: The file in a run folder.
NAME = "report.html"


@dataclass(frozen=True)
class Written:
    """A report that was written.

    Attributes:
        path: the file.
        size: bytes.
        left_out: what the page says it leaves out, by run.
        plots: the PNG files that were written.
        notes: what else is to be said, a line each.
    """

    path: Path
    size: int
    left_out: dict[str, list[str]]
    plots: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def write_report(
    paths: Sequence[Path], output: Path | None = None, choices: ReportChoices | None = None
) -> Written:
    """Evaluate runs and write their report.

    Args:
        paths: run folders, checkpoints or exported files.
        output: the file; in the run's folder, or in the current one for several runs, when None.
        choices: how.

    Raises:
        CtnetError: for what is not a run, and a file that cannot be written. What is missing from a run
            (data, epochs, intervals) is named on the page.
    """
    choices = choices or ReportChoices()
    if output is None:
        alone = paths[0] if paths[0].is_dir() else paths[0].parent
        output = alone / NAME if len(paths) == 1 else Path(NAME)
    done = [examine_run(path, choices) for path in paths]
    names = _names(paths)
    room = PICTURES // len(paths)
    runs = [run_page(name, one, choices, room) for name, one in zip(names, done, strict=True)]
    side = side_by_side(names, done, choices) if len(done) > 1 else None
    made = f"ctnet {__version__}, {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    title = f"Report of {names[0]}" if len(names) == 1 else f"Report of {len(names)} runs"
    page = _within(Page(title, made, runs, side))
    with atomic_write(output, "w") as stream:
        stream.write(page)
    left_out = {run.name: list(run.left_out) for run in runs}
    written = Written(output, len(page.encode()), left_out)
    if not choices.plots:
        return written
    if not has_matplotlib():
        return replace(written, notes=(MISSING,))
    plots = [path for one, run in zip(done, runs, strict=True) for path in _plots(one, run)]
    return replace(written, plots=tuple(plots))


def after_training(trainer: Trainer) -> Written:
    """The report and the plots of a run that was just trained, in its folder; bounded to seconds.

    Args:
        trainer: has finished.

    Raises:
        CtnetError: see ``write_report``.
    """
    folder = trainer.run.path
    samples = draw_training_samples(trainer.loader.samples)
    if samples is not None:
        write_image(folder / "train_batch.png", samples)
    if has_matplotlib():
        plot_labels(folder / "labels.png", trainer.loader.samples.dataset)
    choices = replace(AFTER_TRAINING, device=str(trainer.device), workers=trainer.workers)
    return write_report([folder], choices=choices)


def _plots(done: Examined, page: RunPage) -> list[Path]:
    """PNG plots of a run, in its folder."""
    folder = done.run.path if done.run.path.is_dir() else done.run.path.parent
    names, scored, written = done.run.detector.class_names, done.scored, []
    charts = report_training.training_series(done.rows)
    if charts:
        written.append(folder / "curves.png")
        plot_lines(written[-1], charts, logarithmic=["loss"])
    if scored is not None and len(scored.scores):
        labels = report_scores.largest_classes(scored, len(names), report_training.MOST_LINES)
        written.append(folder / "pr.png")
        lines = [report_scores.curve_series(names[label], scored.ratios(label)) for label in labels]
        plot_precision_recall(written[-1], lines)
    if page.confusion is not None:
        written.append(folder / "confusion.png")
        plot_confusion(written[-1], *page.confusion)
    return written


def run_page(name: str, done: Examined, choices: ReportChoices, room: int) -> RunPage:
    """What the page says of one run.

    Args:
        name: what it is called there.
        done: the run.
        choices: how.
        room: characters for pictures.
    """
    page = RunPage(
        name=name,
        summary=report_training.summary(done),
        about=report_training.about(done),
        charts=report_training.training_charts(done.rows),
        epochs=report_training.epochs_table(done.rows),
        left_out=done.left_out,
    )
    if done.scored is not None:
        page = _with_evaluation(page, done, choices, room)
    return replace(page, sections=_sections(done.run, done.left_out))


def _with_evaluation(page: RunPage, done: Examined, choices: ReportChoices, room: int) -> RunPage:
    scored, run = done.scored, done.run
    assert scored is not None
    assert run.subject is not None
    assert run.done is not None
    names, dataset = run.detector.class_names, run.subject.dataset
    points = run.detector.operating_points
    step = report_scores.chosen_step(points, scored, None, "")
    step = page.step if step is None else step
    operating, operating_said = report_scores.operating_table(points, names)
    reliability, reliability_said = report_scores.calibration(done)
    shown, said = report_figures.figures(done)
    counts, columns = report_figures.tallied(done)
    errors, errors_said = report_figures.errors(break_down(compare_images(dataset, run.found)))
    times, times_said = report_figures.time_bars(run.done.times, run.detector.device)
    oracle, oracle_said = report_figures.oracle(*done.oracle) if done.oracle else ([], [])
    if not len(scored.scores):
        done.left_out.append("curves and confusion: nothing was detected")
    worst = WorstImages(run.detector, dataset, run.found, scored, choices.settings, step, room)
    galleries = worst.galleries(choices.pictures)
    if worst.left_out:
        done.left_out.append(f"{worst.left_out} of the worst images, to keep the page small")
    return replace(
        page,
        figures=shown,
        figures_said=said,
        step=step,
        counts=counts,
        class_figures=columns,
        curves=report_scores.curves(done, scored, done.left_out) if len(scored.scores) else {},
        confusion=report_scores.confusion(scored, names, step, done.left_out) if len(scored.scores) else None,
        operating=operating,
        operating_said=operating_said,
        calibration=reliability,
        calibration_said=reliability_said,
        errors=errors,
        errors_said=errors_said,
        oracle=oracle,
        oracle_said=oracle_said,
        groups={
            "AP50 by size of the objects": report_figures.group_bars(scored.by_size()),
            "AP50 by objects per image": report_figures.group_bars(scored.by_crowding()),
        },
        times=times,
        times_said=times_said,
        galleries=galleries,
        most_drawn=MOST_FOUND,
    )


def _sections(run: ReportedRun, left_out: list[str]) -> list[Drawn]:
    """The sections of plugins; one that fails is named and harms no other."""
    found, room = [], PLUGIN_PICTURES
    for name, plugin in discover(GROUP).items():
        try:
            section = plugin.load()(run)
            if section is None:
                continue
            drawn = _drawn(section, room)
        except CtnetError as error:
            left_out.append(f"section {name}: {error}")
        except Exception as error:  # a plugin must not cost the whole report
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            left_out.append(f"section {name} of {plugin.origin}, which failed ({text})")
        else:
            room -= sum(map(len, drawn.pictures.values()))
            lost = len(section.pictures) - len(drawn.pictures)
            if lost:
                left_out.append(f"{lost} pictures of section {name}, to keep the page small")
            found.append(drawn)
    return found


def _drawn(section: ReportSection, room: int) -> Drawn:
    pictures = {}
    for caption, image in section.pictures.items():
        height, width = image.shape[:2]
        scale = min(1.0, 2 * fitting_scale(width, height))
        text = as_jpeg(resized(image, (max(1, round(width * scale)), max(1, round(height * scale)))))
        if len(text) <= room:
            pictures[caption] = text
            room -= len(text)
    return Drawn(section.title, section.text, section.tables, pictures)


def _within(page: Page) -> str:
    """The page, with fewer pictures if it would be too large: from the last gallery on."""
    text = render_page(page)
    while len(text.encode()) > LARGEST and any(run.galleries for run in page.runs):
        runs = [
            replace(
                run,
                galleries=_one_less(run.galleries),
                left_out=[*run.left_out, "pictures, to keep the page small"],
            )
            for run in page.runs
        ]
        page = replace(page, runs=runs)
        text = render_page(page)
    return text


def _one_less(galleries: Sequence[Gallery]) -> list[Gallery]:
    kept = [Gallery(one.title, one.images[:-1]) for one in galleries]
    return [one for one in kept if one.images]


def _names(paths: Sequence[Path]) -> list[str]:
    """Short names that differ: as few of the last parts of each path as it takes."""
    resolved = [path.absolute().parts for path in paths]
    for count in itertools.count(1):
        names = ["/".join(each[-count:]) for each in resolved]
        if len(set(names)) == len(names) or count >= max(map(len, resolved)):
            return [printable(name) for name in names]
    raise AssertionError
