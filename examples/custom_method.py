"""A method of your own on the shared interface: the loop, the budget, the selection on dev and resuming come with it.

Hill climbing over tokens: change one position of the best prompt, keep the change when its loss is lower.
"""

from dataclasses import dataclass

import numpy as np

from zopog_ref import DevScore, FunctionObjective, Ledger, Method, WeightedPrompt, run
from zopog_ref.randomness import Purpose, uniform


@dataclass(frozen=True)
class Settings:
    """tries: prompts a step."""

    tries: int = 8


@dataclass(frozen=True)
class State:
    """Only data, so that a run can be saved after any step; floats go into the learning curve."""

    step: int
    tokens: np.ndarray  # (n,)
    loss: float = float("inf")


class HillClimbing(Method):
    """One position changed at a time. Random numbers come from (seed, step): a resumed run repeats them."""

    Settings = Settings
    full_batch = True  # losses of two steps are compared, so every step sees all rows

    @property
    def calls_per_step(self) -> int:
        return self.settings.tries

    def init(self) -> State:
        return State(0, np.zeros(self.n_positions, np.int64))

    def step(self, state, objective, examples):
        place, token = uniform(self.seed, state.step, Purpose.TOKENS_SEARCH, (2, self.settings.tries))
        tokens = np.tile(state.tokens, (self.settings.tries, 1))  # (K, n)
        rows = np.arange(self.settings.tries)
        tokens[rows, (place * self.n_positions).astype(int)] = (token * self.n_candidates).astype(int)
        losses = objective.losses(tokens, np.zeros((len(rows), self.dim)), examples).mean(axis=1)  # (K,)
        best = int(losses.argmin())
        if losses[best] < state.loss:
            return State(state.step + 1, tokens[best], float(losses[best]))
        return State(state.step + 1, state.tokens, state.loss)

    def prompts(self, state: State) -> list[WeightedPrompt]:
        return [WeightedPrompt(state.tokens, np.zeros(self.dim), 1.0)]


hidden = np.array([3, 1, 4, 1, 5])  # the prompt to be found


def losses(tokens, z, examples):
    """(K, B): how many positions are wrong, the same on every row."""
    return np.repeat((tokens != hidden).sum(axis=1, keepdims=True).astype(float), len(examples), axis=1)


def dev(prompts: list[WeightedPrompt]) -> DevScore:
    """A higher first number wins, then a lower loss."""
    wrong = sum(prompt.weight * (prompt.tokens != hidden).sum() for prompt in prompts)
    return DevScore(metric=-float(wrong), loss=float(wrong))


if __name__ == "__main__":
    method = HillClimbing(n_positions=5, n_candidates=8, dim=1, seed=0)
    result = run(method, FunctionObjective(losses, Ledger(2000, batch_size=32)), rows=32, dev=dev)
    print(result.prompts[0].tokens, "after", result.best_step, "steps,", result.curve[-1].calls, "calls paid")
    assert (result.prompts[0].tokens == hidden).all()
