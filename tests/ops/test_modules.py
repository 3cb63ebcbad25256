from __future__ import annotations

from torch import nn

from ctnet.ops.modules import replace_modules


def test_every_name_of_a_layer_gets_the_new_one() -> None:
    old, new, other = nn.ReLU(), nn.Tanh(), nn.ReLU()
    model = nn.ModuleDict({"b": old, "a": nn.Sequential(other, old, old), "c": nn.ModuleList([old])})
    replace_modules(model, {old: new})
    assert [*model] == ["b", "a", "c"]
    assert [model["b"], *model["a"], *model["c"]] == [new, other, new, new, new]


def test_what_replaces_a_layer_may_hold_it() -> None:
    old = nn.ReLU()
    model = nn.Sequential(old)
    wrapper = nn.Sequential(old)
    replace_modules(model, {old: wrapper})
    assert model[0] is wrapper
    assert wrapper[0] is old


def test_empty_places_and_no_replacements() -> None:
    model = nn.Sequential(nn.ReLU())
    model.register_module("none", None)
    replace_modules(model, {})
    assert [*model._modules] == ["0", "none"]
