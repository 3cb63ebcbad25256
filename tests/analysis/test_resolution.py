from __future__ import annotations

import pytest

from ctnet.analysis import compare_resolutions
from ctnet.base.errors import CtnetError
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import evaluate


def test_every_row_is_what_evaluation_at_its_size_gives(detector, scenes):
    done = compare_resolutions(detector, scenes, sizes=[None, (96, 96), (64, 32), (96, 96)])
    assert [row.name for row in done.rows] == ["original", "96x96", "64x32"]
    expected = [Settings(resize="keep"), Settings(size=(96, 96)), Settings(size=(64, 32))]
    for row, settings in zip(done.rows, expected, strict=True):
        assert row.metrics == pytest.approx(evaluate(detector, scenes, settings).metrics, abs=1e-6)
        assert row.times.images == len(scenes)  # the warm-up is not counted
        assert 0 < row.times.seconds["network"] < row.times.passed


def test_as_plain_values(detector, scenes):
    document = compare_resolutions(detector, scenes, sizes=[(64, 64)]).as_dict()
    assert document["main_metric"] == "AP"
    (row,) = document["rows"]
    assert row["resolution"] == "64x64"
    assert set(row["timing"]["ms_per_image"]) == {"load", "pre", "network", "decode", "post"}


def test_a_size_that_does_not_fit_is_refused_before_anything_runs(detector, scenes, monkeypatch):
    monkeypatch.setattr(detector, "detect", lambda *_: pytest.fail("it ran"))
    with pytest.raises(CtnetError, match=r"size 100x100 does not fit tiny: .*128x128"):
        compare_resolutions(detector, scenes, sizes=[None, (64, 64), (100, 100)])
