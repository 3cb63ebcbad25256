"""Dividing items with several labels each into parts of given sizes, each label in proportion.

Source: Sechidis, Tsoumakas, Vlahavas: On the stratification of multi-label data, ECML PKDD 2011, Algorithm 1;
here an item may have a weight above 1 (a group of images that must stay together).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def stratify(labels: np.ndarray, shares: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Divide items: the rarest label first, each of its items to the part that needs most of that label.

    Parts get the requested sizes, as far as the items' weights allow.

    Args:
        labels: (N, L) the count of each label in each item (a group of three images of dogs: 3). The last
            column is the item's weight: its number of images.
        shares: the shares of the parts; they sum to 1.
        rng: breaks ties.

    Returns:
        (N,) int64, the part of each item.
    """
    parts = np.full(len(labels), -1, np.int64)
    remaining = labels.sum(axis=0)
    wanted = np.outer(shares, remaining)
    order = rng.permutation(len(labels))
    while (present := np.flatnonzero(remaining > 0)).size:
        label = present[np.argmin(remaining[present])]
        having = order[(labels[order, label] > 0) & (parts[order] < 0)]
        # The heaviest first: small ones can balance the rest.
        for item in having[np.argsort(-labels[having, label], kind="stable")]:
            part = _neediest(wanted[:, label], wanted[:, -1], labels[item, -1], rng)
            parts[item] = part
            wanted[part] -= labels[item]
            remaining = remaining - labels[item]
    return parts


def _neediest(of_label: np.ndarray, room: np.ndarray, weight: float, rng: np.random.Generator) -> int:
    """The part with room that needs most of a label; on ties the one with most room."""
    candidates = np.flatnonzero(room >= weight / 2)
    if not len(candidates):
        candidates = np.flatnonzero(room == room.max())
    for lacking in (of_label, room):
        candidates = candidates[lacking[candidates] >= lacking[candidates].max() - 1e-9]
    return int(rng.choice(candidates))
