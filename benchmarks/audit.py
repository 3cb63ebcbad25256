"""Does `ctnet data audit` find label errors, and does `-O doubtful=ignore` help where boxes are missing?

    python benchmarks/audit.py remove DIR NEW [--split train] [--share 0.1] [--seed 0]
    python benchmarks/audit.py find DIR STUDY [--task ctdet] [--folds 5] [--top 100] [-R field=value ...]
    python benchmarks/audit.py kinds RUN STUDY [--share 0.05] [--images 200]
    python benchmarks/audit.py doubtful STUDY [--data DIR] [--share 0.3] [--seeds 3] [-R field=value ...]
    python benchmarks/audit.py count AUDIT NEW [--top 100] [--sheets FOLDER]

``remove`` writes a data directory without a share of the training boxes, drawn at random (images are links),
and lists these in ``removed.json``. ``find`` does that, makes a run of one epoch (only its settings matter),
audits it with folds that are trained with the recipe's fields, and counts; it goes on where it was stopped.

``kinds`` makes errors of every kind in new synthetic scenes (a share of the objects each: removed, another
class, moved by 0.3 of its sides, annotated twice, annotated where nothing is), lets a run judge them, and
counts which suggestions are right. ``doubtful`` trains with and without the option on a split without a share
of its boxes, and evaluates on the complete validation split; on synthetic scenes unless there is data.

``count`` says how many of an audit's best suggestions are removed boxes (IoU of 0.5 or more; each box counts
once), and draws all of them on sheets, with their numbers, for someone to look at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.audit import Audit, AuditChoice, audit, read_decisions
from ctnet.audit.decisions import Proposal
from ctnet.base.files import read_json, write_json
from ctnet.core.records import Detections
from ctnet.core.task import scenes_of
from ctnet.data.dataset import Dataset
from ctnet.data.synthetic import write_dataset
from ctnet.inference.detector import Detector
from ctnet.ops.boxes import box_iou
from ctnet.report.draw import draw_detections, grid, side_by_side
from ctnet.report.writing import write_image
from ctnet.training.data import example_data
from ctnet.training.request import Machine, Network, RecipeChoice, TrainingData
from ctnet.training.session import new_session

_SIDE = 240
_A_SHEET = 25


def remove(source: Path, target: Path, split: str, share: float, seed: int) -> None:
    """Write a copy of a data directory without some of a split's boxes; images are links."""
    if (target / "removed.json").is_file():
        return
    (target / "annotations").mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.name != "annotations":
            (target / entry.name).symlink_to(entry.absolute())
    for file in (source / "annotations").glob("*.json"):
        document = read_json(file)
        if file.stem.endswith(f"_{split}"):
            objects = [each for each in document["annotations"] if not each.get("iscrowd")]
            rng = np.random.default_rng(seed)
            lot = rng.choice(len(objects), round(share * len(objects)), replace=False)
            gone = [objects[row] for row in sorted(lot.tolist())]
            ids = {each["id"] for each in gone}
            document["annotations"] = [each for each in document["annotations"] if each["id"] not in ids]
            write_json(
                target / "removed.json", {"split": split, "share": share, "seed": seed, "removed": gone}
            )
        write_json(target / "annotations" / file.name, document, indent=None)


def find(
    source: Path, study: Path, task: str, folds: int, fields: dict[str, Any], share: float, seed: int
) -> Audit:
    """Remove, audit with folds."""
    data, run = study / "data", study / "run"
    remove(source, data, "train", share, seed)
    machine = Machine(workers=0)
    if not (run / "best.pt").is_file():
        choice = RecipeChoice(None, {"amp": "off", **fields, "epochs": 1})
        session = new_session(task, TrainingData(data, "train", None), Network(), choice, 0, machine, run)
        session.fit()
    return audit(
        AuditChoice(run, split="train", folds=folds, fields=fields, output=study / "audit", most=1000),
        machine,
    )


def is_removed(proposals: Sequence[Proposal], removed: Sequence[dict[str, Any]]) -> list[int | None]:
    """For each suggestion the id of the removed box that it proposes; each box counts once."""
    free = {each["id"]: each for each in removed}
    found: list[int | None] = []
    for proposal in proposals:
        here = [each for each in free.values() if each["image_id"] == proposal.image_id]
        match = None
        if proposal.action == "add" and here:
            overlap = box_iou(_corners([proposal.values["bbox"]]), _corners([each["bbox"] for each in here]))[
                0
            ]
            if overlap.max() >= 0.5:
                match = here[int(overlap.argmax())]["id"]
                del free[match]
        found.append(match)
    return found


def kinds(run: Path, study: Path, share: float, images: int, seed: int) -> None:
    """Print how many suggestions are errors that were made, by kind."""
    task = Detector.load(run).task
    write_dataset(task, study / "data", {"val": images}, scenes_of(task).size, seed=seed + 7)
    file = study / "data" / "annotations" / f"{task.layout.prefix}_val.json"
    document = read_json(file)
    made = _damage(document, share, np.random.default_rng(seed))
    write_json(file, document, indent=None)
    done = audit(
        AuditChoice(run, study / "data", "val", output=study / "audit", most=1000), Machine(workers=0)
    )
    found = done.decisions.suggestions
    unmarked = is_removed(found, made["unmarked"])
    right = [
        gone is not None if each.kind == "unmarked" else each.annotation_id in made.get(each.kind, [])
        for each, gone in zip(found, unmarked, strict=True)
    ]
    print("made:", ", ".join(f"{len(each)} {kind}" for kind, each in made.items()))
    for top in (50, 100, 150, 200, 300):
        parts = [
            f"{kind} {sum(hit for each, hit in mine if each.kind == kind)} of "
            f"{sum(each.kind == kind for each, _ in mine)}"
            for mine in [list(zip(found[:top], right[:top], strict=True))]
            for kind in made
        ]
        print(f"right among the best {top}: {sum(right[:top])}; {', '.join(parts)}")


def _damage(document: dict[str, Any], share: float, rng: np.random.Generator) -> dict[str, list[Any]]:
    """Make errors in a document; returns what was removed, and the ids of what is wrong by kind."""
    objects = document["annotations"]
    ids = [each["id"] for each in document["categories"]]
    count = max(1, round(share * len(objects)))
    lots = rng.permutation(len(objects))[: 5 * count].reshape(5, count)
    sizes = {each["id"]: (each["width"], each["height"]) for each in document["images"]}
    made: dict[str, list[Any]] = {"unmarked": [objects[row] for row in lots[0]], "class": [], "box": []}
    made |= {"duplicate": [], "unseen": []}
    for row in lots[1].tolist():
        others = [number for number in ids if number != objects[row]["category_id"]]
        if others:
            objects[row]["category_id"] = int(rng.choice(others))
            made["class"].append(objects[row]["id"])
    for row in lots[2].tolist():
        x, y, width, height = objects[row]["bbox"]
        side = rng.choice([-0.3, 0.3], 2)
        objects[row]["bbox"] = [
            round(float(x + side[0] * width), 2),
            round(float(y + side[1] * height), 2),
            width,
            height,
        ]
        made["box"].append(objects[row]["id"])
    new = max(each["id"] for each in objects) + 1
    added = []
    for row in [*lots[3].tolist(), *lots[4].tolist()]:
        twice = row in lots[3]
        x, y, width, height = objects[row]["bbox"]
        across, down = sizes[objects[row]["image_id"]]
        free = (max(across - width, 1), max(down - height, 1))
        place = [x + 0.5, y - 0.5] if twice else [float(rng.uniform(0, side)) for side in free]
        added.append({**objects[row], "id": new, "bbox": [*place, width, height]})
        made["duplicate" if twice else "unseen"] += [objects[row]["id"], new] if twice else [new]
        new += 1
    gone = set(lots[0].tolist())
    document["annotations"] = [each for row, each in enumerate(objects) if row not in gone] + added
    return made


def doubtful(study: Path, data: Path | None, share: float, seeds: int, fields: dict[str, Any]) -> None:
    """Print the AP of trainings with missing boxes, without and with ``-O doubtful=ignore``."""
    source = data or example_data("ctdet", {"train": 480, "val": 200})
    rows = []
    for seed in range(seeds):
        less = study / f"data-{seed}"
        remove(source, less, "train", share, seed)
        rows.append([_trained(study, less, seed, choice, fields) for choice in ("background", "ignore")])
        print(
            f"seed {seed}: AP {rows[-1][0]:.4f} without, {rows[-1][1]:.4f} with doubtful=ignore", flush=True
        )
    table = np.array(rows)
    change = table[:, 1] - table[:, 0]
    print(f"mean: {table[:, 0].mean():.4f} without, {table[:, 1].mean():.4f} with")
    print(f"difference: {change.mean():+.4f}, from {change.min():+.4f} to {change.max():+.4f}")


def _trained(study: Path, data: Path, seed: int, choice: str, fields: dict[str, Any]) -> float:
    """The AP after the last epoch; a finished training is not repeated."""
    result = study / f"{choice}-{seed}.json"
    if not result.is_file():
        epochs = fields.get("epochs", 10)
        set_fields = {
            "size": 128,
            "final_rate": 0,
            "amp": "off",
            **fields,
            "epochs": epochs,
            "evaluate_every": epochs,
        }
        session = new_session(
            "ctdet",
            TrainingData(data),
            Network({"doubtful": choice}),
            RecipeChoice("small", set_fields),
            seed,
            Machine(workers=0),
            study / f"{choice}-{seed}",
        )
        session.fit()
        write_json(result, session.rows[-1])
    return float(read_json(result)["AP"])


def count(folder: Path, data: Path, top: int, sheets: Path | None) -> None:
    """Print how many of the best suggestions are removed boxes; draw them."""
    decisions = read_decisions(folder / "decisions.json")
    listed = json.loads((data / "removed.json").read_text())
    removed = listed["removed"]
    found = is_removed(decisions.suggestions, removed)
    best = decisions.suggestions[:top]
    hits = [number is not None for number in found]
    print(f"boxes removed: {len(removed)}")
    print(f"among the best {len(best)} suggestions: {sum(hits[:top])} removed boxes")
    for kind in dict.fromkeys(each.kind for each in best):
        rows = [row for row, each in enumerate(best) if each.kind == kind]
        print(f"  {kind}: {len(rows)}, of which removed {sum(hits[row] for row in rows)}")
    for limit in (25, 50, 200, 500, 1000):
        if limit <= len(hits):
            print(f"among the best {limit}: {sum(hits[:limit])}")
    print(f"among all {len(hits)} suggestions: {sum(hits)}")
    if sheets is not None:
        dataset = Dataset.open(data, listed["split"])
        draw_sheets(sheets, dataset, best, hits)


def draw_sheets(folder: Path, dataset: Dataset, proposals: Sequence[Proposal], hits: Sequence[bool]) -> None:
    """Draw suggestions, 25 to a sheet: annotations left, the suggestion right."""
    rows = {int(image_id): row for row, image_id in enumerate(dataset.image_ids)}
    names = [str(each["name"]) for each in sorted(dataset.categories, key=lambda each: int(each["id"]))]
    for start in range(0, len(proposals), _A_SHEET):
        cells = [
            _cell(dataset, rows[each.image_id], each, names, hits[start + place])
            for place, each in enumerate(proposals[start : start + _A_SHEET])
        ]
        write_image(folder / f"sheet-{start // _A_SHEET + 1}.png", grid(cells, 5))


def _cell(dataset: Dataset, row: int, proposal: Proposal, names: Sequence[str], hit: bool) -> np.ndarray:
    sample, annotations = dataset[row], dataset.annotations(row)
    instances = sample.instances
    mine = annotations.ids == (proposal.annotation_id or -1)
    boxes = instances.boxes[mine]
    label = int(instances.labels[mine][0]) if mine.any() else 0
    if "bbox" in proposal.values:
        boxes = np.concatenate([boxes, _corners([proposal.values["bbox"]]).astype(np.float32)])
    if "category_id" in proposal.values:
        ids = sorted(int(each["id"]) for each in dataset.categories)
        label = ids.index(proposal.values["category_id"])
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    side = max(float((high - low).max()) * 2.5, 48.0)
    corner = ((low + high) / 2 - side / 2).round().astype(int)
    zoom = _SIDE / side
    image = _crop(sample.image, corner, round(side))

    def drawn(shown: np.ndarray, labels: np.ndarray) -> np.ndarray:
        moved = (shown - [*corner, *corner]) * zoom
        inside = (moved[:, 2:] > 0).all(axis=1) & (moved[:, :2] < _SIDE).all(axis=1)
        return draw_detections(image, Detections(moved[inside], np.ones(inside.sum()), labels[inside]), names)

    pair = drawn(instances.boxes, instances.labels), drawn(boxes[-1:], np.array([label]))
    note = "REMOVED" if hit else ""
    return side_by_side(pair, [f"{proposal.number} {proposal.kind} {proposal.rank:.2f}", note or "suggested"])


def _crop(image: np.ndarray, corner: np.ndarray, side: int) -> np.ndarray:
    import cv2

    matrix = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]]]) * (_SIDE / side)
    return np.asarray(cv2.warpAffine(image, matrix, (_SIDE, _SIDE), borderValue=(128, 128, 128)))


def _corners(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    found = np.asarray(boxes, np.float64).reshape(-1, 4)
    return np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("remove")
    two = commands.add_parser("find")
    three = commands.add_parser("count")
    five = commands.add_parser("kinds")
    five.add_argument("run", type=Path)
    five.add_argument("target", type=Path)
    five.add_argument("--share", type=float, default=0.05)
    five.add_argument("--images", type=int, default=200)
    five.add_argument("--seed", type=int, default=0)
    four = commands.add_parser("doubtful")
    four.add_argument("target", type=Path)
    four.add_argument("--data", type=Path)
    four.add_argument("--share", type=float, default=0.3)
    four.add_argument("--seeds", type=int, default=3)
    for command in (one, two):
        command.add_argument("data", type=Path)
        command.add_argument("target", type=Path)
        command.add_argument("--share", type=float, default=0.1)
        command.add_argument("--seed", type=int, default=0)
    one.add_argument("--split", default="train")
    two.add_argument("--task", default="ctdet")
    two.add_argument("--folds", type=int, default=5)
    for command in (two, four):
        command.add_argument("-R", dest="fields", action="append", default=[])
    three.add_argument("audit", type=Path)
    three.add_argument("data", type=Path)
    for command in (two, three):
        command.add_argument("--top", type=int, default=100)
        command.add_argument("--sheets", type=Path)
    chosen = parser.parse_args()
    fields = dict(each.split("=", 1) for each in getattr(chosen, "fields", []))
    if chosen.command == "remove":
        remove(chosen.data, chosen.target, chosen.split, chosen.share, chosen.seed)
    elif chosen.command == "kinds":
        kinds(chosen.run, chosen.target, chosen.share, chosen.images, chosen.seed)
    elif chosen.command == "doubtful":
        doubtful(chosen.target, chosen.data, chosen.share, chosen.seeds, fields)
    elif chosen.command == "find":
        done = find(chosen.data, chosen.target, chosen.task, chosen.folds, fields, chosen.share, chosen.seed)
        count(done.folder, chosen.target / "data", chosen.top, chosen.sheets)
    else:
        count(chosen.audit, chosen.data, chosen.top, chosen.sheets)


if __name__ == "__main__":
    main()
