from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import typer

from ctnet.checkpoint import load, save
from ctnet.cli import app
from ctnet.cli.parsing import recipe_fields
from ctnet.core.recipe import SMALL
from ctnet.training import trainer


def test_a_run_folder_holds_all_that_is_promised(ctnet, training, scenes: Path, tiny: str) -> None:
    done = ctnet(*training, "-o", "run", "--json")
    assert done.code == 0, done.err
    assert {"config.json", "metrics.csv", "last.pt", "best.pt"} <= {
        path.name for path in Path("run").iterdir()
    }
    config = json.loads(Path("run/config.json").read_text())
    assert (config["task"], config["backbone"], config["data"]) == ("ctdet", tiny, str(scenes))
    assert config["recipe"]["epochs"] == 1
    assert config["recipe"]["size"] == [64, 64]
    printed = json.loads(done.out)
    (row,) = csv.DictReader(Path("run/metrics.csv").read_text().splitlines())
    assert printed["run"] == "run"
    assert printed["finished"] is True
    assert float(row["AP"]) == pytest.approx(printed["epochs"][0]["AP"])
    assert row["epoch"] == "1"


def test_runs_are_numbered(ctnet, training, tiny: str) -> None:
    for number in (1, 2):
        assert ctnet(*training, "--val-split", "none").code == 0
        assert Path(f"runs/ctdet-{tiny}-{number}/best.pt").is_file()


def test_options_of_the_task_arrive(ctnet, training) -> None:
    assert ctnet(*training, "-O", "size_loss=giou", "--option", "size_weight=2", "-o", "run").code == 0
    options = json.loads(Path("run/config.json").read_text())["options"]
    assert (options["size_loss"], options["size_weight"], options["radius"]) == ("giou", 2.0, "official")
    assert load("run/last.pt").description.options == options


def test_recipe_fields_arrive_and_the_rate_is_scaled_and_printed(ctnet, training) -> None:
    done = ctnet(
        *training, "-o", "run", "--recipe", "paper", "-R", "milestones=3,2", "-R", "schedule=step",
        "-R", "optimizer=adamw", "--set", "weight_decay=0.1", "-R", "warmup=5", "-R", "clip_norm=none",
        "-R", "ema=0.5", "-R", "scale=0.8..1.2", "--seed", 9,
    )  # fmt: skip
    assert done.code == 0, done.err
    config = json.loads(Path("run/config.json").read_text())
    recipe = config["recipe"]
    assert recipe["milestones"] == [2, 3]
    assert recipe["augmentation"]["scale"] == [0.8, 1.2]
    assert recipe["clip_norm"] is None
    assert (recipe["optimizer"], recipe["weight_decay"], recipe["warmup"]) == ("adamw", 0.1, 5)
    assert (recipe["ema"], config["seed"]) == (0.5, 9)
    assert config["learning_rate"] == pytest.approx(5e-4 * 3 / 128)
    assert "learning rate 1.17e-05 at 3 images per step (recipe: 0.0005 at 128)" in done.err


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("--drops 120,90", "milestones=120,90", (90, 120)),
        ("--schedule step", "schedule=step", "step"),
        ("--final-rate 0.1", "final_rate=0.1", 0.1),
        ("--optimizer adam", "optimizer=adam", "adam"),
        ("--weight-decay 0.1", "weight_decay=0.1", 0.1),
        ("--warmup 5", "warmup=5", 5),
        ("--clip-norm 5", "clip_norm=5", 5.0),
        ("--clip-norm 0", "clip_norm=none", None),
        ("--offset-rate 0.5", "offset_rate=0.5", 0.5),
        ("--small-heads", "small_heads=true", True),
        ("--wide-heads", "small_heads=false", False),
        ("--ema 0.9", "ema=0.9", 0.9),
        ("--rotate 15", "rotate=15", 15.0),
        ("--accumulate 2", "accumulate=2", 2),
        ("--save-every 0", "save_every=0", 0.0),
        ("--evaluate-every 2", "evaluate_every=2", 2),
    ],
)
def test_what_was_an_option_is_a_field(ctnet, training, option: str, text: str, value: object) -> None:
    """Only options with the name of their field are left."""
    name = text.partition("=")[0]
    if option.split()[0] != f"--{name}".replace("_", "-"):
        assert "No such option" in ctnet(*training, *option.split()).err
    base = SMALL.with_fields({"small_heads": "false" if value is True else "true"})
    recipe = base.with_fields(recipe_fields([text], {}))
    name = text.partition("=")[0]
    holder = recipe.augmentation if name == "rotate" else recipe
    assert getattr(holder, name) == value
    before = base.augmentation if name == "rotate" else base
    assert getattr(before, name) != value


def test_help_has_few_parameters() -> None:
    """Too many hide the few that matter; a recipe's fields are set with -R."""
    command = typer.main.get_command(app).commands["train"]
    assert len(command.params) + len(["--help"]) <= 26


def test_a_runs_recipe_repeats_it(ctnet, training) -> None:
    """recipe.toml holds everything that was set, and the learning rate in effect."""
    changes = ["-R", "rotate=5", "-R", "accumulate=2", "--lr", "0.003", "-O", "min_visible=0.5"]
    assert ctnet(*training, "-o", "a", *changes).code == 0
    again = [part for part in training if part not in ("--epochs", "--batch-size", "--size", 1, 3, 64)]
    assert ctnet(*again, "-o", "b", "--recipe", "a/recipe.toml", "-O", "min_visible=0.5").code == 0
    first, second = (json.loads(Path(name, "config.json").read_text()) for name in "ab")
    assert second["recipe_name"] == "a/recipe.toml"
    assert second["recipe"] == first["recipe"]
    assert second["learning_rate"] == pytest.approx(first["learning_rate"])
    assert first["learning_rate"] == 0.003
    assert Path("b/recipe.toml").read_text() == Path("a/recipe.toml").read_text()


def test_a_rate_of_the_recipe_is_scaled_from_its_own_batch(ctnet, training) -> None:
    done = ctnet(*training, "-o", "run", "-R", "learning_rate=0.01", "-R", "accumulate=2")
    assert "learning rate 0.02 at 6 images per step (recipe: 0.01 at 3)" in done.err


def test_a_rate_of_ones_own_is_not_scaled(ctnet, training) -> None:
    done = ctnet(*training, "-o", "run", "--lr", "0.002")
    assert json.loads(Path("run/config.json").read_text())["learning_rate"] == 0.002
    assert "learning rate 0.002 at 3 images per step\n" in done.err


def test_overfit_trains_and_evaluates_on_the_first_images(ctnet, training) -> None:
    done = ctnet(*training, "-o", "run", "--overfit", 2)
    assert "2 training images, 2 validation images" in done.err


def test_overfit_without_evaluation(ctnet, training) -> None:
    done = ctnet(*training, "-o", "run", "--overfit", 2, "--val-split", "none")
    assert "2 training images, no validation images" in done.err
    assert done.out == "trained 1 epoch: run\n"
    assert json.loads(Path("run/config.json").read_text())["val_split"] is None


def test_the_best_figure_and_its_epoch_are_reported(ctnet, training) -> None:
    done = ctnet(*training[:-1], "cpu", "-o", "run", "--epochs", 3, "--overfit", 2)
    rows = list(csv.DictReader(Path("run/metrics.csv").read_text().splitlines()))
    best = max(rows, key=lambda row: float(row["AP"]))
    assert done.out == f"trained 3 epochs, best AP {float(best['AP']):.3f} at epoch {best['epoch']}: run\n"


def test_the_reported_rate_is_reached(ctnet, training) -> None:
    """39 steps: the recipe's warm-up of 60 would not reach the full learning rate."""
    rates = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "set_rate", lambda optimizer, rate: rates.append(rate))
        epochs = ["--epochs", 13, "--batch-size", 2, "-R", "evaluate_every=100", "--lr", 0.002]
        done = ctnet(*training, *epochs, "-o", "run", "--val-split", "none")
    assert len(rates) == 39
    assert f"learning rate {max(rates):.3g} after 7 steps of warm-up at 2 images per step\n" in done.err
    assert max(rates) > 0.95 * 0.002


def test_resume_of_a_finished_run_leaves_it_alone(ctnet, run_folder: Path) -> None:
    shutil.copytree(run_folder, "run")
    before = Path("run/last.pt").read_bytes()
    done = ctnet("train", "--resume", "run", "--device", "cpu", "--workers", 0)
    assert done.code == 0, done.err
    assert Path("run/last.pt").read_bytes() == before


# --- a budget


@pytest.fixture
def within(training, tiny: str, known_times: None, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Arguments of a training without a backbone and a size, on a machine of known times."""
    monkeypatch.setattr("ctnet.training.budget.trainable_backbones", lambda: [tiny])
    left_out = [training.index(name) for name in ("--backbone", "--size")]
    return [word for at, word in enumerate(training) if not {at, at - 1} & set(left_out)]


def test_a_budget_chooses_backbone_and_size(ctnet, within, tiny: str) -> None:
    done = ctnet(*within, "--budget", "0.5ms", "--threads", 2, "-o", "run")
    assert done.code == 0, done.err
    config = json.loads(Path("run/config.json").read_text())
    width, height = config["recipe"]["size"]
    assert (config["backbone"], width) == (tiny, height)
    takes = width * height / 1e5
    assert f"measured {takes:.1f} ms (median of 15, 2 threads)\n" in done.err
    assert f"ctdet with {tiny}, recipe small" in done.err
    assert f"input {width}x{height}" in done.err
    assert ctnet("train", "--resume", "run", "--device", "cpu", "--workers", 0).code == 0


def test_a_size_beside_a_budget_is_kept_by_all_seeds(ctnet, within) -> None:
    done = ctnet(*within, "--budget", "5ms", "--size", "96x64", "--seeds", 2, "-o", "series")
    assert done.code == 0, done.err
    assert done.err.count("measured") == 1
    for seed in (0, 1):
        config = json.loads(Path(f"series/seed-{seed}/config.json").read_text())
        assert config["recipe"]["size"] == [96, 64]


def test_a_budget_that_cannot_be_kept(ctnet, within) -> None:
    message = ctnet(*within, "--budget", "0.001ms").message
    assert message.startswith(
        "no backbone takes 0.001 ms on 1 thread or less: the fastest, tiny at 128x128, takes"
    )
    message = ctnet(*within, "--budget", "2ms", "--pretrained").message
    assert message.startswith(
        "--budget chooses among backbones that learn from scratch; leave out --pretrained"
    )
    message = ctnet(*within, "--budget", "2ms", "--size", "65").message
    assert "the next size that fits is 96x96" in message
    assert not Path("runs").exists()


# --- mistakes

MISTAKES = [
    (["--backbone", "resnet19"], "there is no backbone called 'resnet19'; did you mean resnet18"),
    (["--recipe", "papper"], "there is no recipe of task ctdet called 'papper'; did you mean paper"),
    (["--budget", "30ms"], "--budget chooses the backbone; leave out --backbone, or --budget"),
    (["--budget", "30 fps"], "--budget is '30 fps'; write a time per image, such as 30ms or 0.5s"),
    (["--threads", "2"], "--threads is for --budget; add that, or leave it out"),
    (["--device", "tpu"], "device 'tpu' cannot be used here; use auto or cpu"),
    (["--size", "big"], "field size of the recipe is 'big'; it must be a whole number or WIDTHxHEIGHT"),
    (["--size", "64x"], "field size of the recipe is '64x'"),
    (["--size", "64x64x64"], "field size of the recipe is '64x64x64'"),
    (["--size", "0"], "field size of the recipe is 0; it must be at least 1"),
    (["--size", "-64"], "field size of the recipe is -64; it must be at least 1"),
    (["--batch-size", "many"], "field batch_size of the recipe is 'many'; it must be a whole number"),
    (["--batch-size", "0"], "field batch_size of the recipe is 0; it must be at least 1"),
    (["--size", "65x64"], "sides must be multiples of 32; the next size that fits is 96x64"),
    (["-R", "milestones=ten"], "is 'ten'; it must be whole numbers separated by commas"),
    (["-R", "schedule=linear"], "field schedule of the recipe is 'linear'; it must be step|cosine"),
    (["-R", "rotat=5"], "there is no field of the recipe called 'rotat'; did you mean rotate"),
    (["-R", "rotate=400"], "field rotate of the recipe is 400; it must be at least 0 and at most 180"),
    (["-R", "rotate"], "-R 'rotate' is not NAME=VALUE"),
    (["-R", "epochs=2"], "--epochs and -R epochs= say the same; leave one of them out"),
    (["--lr", "0.1", "-R", "learning_rate=1"], "--lr and -R learning_rate= say the same"),
    (["--recipe", "gone.toml"], "cannot read gone.toml: No such file"),
    (["--lr", "0"], "--lr is 0; it must be above 0"),
    (["--lr", "-1e-3"], "--lr is -0.001; it must be above 0"),
    (["--lr", "1e300"], "the learning rate is 1e+300; choose one above 0 and at most 1e+06"),
    (["-R", "colour=1e308"], "field colour of the recipe is 1e+308; it must be at least 0 and at most 100"),
    (["-R", "learning_rate=1e308"], "the learning rate is inf; choose one above 0"),
    (["--lr", "nan"], "--lr is nan; it must be a finite number"),
    (["-O", "size_los=l1"], "there is no option of task ctdet called 'size_los'; did you mean size_loss"),
    (["-O", "size_loss"], "-O 'size_loss' is not NAME=VALUE"),
    (["-O", "=l1"], "-O '=l1' is not NAME=VALUE"),
    (["-O", "size_weight=nan"], "option size_weight of task ctdet is 'nan'; it must be a number"),
    (["--data", "nowhere"], "nowhere is not a folder; a data directory holds annotations/"),
    (["--val-split", "dev"], "has no split 'dev'"),
    (["--train-split", "dev"], "has no split 'dev'"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(case[0]) for case in MISTAKES])
def test_mistakes_are_reported_before_anything_is_created(ctnet, training, arguments, message: str) -> None:
    assert message in ctnet(*training, *arguments).message
    assert not Path("runs").exists()


def test_unknown_task(ctnet) -> None:
    message = ctnet("train", "ctdett").message
    assert message.startswith("there is no task called 'ctdett'; did you mean ctdet")


def test_no_task(ctnet) -> None:
    assert "name a task" in ctnet("train").message


def test_an_output_that_holds_a_run_is_left_alone(ctnet, training, run_folder: Path) -> None:
    before = (run_folder / "config.json").read_bytes()
    message = ctnet(*training, "-o", run_folder).message
    assert f"already holds a run; continue it with --resume {run_folder}" in message
    assert (run_folder / "config.json").read_bytes() == before


def test_an_output_that_cannot_be_made(ctnet, training) -> None:
    Path("file").write_text("")
    assert "cannot make the folder file/run: " in ctnet(*training, "-o", "file/run").message


def test_bad_records_are_counted_or_refused(ctnet, training, scenes: Path) -> None:
    shutil.copytree(scenes, "data")
    path = Path("data/annotations/instances_train.json")
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][2] = 0
    path.write_text(json.dumps(content))
    training[training.index("--data") + 1] = "data"
    assert "warning: skipped 1 with box without area (first: annotation 1" in ctnet(*training, "-o", "a").err
    assert "has 1 bad records: 1 with box without area" in ctnet(*training, "--strict", "-o", "b").message
    assert not Path("b").exists()


# --- mistakes with --resume


def test_resume_of_nothing(ctnet) -> None:
    assert ctnet("train", "--resume", "nowhere").message == (
        "nowhere is not a run folder (it has no config.json); start one with `ctnet train`"
    )


def test_resume_of_another_task(ctnet, run_folder: Path) -> None:
    assert (
        f"{run_folder} is a run of task ctdet, not pose"
        in ctnet("train", "pose", "--resume", run_folder).message
    )


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--lr", 1e-3], "--lr"),
        (["--batch-size", 2], "-R batch_size=2"),
        (["--strict"], "--strict"),
        (["--budget", "30ms"], "--budget"),
        (["-O", "a=b"], "--option"),
    ],
)
def test_resume_takes_no_other_settings(ctnet, run_folder: Path, arguments, option: str) -> None:
    assert ctnet("train", "--resume", run_folder, *arguments).message.startswith(
        f"{option} cannot be combined with --resume"
    )


def test_resume_with_a_damaged_checkpoint(ctnet, run_folder: Path) -> None:
    shutil.copytree(run_folder, "run")
    data = Path("run/last.pt").read_bytes()
    Path("run/last.pt").write_bytes(data[: len(data) // 2])
    assert "run/last.pt is cut short or damaged" in ctnet("train", "--resume", "run", "--workers", 0).message


def test_resume_with_a_damaged_config(ctnet, run_folder: Path) -> None:
    shutil.copytree(run_folder, "run")
    text = Path("run/config.json").read_text()
    Path("run/config.json").write_text(text[: len(text) // 2])
    assert "run/config.json is not valid JSON" in ctnet("train", "--resume", "run").message
    Path("run/config.json").write_text("{}")
    assert (
        "run/config.json: at task: missing, expected a value; it is not a run's config.json"
        in ctnet("train", "--resume", "run").message
    )


def test_resume_with_the_checkpoint_of_another_backbone(ctnet, run_folder: Path) -> None:
    shutil.copytree(run_folder, "run")
    saved = load("run/last.pt")
    description = type(saved.description)(**{**vars(saved.description), "backbone": "resnet18"})
    save("run/last.pt", description, saved.weights, saved.training)
    message = ctnet("train", "--resume", "run", "--workers", 0).message
    assert "run/last.pt is of ctdet with resnet18, but config.json says ctdet with tiny" in message
