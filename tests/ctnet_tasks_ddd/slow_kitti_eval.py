"""The KITTI evaluation rule by rule, frame by frame, in plain Python: the reference for the fast one."""

from __future__ import annotations

import math

THRESHOLDS = {
    "strict": {"detection": (0.7, 0.5, 0.5), "ground": (0.7, 0.5, 0.5), "3d": (0.7, 0.5, 0.5)},
    "shipped": {"detection": (0.7, 0.5, 0.5), "ground": (0.5, 0.25, 0.25), "3d": (0.5, 0.25, 0.25)},
    "half": {"detection": (0.5, 0.5, 0.5), "ground": (0.5, 0.5, 0.5), "3d": (0.5, 0.5, 0.5)},
}
CLASSES = ("car", "pedestrian", "cyclist")
NEIGHBOURS = {"car": "van", "pedestrian": "person_sitting", "cyclist": None}
LEVELS = {"easy": (40, 0, 0.15), "moderate": (25, 1, 0.30), "hard": (25, 2, 0.50)}


class Line:
    """One label or result."""

    def __init__(self, text):
        fields = text.split()
        self.type = fields[0].lower()
        numbers = [float(field) for field in fields[1:]]
        self.truncation, self.occlusion, self.alpha = numbers[:3]
        self.left, self.top, self.right, self.bottom = numbers[3:7]
        self.height, self.width, self.length = numbers[7:10]
        self.x, self.y, self.z, self.rotation = numbers[10:14]
        self.score = numbers[14] if len(numbers) > 14 else None


def corners(box):
    """Corners of the rectangle in bird's-eye view, counter-clockwise in (x, z)."""
    cos, sin = math.cos(box.rotation), math.sin(box.rotation)
    length, width = abs(box.length) / 2, abs(box.width) / 2
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    return [
        (box.x + a * length * cos + b * width * sin, box.z - a * length * sin + b * width * cos)
        for a, b in signs
    ]


def clip(polygon, start, end):
    """The part of a polygon left of the line from start to end."""

    def side(point):
        return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])

    kept = []
    for here, there in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        a, b = side(here), side(there)
        if a >= 0:
            kept.append(here)
        if a * b < 0:
            share = a / (a - b)
            kept.append((here[0] + share * (there[0] - here[0]), here[1] + share * (there[1] - here[1])))
    return kept


def polygon_area(points):
    if len(points) < 3:
        return 0.0
    x0, y0 = points[0]
    moved = [(x - x0, y - y0) for x, y in points]
    return sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(moved, moved[1:] + moved[:1], strict=True)) / 2


def ground_intersection(first, second):
    if min(first.length * first.width, second.length * second.width) <= 0:
        return 0.0
    polygon, edges = corners(first), corners(second)
    for start, end in zip(edges, edges[1:] + edges[:1], strict=True):
        polygon = clip(polygon, start, end)
    return max(polygon_area(polygon), 0.0)


def overlap(metric, label, result, own=False):
    """Intersection over union, or (``own``) over the result's own area or volume."""
    if metric == "detection":
        width = min(label.right, result.right) - max(label.left, result.left)
        height = min(label.bottom, result.bottom) - max(label.top, result.top)
        shared = width * height if width > 0 and height > 0 else 0.0
        contents = [(box.right - box.left) * (box.bottom - box.top) for box in (label, result)]
    else:
        shared = ground_intersection(label, result)
        contents = [box.length * box.width for box in (label, result)]
        if metric == "3d":
            top = max(label.y - label.height, result.y - result.height)
            shared *= max(min(label.y, result.y) - top, 0.0)
            contents = [box.length * box.width * box.height for box in (label, result)]
    whole = contents[1] if own else contents[0] + contents[1] - shared
    return shared / whole if shared > 0 and whole > 0 else 0.0


def label_states(labels, name, level):
    """1 counts, 0 ignored, -1 absent."""
    height, occlusion, truncation = LEVELS[level]
    states = []
    for label in labels:
        if label.type == name:
            fits = label.bottom - label.top >= height
            fits = fits and label.occlusion <= occlusion and label.truncation <= truncation
            states.append(int(fits))
        else:
            states.append(0 if label.type == NEIGHBOURS[name] else -1)
    return states


def result_states(results, name, level):
    return [
        0 if int(abs(box.top - box.bottom)) < LEVELS[level][0] else (1 if box.type == name else -1)
        for box in results
    ]


def frame_matches(labels, results, states, overlaps, threshold, minimum):
    """Pairs (label, result); the best score wins without a threshold, the largest overlap with one."""
    label_state, result_state = states
    taken, matches = set(), []
    for i in range(len(labels)):
        if label_state[i] < 0:
            continue
        best, best_value = None, None
        for j, box in enumerate(results):
            if result_state[j] < 0 or j in taken or overlaps[i][j] <= minimum:
                continue
            if threshold is None:
                value = box.score
            elif box.score < threshold:
                continue
            else:
                value = overlaps[i][j] if result_state[j] == 1 else -1
            if best is None or value > best_value:
                best, best_value = j, value
        if best is not None:
            taken.add(best)
            matches.append((i, best))
    return matches, taken


def score_thresholds(scores, objects):
    scores = sorted(scores, reverse=True)
    chosen, recall = [], 0.0
    for i, score in enumerate(scores):
        left, right = (i + 1) / objects, (i + 2) / objects
        if i < len(scores) - 1 and right - recall < recall - left:
            continue
        chosen.append(score)
        recall += 1 / 40
    return chosen


def evaluate_one(frames, name, metric, level, minimum):
    prepared, objects, scores = [], 0, []
    for labels, results in frames:
        overlaps = [[overlap(metric, label, box) for box in results] for label in labels]
        states = label_states(labels, name, level), result_states(results, name, level)
        cares = [label for label in labels if label.type == "dontcare"]
        forgiven = [any(overlap(metric, care, box, True) > minimum for care in cares) for box in results]
        prepared.append((labels, results, states, overlaps, forgiven))
        objects += states[0].count(1)
        for i, j in frame_matches(labels, results, states, overlaps, None, minimum)[0]:
            if states[0][i] == states[1][j] == 1:
                scores.append(results[j].score)
    thresholds = score_thresholds(scores, objects)
    curve, similarity = [0.0] * 41, [0.0] * 41
    counts = {"right": [], "wrong": [], "missed": []}
    for index, threshold in enumerate(thresholds):
        right = wrong = 0
        turned = 0.0
        missed = objects
        for labels, results, states, overlaps, forgiven in prepared:
            matches, taken = frame_matches(labels, results, states, overlaps, threshold, minimum)
            for i, j in matches:
                missed -= states[0][i] == 1
                if states[0][i] == states[1][j] == 1:
                    right += 1
                    turned += (1 + math.cos(labels[i].alpha - results[j].alpha)) / 2
            wrong += sum(
                states[1][j] == 1 and box.score >= threshold and j not in taken and not forgiven[j]
                for j, box in enumerate(results)
            )
        curve[index] = right / (right + wrong) if right + wrong else 0.0
        similarity[index] = turned / (right + wrong) if right + wrong else 0.0
        for key, value in zip(counts, (right, wrong, missed), strict=True):
            counts[key].append(value)
    envelope, rated = ([max(values[i:]) for i in range(41)] for values in (curve, similarity))
    return {"objects": objects, "curve": envelope, "similarity": rated, **counts}


def evaluate(frames, iou):
    """All figures.

    Args:
        frames: (text of the label file, text of the result file) for each frame.
        iou: name of the thresholds.

    Returns:
        class -> metric -> difficulty -> {objects, curve, similarity, right, wrong, missed}
    """
    frames = [tuple([Line(line) for line in text.splitlines()] for text in pair) for pair in frames]
    figures = {}
    for index, name in enumerate(CLASSES):
        own = [box for _, results in frames for box in results if box.type == name]
        present = {
            "detection": any(box.left >= 0 for box in own),
            "ground": any(box.x != -1000 for box in own),
            "3d": any(box.y != -1000 for box in own),
        }
        for metric in [metric for metric, there in present.items() if there]:
            minimum = THRESHOLDS[iou][metric][index]
            figures.setdefault(name, {})[metric] = {
                level: evaluate_one(frames, name, metric, level, minimum) for level in LEVELS
            }
    return figures
