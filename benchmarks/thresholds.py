"""What thresholds chosen on val are worth on test, against one number for all classes.

python benchmarks/thresholds.py RUN [--data DIR] [--val val] [--test test] [--draws 1000] [--json]
python benchmarks/thresholds.py --simulate

The detector is evaluated on both splits. Its thresholds (best F1 of each class, and of all classes together)
are chosen on val; precision, recall and F1 are those on test, at these thresholds and at 0.3. The images of
test are drawn again, the same for both, for an interval of the difference.

--simulate shows what the choice costs by itself: data sets of a few objects are drawn, a threshold is chosen
on each, and its F1 is that on 100,000 objects, compared with the best there. "at the highest" is the
threshold of the highest F1, without looking for the middle of those that cannot be told apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.analysis.subject import DetectorSubject, Ground
from ctnet.base.output import print_json, print_line, print_note, print_table
from ctnet.core.tally import Drawn, Matched, Matches, Tally
from ctnet.evaluation.bootstrap import draw_metrics
from ctnet.evaluation.comparison import Difference, compare_models
from ctnet.evaluation.operating import PointsTally, operating_points, threshold_curves, warnings_of
from ctnet.inference.settings import SCORE
from ctnet.measuring.reading import Settings

#: Mean logit of right and of wrong detections, and wrong ones per object.
WORLDS = {"well separated": (1.5, -3.0, 6), "usual": (0.3, -2.2, 6), "low scores": (-0.7, -2.0, 4)}
SIZES = (10, 20, 30, 50, 100, 300, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--val", default="val")
    parser.add_argument("--test", default="test")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    if options.simulate:
        simulate(options.repeats)
    else:
        study(options)


def study(options: argparse.Namespace) -> None:
    """Choose on one split, measure on the other."""
    val, test = (tally_of(options, split) for split in (options.val, options.test))
    points = operating_points(val, options.val, draws=options.draws, seed=options.seed)
    for line in warnings_of(points):
        print_note(f"warning: {line}")
    names = list(points.classes)
    choices = {
        f"{SCORE} for all": dict.fromkeys(names, SCORE),
        "one from val": dict.fromkeys(names, points.everything.score),
        "each class from val": {name: point.score for name, point in points.classes.items()},
    }
    tallies = {name: PointsTally(test, scores) for name, scores in choices.items()}
    drawn = {name: draw_metrics(tally, options.draws, options.seed) for name, tally in tallies.items()}
    first, *others = drawn
    compared = {
        name: compare_models(drawn[first], drawn[name], lower_is_better=lambda metric: False)
        for name in others
    }
    if options.json:
        print_json(as_document(options, points.to_json(), choices, compared))
        return
    print_line(points.said)
    for name, found in compared.items():
        print_line(f"\n{first} against {name}, on {len(test.image_ids)} images of {options.test}")
        print_table(["", first, name, "difference", "95 %", ""], [row(*each) for each in found.items()])


def tally_of(options: argparse.Namespace, split: str) -> Tally:
    subject = DetectorSubject.open(options.run, Ground(options.data, split), options.device)
    done = subject.evaluate(subject.on_device(Settings(), options.workers, "off"))
    assert done.evaluator is not None
    return done.evaluator.tally()


def row(name: str, one: Difference) -> list[str]:
    low, high = one.percentile
    verdict = "" if one.distinguishable else "not distinguishable"
    values = (f"{one.a:.3f}", f"{one.b:.3f}", f"{one.difference:+.3f}", f"{low:+.3f} to {high:+.3f}")
    return [name, *values, verdict]


def as_document(
    options: argparse.Namespace,
    points: dict[str, Any],
    choices: Mapping[str, Mapping[str, float]],
    compared: Mapping[str, Mapping[str, Difference]],
) -> dict[str, Any]:
    found = {
        name: {metric: one.to_json() for metric, one in differences.items()}
        for name, differences in compared.items()
    }
    about = {"run": str(options.run), "val": options.val, "test": options.test, "draws": options.draws}
    return {**about, "operating_points": points, "thresholds": choices, "compared": found}


class Simulated(Tally):
    """One class, each object in an image of its own."""

    def __init__(self, objects: int, world: tuple[float, float, int], rng: np.random.Generator) -> None:
        right, wrong, per_object = world
        found = np.flatnonzero(rng.random(objects) < 0.85)
        false = rng.integers(objects, size=rng.poisson(per_object * objects))
        logits = np.concatenate([rng.normal(right, 1.2, len(found)), rng.normal(wrong, 1.2, len(false))])
        image, hits = np.concatenate([found, false]), np.arange(len(logits)) < len(found)
        ones = np.ones(objects, np.int64)
        super().__init__(range(objects), {"object": ones}, np.bincount(image, minlength=objects))
        self.matched = Matched.of(image, 1 / (1 + np.exp(-logits)), hits, ~hits, ones)

    def metrics(self, weights: np.ndarray) -> Drawn:
        return {}

    def matches(self) -> Matches:
        return Matches("", {"object": self.matched})


def simulate(repeats: int) -> None:
    """Print what choosing a threshold on few objects costs."""
    rows = []
    for name, world in WORLDS.items():
        rng = np.random.default_rng(0)
        curve = threshold_curves(Simulated(100_000, world, rng).matches())["object"]
        best = float(curve.f1.max())

        def cost(score: float, curve: Any = curve, best: float = best) -> float:
            return best - float(curve.f1[max(int(np.searchsorted(-curve.score, -score)) - 1, 0)])

        fixed = cost(SCORE)
        for objects in SIZES:
            chosen, highest, scores = [], [], []
            for _ in range(repeats):
                tally = Simulated(objects, world, rng)
                # All classes together: the rule for few objects of a class does not apply.
                scores.append(operating_points(tally, "", draws=0).everything.score)
                chosen.append(cost(scores[-1]))
                own = threshold_curves(tally.matches())["object"]
                top = int(own.f1.argmax())
                highest.append(cost((own.score[top] + np.append(own.score, 0)[top + 1]) / 2))
            values = (best, fixed, float(np.mean(highest)), float(np.mean(chosen)), float(np.std(scores)))
            rows.append([name, objects, *(f"{value:.3f}" for value in values)])
    print_table(
        ["scores", "objects", "best F1", f"less at {SCORE}", "at the highest", "as chosen", "threshold +-"],
        rows,
    )


if __name__ == "__main__":
    main()
