"""The state before the first step, field by field, and what would be deployed from it."""

import numpy as np
import pytest

from zopog_ref import FunctionObjective, Ledger
from zopog_ref.methods import METHODS, method_class, settings_class

N, CANDIDATES, DIM = 2, 4, 3
ZERO, NAN, INF = np.zeros(DIM), float("nan"), float("inf")
UNIFORM, NO_CELL = np.full((N, CANDIDATES), 0.25), np.zeros((N, CANDIDATES))
TOLD = np.zeros((0, 20))
START = {
    "zo-pog": {"alpha": UNIFORM, "z": ZERO, "loss": NAN, "alpha_gradient_norm": 0.0, "z_gradient_norm": 0.0, "readout": None},
    "bdpl": {"p": UNIFORM, "first_moment": NO_CELL, "second_moment": NO_CELL, "loss": NAN, "gradient_norm": 0.0, "readout": None},
    "bbt": {"told": TOLD, "z": ZERO, "best_loss": INF, "loss": NAN, "step_size": NAN},
    "catcma": {"told": TOLD, "tokens": np.zeros(N, int), "z": ZERO, "best_loss": INF, "loss": NAN},
    "sspt": {"z": ZERO, "loss": NAN, "z_gradient_norm": 0.0, "readout": None},
    "ensembles": {"told": TOLD, "z": np.zeros((5, DIM)), "best_losses": np.full(5, INF), "loss": NAN},
    "cma-elbo": {"told": np.zeros((0, 10)), "mean": ZERO, "variance": np.ones(DIM), "best_elbo": INF, "loss": NAN, "kl": 0.0},
    "abc-smc": {
        "rows": 0, "population": 0, "required": 0, "rejections": 0, "particles": np.zeros((0, DIM)),
        "log_weights": np.zeros(0), "accepted": np.zeros((0, DIM)), "accepted_log_weights": np.zeros(0), "best": ZERO,
        "most_right": -1, "loss": NAN, "tolerance": 1.0, "acceptance": 0.0, "effective_size": 0.0,
    },
    "clip-tuning": {"told": TOLD, "z": ZERO, "best_loss": INF, "loss": NAN, "step_size": NAN},
    "random-search": {"tokens": np.zeros(N, int), "z": ZERO, "best_loss": INF, "loss": NAN},
}  # fmt: skip
# calls of a step, sees all rows, its own loss, how it answers, reads thinned networks, has kernels
KINDS = {
    "zo-pog": (40, False, None, "mean", False, True),
    "bdpl": (20, False, None, "mean", False, True),
    "bbt": (20, True, None, "mean", False, False),
    "catcma": (20, True, None, "mean", False, False),
    "sspt": (40, False, None, "mean", False, False),
    "ensembles": (20, True, None, "mean", False, False),
    "cma-elbo": (40, True, None, "mean", False, False),
    "abc-smc": (20, True, "error", "votes", False, False),
    "clip-tuning": (80, True, None, "mean", True, False),
    "random-search": (20, True, None, "mean", False, False),
}


def made(name: str):
    for package in METHODS[name].packages:
        pytest.importorskip(package, reason="needs the extra methods")
    return method_class(name)(N, CANDIDATES, DIM, seed=1)


@pytest.mark.parametrize("name", START)
def test_the_start(name: str) -> None:
    state = vars(made(name).init())
    expected = {"step": 0} | START[name]
    assert list(state) == list(expected)
    for field, value in expected.items():
        assert np.shape(state[field]) == np.shape(value), field
        np.testing.assert_array_equal(state[field], value, err_msg=field)


@pytest.mark.parametrize("name", KINDS)
def test_what_a_method_is(name: str) -> None:
    method = made(name)
    assert (
        method.calls_per_step, method.full_batch, method.loss, method.predictive, method.thins, method.has_kernels,
    ) == KINDS[name]  # fmt: skip
    assert method.settings == settings_class(name)()
    assert method.finished(method.init()) == ""


@pytest.mark.parametrize("name", START)
def test_what_would_be_deployed_from_the_start(name: str) -> None:
    method = made(name)
    prompts = method.prompts(method.init())
    assert len(prompts) == {"cma-elbo": 10}.get(name, 1)
    assert sum(prompt.weight for prompt in prompts) == pytest.approx(1)
    if name != "cma-elbo":
        assert prompts[0].z.tolist() == ZERO.tolist()
    tokens = {prompt.tokens.tobytes() for prompt in prompts}
    assert len(tokens) == 1


@pytest.mark.parametrize("name", START)
def test_a_state_counts_its_steps(name: str) -> None:
    method = made(name)

    def losses(tokens, z, examples):
        assert tokens.shape == (len(tokens), N)
        assert z.shape in ((len(tokens), DIM), (len(tokens), len(examples), DIM))
        return np.ones((len(tokens), len(examples)))

    objective = FunctionObjective(losses, Ledger(1000))
    state = method.init()
    for step in (1, 2):
        state = method.step(state, objective, np.arange(3))
        assert state.step == step
        assert type(state.step) is int


def test_all_methods_are_here() -> None:
    assert START.keys() == KINDS.keys() == METHODS.keys()


@pytest.mark.parametrize("sizes", [(0, 4, 3), (2, 0, 3), (2, 4, 0), (-1, 4, 3)])
def test_sizes_below_one(sizes: tuple[int, int, int]) -> None:
    name, size = next((n, s) for n, s in zip(("n_positions", "n_candidates", "dim"), sizes) if s < 1)
    with pytest.raises(ValueError, match=f"^{name} is {size}; it must be at least 1$"):
        method_class("sspt")(*sizes)
    assert method_class("sspt")(1, 1, 1).init().z.shape == (1,)
