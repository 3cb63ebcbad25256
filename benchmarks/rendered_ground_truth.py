"""The law decode(render(encode(x))) = x on a data set: AP of rendered ground truth, every miss explained.

python benchmarks/rendered_ground_truth.py DIR [--task ctdet] [-O NAME=VALUE] [--resize keep|fix] [--size 512]
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from ctnet.core.task import create_task, load_task_class
from ctnet.data.dataset import Dataset
from ctnet.data.directory import splits
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.preprocessing import Preprocessor
from ctnet.measuring.rendered import explain_misses, render


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", default="ctdet")
    parser.add_argument("-O", "--option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--resize", choices=["keep", "fix"], default="keep")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument(
        "--threshold", type=float, default=0.75, help="IoU below which an object counts as missed"
    )
    arguments = parser.parse_args()
    preprocess = Preprocessor(arguments.resize, (arguments.size, arguments.size), 32)
    options = dict(text.split("=", 1) for text in arguments.option)
    for split in splits(arguments.data):
        dataset = Dataset.open(arguments.data, split, load_task_class(arguments.task))
        task = create_task(arguments.task, dataset.categories, **options)
        dataset = dataset.with_task(task)
        evaluator = evaluator_of(task, dataset)
        causes: Counter[str] = Counter()
        objects = 0
        for index in range(len(dataset)):
            rendered = render(task, dataset, index, preprocess, topk=500)
            # COCO counts the best 100 of an image; all have score 1, so nothing is lost by their order
            # unless an image has more objects.
            evaluator.update(dataset.info(index).image_id, rendered.detections)
            causes.update(explain_misses(rendered, arguments.threshold))
            objects += int((~rendered.instances.crowd).sum())
        metrics = evaluator.compute()
        names = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR")
        shown = "  ".join(f"{name} {metrics[name]:.4f}" for name in names if name in metrics)
        print(f"{arguments.data.name} {split}: {len(dataset)} images, {objects} objects: {shown}")
        for cause, count in causes.most_common():
            print(f"    {count} below IoU {arguments.threshold}: {cause}")


if __name__ == "__main__":
    main()
