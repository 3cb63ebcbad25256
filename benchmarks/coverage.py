"""Whether intervals cover and comparisons err as often as they say, on simulated evaluations.

python benchmarks/coverage.py [--intervals 300] [--pairs 400] [--recipes 400] [--truth 50000]

An image has a difficulty, 0 to 8 objects and some false detections. An object of an easy image is found more
often, with a better score and a larger overlap. The true AP is that of 50,000 images. Reported are

- of 300 data sets of 40, 100 and 500 images: how many 95 % intervals cover the true AP;
- of 400 pairs of equal models (the same chances for every image, other dice), 500 images: how many are
  called different;
- of 100 pairs whose true AP differs by 0.05, 500 images: how many are called different;
- of 400 pairs of equal recipes, three trainings each, whose seeds differ a little, and of 100 pairs that
  differ by 0.05, 160 images: how many are called different.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from ctnet.core.tally import Drawn, Tally
from ctnet.evaluation.bootstrap import draw_metrics, intervals
from ctnet.evaluation.comparison import compare_models, compare_recipes
from ctnet.evaluation.ranking import Ranking

#: How much of an image's luck two models share: the correlation of their logits of finding an object.
SHARED = 0.7
#: By how much the logit of the better model is higher; its true AP is 0.05 higher, as is printed.
BETTER = 0.23

#: How much the seeds of a recipe vary, in logits of finding an object; 0: nothing but luck with the images.
SPREADS = (0.0, 0.05, 0.2)

THRESHOLDS = (0.5, 0.75, 0.9)


class SimulatedTally(Tally):
    """AP of one class, the mean over three overlaps."""

    def __init__(self, image_count: int, image: np.ndarray, ranking: Ranking, objects: np.ndarray) -> None:
        super().__init__(range(image_count), {"object": objects}, np.bincount(image, minlength=image_count))
        self._ranking = ranking
        self.rows = max(self.rows, len(ranking))

    def metrics(self, weights: np.ndarray) -> Drawn:
        objects = weights @ self.objects["object"]
        return {"AP": self._ranking.averages(weights, objects, "coco").precision.mean(axis=0)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--intervals", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--recipes", type=int, default=400)
    parser.add_argument("--truth", type=int, default=50_000)
    options = parser.parse_args()
    truth = [true_ap(options.truth, better) for better in (0.0, BETTER)]
    print(f"true AP from {options.truth} images: {truth[0]:.4f}; of the better model {truth[1]:.4f}")
    for images in (40, 100, 500):
        covered, widths = np.zeros(2, int), []
        for seed in range(options.intervals):
            found = intervals(draw_metrics(models(images, [0.0], seed)[0], seed=seed))["AP"]
            for row, (low, high) in enumerate((found.percentile, found.bca)):
                covered[row] += low <= truth[0] <= high
            widths.append(found.percentile[1] - found.percentile[0])
        percent = 100 * covered / options.intervals
        print(
            f"{images} images: of {options.intervals} intervals, percentile covers {percent[0]:.1f} %, "
            f"BCa {percent[1]:.1f} %; mean width {np.mean(widths):.3f}",
            flush=True,
        )
    for better, pairs in ((0.0, options.pairs), (BETTER, options.pairs // 4)):
        report(better, pairs)
    for spread in SPREADS:
        for better, pairs in ((0.0, options.recipes), (BETTER, options.recipes // 4)):
            report_recipes(better, spread, pairs)


def report_recipes(better: float, spread: float, pairs: int, images: int = 160, seeds: int = 3) -> None:
    """Print how many of so many pairs of recipes are told apart; their trainings vary by so many logits."""
    called, values = 0, []
    for seed in range(pairs):
        shifts = np.random.default_rng([seed, 7]).normal(0, spread, 2 * seeds)
        shifts[seeds:] += better
        draws = [draw_metrics(model, seed=seed) for model in models(images, list(shifts), 50_000 + seed)]
        found = compare_recipes(draws[:seeds], draws[seeds:], lambda name: False, seed)["AP"]
        called += found.distinguishable
        values.append([one.value["AP"] for one in draws[:seeds]])
    what = "equal recipes" if not better else "recipes that differ"
    print(
        f"{what}, {seeds} trainings each, standard deviation of their AP on {images} images "
        f"{np.mean(np.std(values, axis=1, ddof=1)):.3f} (seeds vary by {spread} logits): {called} of {pairs} "
        f"called different ({100 * called / pairs:.1f} %)",
        flush=True,
    )


def report(better: float, pairs: int) -> None:
    """Print how many of so many pairs are told apart."""
    called, correlations = 0, []
    for seed in range(pairs):
        draws = [draw_metrics(model, seed=seed) for model in models(500, [0.0, better], 10_000 + seed)]
        found = compare_models(*draws, lower_is_better=lambda name: False)["AP"]
        called += found.distinguishable
        correlations.append(np.corrcoef(draws[0].drawn["AP"], draws[1].drawn["AP"])[0, 1])
    what = "equal models" if not better else "models that differ"
    print(
        f"{what}, 500 images: {called} of {pairs} pairs called different ({100 * called / pairs:.1f} %); "
        f"correlation of their AP over draws {np.mean(correlations):.2f}",
        flush=True,
    )


def true_ap(images: int, better: float) -> float:
    tally = models(images, [better], 12_345)[0]
    return float(tally.metrics(np.ones((1, images), np.int32))["AP"][0])


def models(images: int, better: Sequence[float], seed: int) -> list[SimulatedTally]:
    """Models on the same images."""
    rng = np.random.default_rng([seed, images])
    difficulty = rng.normal(0, 1, images)
    objects = rng.binomial(8, 0.3, images)
    return [model(difficulty, objects, rng, more) for more in better]


def model(
    difficulty: np.ndarray, objects: np.ndarray, rng: np.random.Generator, better: float
) -> SimulatedTally:
    """A model on these images: what it finds, and what it takes for an object."""
    images = len(objects)
    of_object = np.repeat(np.arange(images), objects)
    own = rng.normal(0, 1, images)
    ease = -(np.sqrt(SHARED) * difficulty + np.sqrt(1 - SHARED) * own)[of_object] + better
    found = rng.random(len(of_object)) < _logistic(1.2 + ease)
    overlap = _logistic(1.6 + 0.7 * ease + rng.normal(0, 1.1, len(of_object)))
    scores = _logistic(0.8 + 0.8 * ease + rng.normal(0, 1, len(of_object)))
    wrong = np.repeat(np.arange(images), rng.poisson(2, images))
    image = np.concatenate([of_object[found], wrong])
    score = np.concatenate([scores[found], _logistic(-1 + rng.normal(0, 1, len(wrong)))])
    right = np.zeros((len(THRESHOLDS), len(image)), bool)
    for row, least in enumerate(THRESHOLDS):
        right[row, : found.sum()] = overlap[found] >= least
    order = np.argsort(image, kind="stable")
    ranking = Ranking(image[order], score[order], right[:, order], np.ones_like(right))
    return SimulatedTally(images, image, ranking, objects)


def _logistic(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


if __name__ == "__main__":
    main()
