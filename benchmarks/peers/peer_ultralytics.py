"""Runs in an environment with Ultralytics, and without ctnet: see peers.py.

python peer_ultralytics.py train|predict REQUEST.json
python peer_ultralytics.py speed yolo11n
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("YOLO_CONFIG_DIR", "/tmp/ultralytics")
os.environ["YOLO_OFFLINE"] = "true"

import torch
from ultralytics import YOLO

torch.set_num_threads(1)


def train(request):
    """From scratch with its own default settings; the weights of the last epoch count."""
    model = YOLO(f"{request['peer']}.yaml")
    model.train(
        data=request["yolo"],
        epochs=request["epochs"],
        imgsz=request["size"],
        batch=16,
        seed=request["seed"],
        device="cpu",
        workers=0,
        cache="ram",
        val=False,
        plots=False,
        pretrained=False,
        project=request["folder"],
        name="run",
        exist_ok=True,
    )


def predict(request):
    """Results on the validation split, as COCO has them."""
    weights = Path(request["folder"]) / "run" / "weights" / "last.pt"
    model = YOLO(weights)
    truth = json.loads((Path(request["coco"]) / "instances_val.json").read_text())
    categories = sorted(category["id"] for category in truth["categories"])
    results = []
    for image in truth["images"]:
        (found,) = model.predict(
            image["file_name"],
            imgsz=request["size"],
            conf=0.001,
            iou=0.7,
            max_det=100,
            device="cpu",
            verbose=False,
        )
        rows = zip(
            found.boxes.xyxy.tolist(), found.boxes.conf.tolist(), found.boxes.cls.tolist(), strict=True
        )
        for (left, top, right, bottom), score, label in rows:
            box = [left, top, right - left, bottom - top]
            category = categories[int(label)]
            results.append({"image_id": image["id"], "category_id": category, "bbox": box, "score": score})
    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    content = json.dumps({"results": results, "parameters": parameters})
    (Path(request["folder"]) / "found.json").write_text(content)


def speed(peer):
    """Milliseconds an image on one thread: the fused network alone, without suppression."""
    model = YOLO(f"{peer}.yaml").model.eval().fuse()
    measured = {}
    for side in (256, 512):
        image = torch.rand(1, 3, side, side)
        with torch.inference_mode():
            for _ in range(5):
                model(image)
            times = []
            for _ in range(30):
                start = time.perf_counter()
                model(image)
                times.append(1000 * (time.perf_counter() - start))
        measured[side] = round(statistics.median(times), 1)
    print(json.dumps({"peer": peer, "ms": measured}))


if __name__ == "__main__":
    command, argument = sys.argv[1:3]
    if command == "speed":
        speed(argument)
    else:
        {"train": train, "predict": predict}[command](json.loads(Path(argument).read_text()))
