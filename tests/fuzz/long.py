"""The long run: ``python tests/fuzz/long.py --readers 100000 --commands 3000 --exports 1000``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from harness import run, summary
from targets import commands, exports, readers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=100_000, help="inputs over the readers")
    parser.add_argument("--commands", type=int, default=3_000, help="inputs over the commands")
    parser.add_argument("--exports", type=int, default=1_000, help="inputs over exported files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", default="", help="targets whose names contain this")
    chosen = parser.parse_args()
    torch.set_num_threads(1)  # threads do not outlive a fork
    found = 0
    with tempfile.TemporaryDirectory(prefix="ctnet-fuzz-") as home:
        for title, make, cases in (
            ("readers", readers, chosen.readers),
            ("commands", commands, chosen.commands),
            ("exports", exports, chosen.exports),
        ):
            targets = (
                [target for target in make(Path(home) / title) if chosen.only in target.name] if cases else []
            )
            if targets:
                begun = time.monotonic()
                report = run(targets, cases, chosen.seed, chosen.jobs, lambda line: print(line, flush=True))
                print(summary(title, report, time.monotonic() - begun), flush=True)
                found += len(report.findings)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
