"""--settings auto: fewer and cheaper steps for fewer calls; the default of a model that nobody tuned for."""

from pathlib import Path

import pytest

from zopog_ref.app.command_line import main
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.auto_settings import FEW_STEPS, RULES
from zopog_ref.app.run.experiment import method_of
from zopog_ref.app.run.presets import PRESETS, default_preset, preset_of
from zopog_ref.methods import METHODS
from zopog_ref.objective import Ledger
from zopog_ref.search import step_price

# budget -> prompts that one step asks for
STEPS = {
    "zo-pog": {50: 4, 200: 8, 800: 16, 4000: 36, 10**6: 40},
    "sspt": {50: 4, 200: 8, 800: 16, 4000: 36, 10**6: 40},
    "bdpl": {50: 4, 200: 8, 800: 16, 4000: 20, 10**6: 20},
    "bbt": {50: 2, 200: 4, 800: 8, 4000: 18, 10**6: 20},
}


@pytest.mark.parametrize("method", RULES)
def test_what_a_step_asks_for(method: str) -> None:
    for budget, prompts in STEPS[method].items():
        preset = preset_of(method, "auto", budget)
        assert (preset.method_name, preset.budget, preset.n_positions) == (method, budget, 5)
        assert method_of(preset, 1).calls_per_step == prompts, budget


@pytest.mark.parametrize("method", RULES)
def test_every_budget_has_settings_and_small_ones_have_steps(method: str) -> None:
    """With mini-batches, or training rows that fit one call, 200 calls and more are at least 20 steps."""
    for budget in (1, 2, 10, 33, 100, 200, 333, 800, 5000, 10**7):
        preset = preset_of(method, "auto", budget)
        price = step_price(method_of(preset, 1), Ledger(budget, batch_size=32), 32, 32)
        assert price <= 40
        assert budget < 200 or budget // price >= FEW_STEPS


def test_the_published_settings_are_steps_of_their_own() -> None:
    """The twin: 200 calls are 5 of ZO-PoG's published steps."""
    assert 200 // method_of(PRESETS["zo-pog", "paper"], 1).calls_per_step == 5 < FEW_STEPS


def test_the_default_of_a_model() -> None:
    assert {default_preset("embedded", method) for method in METHODS} == {"embedded"}
    assert {method for method in METHODS if default_preset("org/model", method) == "auto"} == set(RULES)
    assert {default_preset("org/model", method) for method in METHODS if method not in RULES} == {"paper"}
    assert default_preset("org/model", "none") == "paper"


def test_a_method_without_a_rule_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"catcma has no settings 'auto': .* has embedded, paper$"):
        preset_of("catcma", "auto", 200)
    with pytest.raises(InputError, match=r"bbt has no settings 'mine': .* has embedded, paper, auto$"):
        preset_of("bbt", "mine")


def run(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["tune", "--task", "organism", "--readout", "none", *options]) == 0
    return capsys.readouterr().err


def test_few_steps_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ("--method", "zo-pog", "--shots", "4")
    said = run(capsys, *base, "--budget", "80", "--out", str(tmp_path / "a"))
    assert "zo-pog: 80 calls are 2 steps of 40, which is few: --budget 800 pays for 20, --settings auto has" in said
    said = run(capsys, *base, "--settings", "auto", "--budget", "40", "--out", str(tmp_path / "b"))
    assert "zo-pog: 40 calls are 10 steps of 4, which is few: --budget 80 pays for 20\n" in said
    said = run(capsys, *base, "--settings", "auto", "--budget", "200", "--out", str(tmp_path / "c"))
    assert "which is few" not in said
    assert "settings auto: made for the budget" in said


def test_a_comparison_says_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "compare",
        "--tasks",
        "organism",
        "--methods",
        "bdpl:auto,bdpl",
        "--budget",
        "44",
        "--shots",
        "4",
        "--readout",
    ]
    assert main([*command, "none", "--seeds", "1,2", "--out", str(tmp_path / "x")]) == 0
    said = capsys.readouterr().err
    assert said.count("bdpl: 44 calls are 2 steps of 20") == 1
    assert said.count("bdpl: 44 calls are 14 steps of 3") == 1
