"""torchvision's detectors, from scratch: see peers.py. Needs torch, torchvision and numpy.

python peer_torchvision.py train|predict REQUEST.json
python peer_torchvision.py speed fasterrcnn
"""

import json
import math
import statistics
import sys
import time
from pathlib import Path

import torch
from torchvision.io import ImageReadMode, read_image
from torchvision.models import detection
from torchvision.transforms.functional import hflip, resize

torch.set_num_threads(1)
MODELS = {
    "fasterrcnn": detection.fasterrcnn_mobilenet_v3_large_320_fpn,
    "retinanet": detection.retinanet_resnet50_fpn_v2,
    "ssdlite": detection.ssdlite320_mobilenet_v3_large,
    "fcos": detection.fcos_resnet50_fpn,
}


def make(peer, classes, size):
    """A detector without any pretrained weights, for inputs of one size."""
    own = {"min_size": size, "max_size": size} if peer != "ssdlite" else {}
    return MODELS[peer](weights=None, weights_backbone=None, num_classes=classes + 1, **own)


def load(folder, split, size):
    """Images (3, H, W), letterboxed to at most ``size``, and targets, all in memory."""
    truth = json.loads((Path(folder) / f"instances_{split}.json").read_text())
    labels = {number: row for row, number in enumerate(sorted(c["id"] for c in truth["categories"]), start=1)}
    samples = []
    for image in truth["images"]:
        pixels = read_image(image["file_name"], ImageReadMode.RGB)
        scale = size / max(pixels.shape[1:])
        pixels = resize(pixels, [max(round(side * scale), 1) for side in pixels.shape[1:]], antialias=True)
        own = [one for one in truth["annotations"] if one["image_id"] == image["id"] and not one["iscrowd"]]
        boxes = torch.tensor([one["bbox"] for one in own], dtype=torch.float32).reshape(-1, 4) * scale
        boxes[:, 2:] += boxes[:, :2]
        named = torch.tensor([labels[one["category_id"]] for one in own], dtype=torch.int64)
        keep = ((boxes[:, 2:] - boxes[:, :2]) > 1).all(1)
        samples.append((image["id"], scale, pixels, {"boxes": boxes[keep], "labels": named[keep]}))
    return samples, labels


def train(request):
    """SGD with a warm-up and a cosine schedule, flips, batches of 8."""
    torch.manual_seed(request["seed"])
    samples, labels = load(request["coco"], "train", request["size"])
    model = make(request["peer"], len(labels), request["size"]).train()
    rate = 0.01
    optimizer = torch.optim.SGD(model.parameters(), rate, 0.9, weight_decay=1e-4, nesterov=True)
    steps = request["epochs"] * math.ceil(len(samples) / 8)
    step = 0
    for _ in range(request["epochs"]):
        order = torch.randperm(len(samples)).tolist()
        for begin in range(0, len(order), 8):
            images, targets = [], []
            for row in order[begin : begin + 8]:
                _, _, pixels, target = samples[row]
                boxes = target["boxes"].clone()
                if torch.rand(()) < 0.5:
                    pixels = hflip(pixels)
                    boxes[:, [0, 2]] = pixels.shape[2] - boxes[:, [2, 0]]
                images.append(pixels.float() / 255)
                targets.append({"boxes": boxes, "labels": target["labels"]})
            factor = min((step + 1) / 100, 1) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            loss = sum(model(images, targets).values())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            step += 1
    torch.save(model.state_dict(), Path(request["folder"]) / "last.pt")


def predict(request):
    """Results on the validation split, as COCO has them."""
    samples, labels = load(request["coco"], "val", request["size"])
    model = make(request["peer"], len(labels), request["size"]).eval()
    model.load_state_dict(torch.load(Path(request["folder"]) / "last.pt", weights_only=True))
    categories = {row: number for number, row in labels.items()}
    results = []
    with torch.inference_mode():
        for number, scale, pixels, _ in samples:
            (found,) = model([pixels.float() / 255])
            rows = zip(
                (found["boxes"] / scale).tolist(),
                found["scores"].tolist(),
                found["labels"].tolist(),
                strict=True,
            )
            for (left, top, right, bottom), score, label in rows:
                box = [left, top, right - left, bottom - top]
                results.append(
                    {"image_id": number, "category_id": categories[label], "bbox": box, "score": score}
                )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    content = json.dumps({"results": results, "parameters": parameters})
    (Path(request["folder"]) / "found.json").write_text(content)


def speed(peer):
    """Milliseconds an image on one thread, suppression included."""
    measured = {}
    for side in (256, 512):
        model = make(peer, 1, side).eval()
        image = torch.rand(3, side, side)
        with torch.inference_mode():
            times = []
            for number in range(25):
                start = time.perf_counter()
                model([image])
                if number >= 5:
                    times.append(1000 * (time.perf_counter() - start))
        measured[side] = round(statistics.median(times), 1)
    print(json.dumps({"peer": peer, "ms": measured}))


if __name__ == "__main__":
    command, argument = sys.argv[1:3]
    if command == "speed":
        speed(argument)
    else:
        {"train": train, "predict": predict}[command](json.loads(Path(argument).read_text()))
