"""Clip-Tuning: BBT when nothing is clipped, frozen masks that keep their expectation, K networks paid for."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from zopog_ref import BudgetExhausted, FunctionObjective, Ledger
from zopog_ref.methods.bbt import BBT
from zopog_ref.methods.clip_tuning import ClipTuning, MixedRewards, unit_mask

Settings = ClipTuning.Settings

SHAPE, ROWS, SEED, UNITS = (2, 4, 3), np.arange(5), 11, (3, 40)


class Network:
    """An objective with hidden units: they weigh the coordinates of z."""

    hidden_units = UNITS

    def __init__(self, ledger: Ledger, mask: np.ndarray | None = None, asked: list[np.ndarray] | None = None) -> None:
        self.ledger, self.mask, self.asked = (
            ledger,
            np.ones(UNITS) if mask is None else mask,
            [] if asked is None else asked,
        )

    def thinned(self, mask: np.ndarray) -> "Network":
        return Network(self.ledger, mask, self.asked)

    def losses(self, tokens: np.ndarray, z: np.ndarray, examples: np.ndarray) -> np.ndarray:
        self.ledger.charge(len(tokens))
        self.asked.append(self.mask)
        weights = self.mask.reshape(3, -1).mean(axis=1)  # one for each coordinate
        return (weights * (z[:, None] - 0.1 * examples[:, None]) ** 2).sum(axis=-1) + tokens.sum(axis=1)[:, None]


def steps(method, count: int, budget: int = 10**6):
    objective = Network(Ledger(budget))
    state = method.init()
    for _ in range(count):
        state = method.step(state, objective, ROWS)
    return state, objective


def equal(a, b) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(dataclasses.astuple(a), dataclasses.astuple(b)))


@pytest.mark.parametrize("mixture", ["mean", "worst"])
@pytest.mark.parametrize("networks", [1, 4])
def test_with_nothing_clipped_it_is_bbt_bit_for_bit(networks: int, mixture) -> None:
    pytest.importorskip("cma", reason="the evolution strategy is in the methods extra")
    clip = ClipTuning(*SHAPE, Settings(popsize=6, networks=networks, p_clip=0.0, mixture=mixture), SEED)
    bbt = BBT(*SHAPE, BBT.Settings(popsize=6), SEED)
    ours, theirs = steps(clip, 12), steps(bbt, 12)
    assert equal(ours[0], theirs[0])
    assert ours[1].ledger.calls == networks * theirs[1].ledger.calls
    assert all(np.array_equal(a, b) for a, b in zip(clip.prompts(ours[0])[0], bbt.prompts(theirs[0])[0]))
    clipped = ClipTuning(*SHAPE, Settings(popsize=6, networks=networks, p_clip=0.1, mixture=mixture), SEED)
    assert not equal(steps(clipped, 12)[0], theirs[0])  # the twin: a little clipping is another search


def test_masks_keep_their_expectation() -> None:
    """E[m] = 1 for every unit; the twin is plain dropout, whose survivors are not scaled."""
    for p_clip in (0.0, 0.1, 0.5):
        masks = np.stack([unit_mask(3, k, p_clip, (4, 100)) for k in range(400)])
        assert set(np.unique(masks)) <= {0.0, 1 / (1 - p_clip)}
        error = np.sqrt(p_clip / (1 - p_clip) / masks.size)
        assert abs(masks.mean() - 1) <= 4 * error
        assert np.abs(masks.mean(axis=0) - 1).max() <= 5 * error * np.sqrt(400)
        if p_clip:
            assert abs((masks > 0).mean() - 1) > 4 * error


def test_each_network_keeps_its_mask() -> None:
    pytest.importorskip("cma", reason="the evolution strategy is in the methods extra")
    method = ClipTuning(*SHAPE, Settings(popsize=6, networks=3, p_clip=0.3), SEED)
    _, objective = steps(method, 4)
    first = objective.asked[:3]
    assert [np.array_equal(a, b) for a, b in zip(objective.asked, first * 4)] == [True] * 12
    assert len({mask.tobytes() for mask in first}) == 3
    assert not np.array_equal(unit_mask(1, 0, 0.3, UNITS), unit_mask(2, 0, 0.3, UNITS))  # each run draws its own
    assert np.array_equal(first[1], unit_mask(SEED, 1, 0.3, UNITS))


def test_every_network_is_a_call() -> None:
    pytest.importorskip("cma", reason="the evolution strategy is in the methods extra")
    method = ClipTuning(*SHAPE, Settings(popsize=6, networks=3), SEED)
    assert method.calls_per_step == 18
    assert steps(method, 2)[1].ledger.calls == 36
    with pytest.raises(BudgetExhausted):
        steps(method, 1, budget=17)


def test_mixtures() -> None:
    ledger = Ledger(100)
    values = [np.array([[1.0, 3.0], [4.0, 4.0]]), np.array([[5.0, 7.0], [0.0, 2.0]])]  # two networks, (P, B) each
    networks = [FunctionObjective(lambda t, z, e, v=v: v, ledger) for v in values]
    asked = np.zeros((2, 1), int), np.zeros((2, 1)), np.arange(2)
    assert MixedRewards(networks, "mean").losses(*asked).tolist() == [[4.0], [2.5]]
    assert MixedRewards(networks, "worst").losses(*asked).tolist() == [[6.0], [4.0]]
    assert ledger.calls == 8


def test_a_plain_function_has_nothing_to_thin() -> None:
    objective = FunctionObjective(lambda t, z, e: np.zeros((len(t), len(e))), Ledger(10))
    assert ClipTuning(*SHAPE, Settings(networks=2)).thinned(objective) == [objective] * 2


@pytest.mark.parametrize(
    "change", [{"p_clip": 1.0}, {"p_clip": -0.1}, {"networks": 0}, {"mixture": "sum"}, {"popsize": 1}]
)
def test_settings_that_cannot_be(change: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Settings(**change)


def test_a_decoder_is_refused_before_the_first_call(tmp_path: Path) -> None:
    pytest.importorskip("cma", reason="the evolution strategy is in the methods extra")
    models = pytest.importorskip("zopog_models.frozen.model", reason="the model needs the extra cpu")
    from tests.models.tiny_decoders import write_decoder
    from zopog_models.tasks.task_files import load_task
    from zopog_ref.app.errors import InputError
    from zopog_ref.app.run.experiment import prepare
    from zopog_ref.app.run.presets import PRESETS

    model = models.load_model(write_decoder(tmp_path / "tiny", "gpt2"), threads=1)
    with pytest.raises(
        InputError, match=r"clip-tuning reads thinned networks, which need an encoder; 'tiny' is a decoder"
    ):
        prepare(model, load_task("supersense"), PRESETS["clip-tuning", "embedded"], 1, shots=1)


def test_it_thins_unless_no_unit_is_ever_off() -> None:
    assert not ClipTuning(1, 2, 2, ClipTuning.Settings(p_clip=0.0)).thins
    assert ClipTuning(1, 2, 2, ClipTuning.Settings(p_clip=1e-9)).thins
