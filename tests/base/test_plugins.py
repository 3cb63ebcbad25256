from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata

import pytest

from ctnet.base import plugins
from ctnet.base.errors import CtnetError
from ctnet.base.plugins import discover, load_plugin
from ctnet.core.task import Task, list_tasks, load_task_class

GROUP = "ctnet.tasks"


class FakePoint:
    """An entry point of a distribution that is not really installed."""

    def __init__(self, name: str, value: str, distribution: str, version: str = "1.2") -> None:
        self.name, self.value, self.group = name, value, GROUP
        self.dist = type("Dist", (), {"name": distribution, "version": version})()
        self._point = metadata.EntryPoint(name, value, GROUP)

    def load(self) -> object:
        return self._point.load()


BUILTIN = FakePoint("ctdet", "ctnet.tasks.ctdet:CenterDetection", "ctnet-toolkit")
BROKEN = FakePoint("broken", "no_such_module_of_mine:Task", "acme-broken")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(*points: FakePoint) -> None:
        monkeypatch.setattr(
            plugins.metadata, "entry_points", lambda group: [p for p in points if p.group == group]
        )

    monkeypatch.delenv("CTNET_PLUGINS", raising=False)
    return install


def test_the_real_ones_are_found() -> None:
    assert "ctdet" in list_tasks()
    assert issubclass(load_task_class("ctdet"), Task)


def test_listing_imports_nothing(installed) -> None:
    sys.modules.pop("json.tool", None)
    installed(BUILTIN, FakePoint("lazy", "json.tool:main", "acme"))
    assert list(discover(GROUP)) == ["ctdet", "lazy"]
    assert "json.tool" not in sys.modules


def test_plugins_know_where_they_come_from(installed) -> None:
    installed(BUILTIN, BROKEN)
    found = discover(GROUP)
    assert found["ctdet"].builtin
    assert not found["broken"].builtin
    assert (found["broken"].distribution, found["broken"].version) == ("acme-broken", "1.2")
    assert discover("ctnet.backbones") == {}


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ("none", ["ctdet"]),
        ("", ["ctdet"]),
        ("broken", ["broken", "ctdet"]),
        ("other, broken", ["broken", "ctdet", "other"]),
    ],
)
def test_ctnet_plugins_restricts_what_is_found(
    installed, monkeypatch, setting: str, names: list[str]
) -> None:
    installed(
        BUILTIN, BROKEN, FakePoint("other", "json:loads", "acme"), FakePoint("more", "json:dumps", "acme")
    )
    assert len(discover(GROUP)) == 4
    monkeypatch.setenv("CTNET_PLUGINS", setting)
    assert list(discover(GROUP)) == names


def test_a_broken_plugin_is_named_and_harms_no_other(installed) -> None:
    installed(BUILTIN, BROKEN)
    message = "plugin 'broken' of acme-broken 1.2 does not load: ModuleNotFoundError: .*uninstall acme-broken"
    with pytest.raises(CtnetError, match=message):
        load_plugin(GROUP, "broken", "task")
    assert load_plugin(GROUP, "ctdet", "task").name == "ctdet"


@pytest.fixture
def written(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], FakePoint]:
    """A plugin whose module contains this source."""
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("acme_module", None)

    def write(text: str) -> FakePoint:
        (tmp_path / "acme_module.py").write_text(text)
        return FakePoint("mine", "acme_module:Mine", "acme")

    return write


CTDET = "from ctnet.tasks.ctdet import CenterDetection"
MINE = f"{CTDET}\nclass Mine(CenterDetection):\n    name = 'mine'\n    contract"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import no_such_dependency.inner",
            "needs the Python module 'no_such_dependency', which is not installed; install what .*",
        ),
        (
            "raise ValueError('first\\nsecond')",
            "does not load: ValueError: first second; update or uninstall acme",
        ),
        ("import sys; sys.exit(3)", "does not load: SystemExit: 3; update or uninstall acme"),
        ("Mine = 1 +", "does not load: SyntaxError: .*; update or uninstall acme"),
        ("Yours = 1", "does not load: AttributeError: .*'Mine'; update or uninstall acme"),
        (
            "from ctnet.core.task import Tusk",
            r"was written for another version of ctnet \(ImportError: .* name 'Tusk' .*\); update acme",
        ),
        (
            "import ctnet.no_such_room",
            r"was written for another version of ctnet \(ModuleNotFoundError: .*\); update acme",
        ),
        (
            "from ctnet.plugin import Tusk",
            r"was written for another version of ctnet \(ImportError: .* name 'Tusk' .*\); update acme",
        ),
        (
            f"{MINE} = 1",
            r"was written for version 1 of ctnet's contract, and ctnet [\d.]+ supports version 2; .* acme",
        ),
        (
            f"{MINE} = (0, 1)",
            "was written for versions 0 to 1 of ctnet's contract, and ctnet .* supports version 2; .* acme",
        ),
        (
            f"{MINE} = 3",
            r"was written for version 3 of ctnet's contract, .* supports version 2; update ctnet-toolkit",
        ),
        (
            f"{MINE} = 'two'",
            r"states contract version 'two', which is neither a whole number nor \(oldest, newest\); .*acme",
        ),
        (
            f"{MINE} = (1, 2, 3)",
            r"states contract version \(1, 2, 3\), which is neither .*; update acme",
        ),
    ],
)
def test_every_way_not_to_load_is_named(installed, written, text: str, message: str) -> None:
    installed(BUILTIN, written(text))
    with pytest.raises(CtnetError, match=f"^plugin 'mine' of acme 1.2 {message}$") as caught:
        load_task_class("mine")
    assert "\n" not in str(caught.value)
    assert list(discover(GROUP)) == ["ctdet", "mine"]
    assert load_task_class("ctdet").name == "ctdet"


@pytest.mark.parametrize("stated", [2, (2, 2), (1, 2), (2, 3), (1, 9)])
def test_a_plugin_of_a_contract_that_is_kept_loads(installed, written, stated: object) -> None:
    installed(written(f"{MINE} = {stated}"))
    assert load_task_class("mine").name == "mine"


@pytest.mark.parametrize(("stated", "loads"), [(2, False), (3, True), ((1, 2), False), (5, True), (6, False)])
def test_a_range_of_contracts_may_be_kept(
    installed, written, monkeypatch, stated: object, loads: bool
) -> None:
    monkeypatch.setattr(plugins, "CONTRACTS", (3, 5))
    installed(written(f"{MINE} = {stated}"))
    if loads:
        assert load_task_class("mine").name == "mine"
    else:
        with pytest.raises(CtnetError, match=r"supports versions 3 to 5; update (acme|ctnet-toolkit)$"):
            load_task_class("mine")


def test_a_plugin_that_states_no_contract_loads(installed) -> None:
    installed(FakePoint("plain", "json:loads", "acme"))
    assert load_plugin(GROUP, "plain", "task").__name__ == "loads"


@pytest.mark.parametrize("name", list_tasks())
def test_a_task_states_the_contract_in_words_of_its_own(name: str) -> None:
    assert vars(load_task_class(name))["contract"] == plugins.CONTRACTS[1]


def test_a_task_without_a_name(installed, written) -> None:
    installed(written("from ctnet.core.task import Task\nclass Mine(Task):\n    pass"))
    with pytest.raises(CtnetError, match="plugin 'mine' is a task with the name None"):
        load_task_class("mine")


def test_two_plugins_of_one_name(installed) -> None:
    installed(BUILTIN, FakePoint("twin", "json:loads", "acme"), FakePoint("twin", "json:dumps", "zeta"))
    assert list(discover(GROUP)) == ["ctdet", "twin"]
    with pytest.raises(
        CtnetError,
        match=r"two plugins are called 'twin' \(json:loads and json:dumps of acme 1.2 and zeta 1.2\); uninst",
    ):
        load_plugin(GROUP, "twin", "task")
    assert load_plugin(GROUP, "ctdet", "task").name == "ctdet"
    twin = discover(GROUP)["twin"]
    assert (twin.distribution, twin.version) == ("acme, zeta", "1.2, 1.2")


def test_who_takes_a_name_of_ours_is_to_go(installed) -> None:
    installed(BUILTIN, FakePoint("ctdet", "json:loads", "acme"))
    with pytest.raises(CtnetError, match=r"of ctnet-toolkit 1.2 and acme 1.2\); uninstall acme$"):
        load_task_class("ctdet")


def test_one_plugin_seen_twice_is_one(installed) -> None:
    installed(FakePoint("twin", "json:loads", "acme"), FakePoint("twin", "json:loads", "acme"))
    assert load_plugin(GROUP, "twin", "task").__name__ == "loads"


def test_unknown_names_offer_the_nearest(installed) -> None:
    installed(BUILTIN)
    with pytest.raises(CtnetError, match="there is no task called 'ctdat'; did you mean ctdet"):
        load_plugin(GROUP, "ctdat", "task")


def test_what_is_no_task_is_refused(installed) -> None:
    installed(FakePoint("function", "json:loads", "acme"))
    with pytest.raises(
        CtnetError, match=r"plugin 'function' is <function loads.*not a subclass of ctnet.core.task.Task"
    ):
        load_task_class("function")


def test_a_plugin_without_a_distribution(installed) -> None:
    point = FakePoint("orphan", "no_such_module_of_mine:x", "")
    point.dist = None
    installed(point)
    with pytest.raises(CtnetError, match="'orphan' of an unknown distribution"):
        load_plugin(GROUP, "orphan", "task")
