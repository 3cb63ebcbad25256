"""Detections of images with ONNX Runtime and NumPy alone: python detect.py model.onnx image.npy ...

Images are uint8 RGB arrays (height, width, 3); they are cut or padded. Prints JSON, a line per detection."""

import json
import sys

import numpy as np
import onnxruntime


def fitted(image: np.ndarray, about: dict) -> np.ndarray:
    """The image with black added to the right and below, up to the next sides that the network takes."""
    if about["letterbox"]:
        return image  # the graph resizes it
    high, wide = (-(-side // about["divisor"]) * about["divisor"] for side in image.shape[:2])
    if about["fixed"]:
        wide, high = about["fixed"]
    part = image[:high, :wide]
    return np.pad(part, [(0, high - part.shape[0]), (0, wide - part.shape[1]), (0, 0)])


def main(model: str, *files: str) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["ctnet"])
    columns = [column["name"] for column in about["columns"]]
    names = [category["name"] for category in about["description"]["categories"]]
    points = about.get("operating_points")
    least = np.array([points["classes"][name]["score"] if points else 0.3 for name in names])
    for file in files:
        batch = fitted(np.load(file), about)[None]
        if about["layout"] == "nchw":
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        found = dict(zip(columns, (part[0] for part in session.run(columns, {"images": batch})), strict=True))
        for row in np.flatnonzero(found["scores"] > least[found["labels"]]):
            values = {name: found[name][row].tolist() for name in columns}
            print(json.dumps({"file": file, "category": names[values["labels"]], **values}))


main(*sys.argv[1:])
