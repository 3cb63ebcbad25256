from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from ctnet import checkpoint
from ctnet.base.errors import CtnetError
from ctnet.checkpoint import Description
from ctnet.core.heads import Heatmap, Regression
from ctnet.model import create_model
from ctnet.training.start import start_from


@pytest.fixture
def saved(tmp_path):
    """A checkpoint with heads a, b and c on the backbone with dropout."""
    torch.manual_seed(1)
    model = create_model({"a": Heatmap(3), "b": Regression(2), "c": Regression(1)}, "with_dropout")
    path = tmp_path / "old.pt"
    checkpoint.save(path, Description("other", {}, [], "with_dropout", (64, 64)), model.state_dict())
    return path


def test_backbone_and_equal_heads_are_taken_and_named(saved):
    torch.manual_seed(2)
    model = create_model({"a": Heatmap(5), "b": Regression(2), "d": Regression(1)}, "with_dropout")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lines = start_from(model, saved)
    assert lines[0] == f"started from {saved} (task other): backbone taken"
    assert "taken: b;" in lines[1]
    assert "another number of channels: a;" in lines[1]
    assert "started fresh: d" in lines[1]
    old = checkpoint.load(saved).weights
    for name, tensor in model.state_dict().items():
        same = name in old and old[name].shape == tensor.shape
        torch.testing.assert_close(tensor, old[name] if same else before[name], rtol=0, atol=0)


def test_an_address_is_downloaded_once_and_kept(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CTNET_CACHE", str(tmp_path / "cache"))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    model = create_model({"b": Regression(2)}, "with_dropout")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}/old.pt"
        start_from(model, address)
        server.shutdown()
        thread.join()
    assert start_from(model, address)[0] == f"started from {address} (task other): backbone taken"
    weights = checkpoint.load(saved).weights
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_another_backbone_is_refused(saved):
    model = create_model({"b": Regression(2)}, "resnet18")
    with pytest.raises(
        CtnetError, match=r"holds the backbone with_dropout, .*train with --backbone with_dropout"
    ):
        start_from(model, saved)
