"""Complexity [C1]: sizes for an eps-stationary point, in calls and in single examples, and what a search finds.

One step size for both blocks, eta = 1 / max(L_alpha, L_z), so that the two halves of [T1] weigh alike. A call is one
prompt on a mini-batch of B rows, the literature's count; a single example is one prompt on one row. With large samples
B is of order 1/eps^2, so eps^-4 calls are eps^-6 examples; with small steps, eta of order eps^2, samples stay of order
1 and both counts are eps^-4.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from zopog_ref.convergence.assumptions import Constants
from zopog_ref.convergence.comparison import Equality, Inequality
from zopog_ref.convergence.theorem import (
    Plan,
    alpha_noise,
    average_bound,
    largest_eta_z,
    projected_average_bound,
    z_noise,
)


@dataclass(frozen=True)
class Complexity:
    """Step size, sample sizes and steps for an eps-stationary point. Sizes are real numbers; round them up."""

    epsilon: float
    eta: float
    steps: float
    policy_samples: float
    direction_pairs: float
    batch: float
    mu: float

    @property
    def calls(self) -> float:
        """T (I_1 + 2 I_2): prompts evaluated, each on a mini-batch."""
        return self.steps * (self.policy_samples + 2 * self.direction_pairs)

    @property
    def examples(self) -> float:
        """T (I_1 + 2 I_2) B: prompts times rows."""
        return self.calls * self.batch

    @property
    def plan(self) -> Plan:
        """The plan, sizes rounded up."""
        I_1, I_2, B = (int(np.ceil(x)) for x in (self.policy_samples, self.direction_pairs, self.batch))
        return Plan(self.eta, self.eta, self.mu, I_1, I_2, B)


def calls(sizes: Complexity) -> float:
    """T (I_1 + 2 I_2)."""
    return sizes.calls


def examples(sizes: Complexity) -> float:
    """T (I_1 + 2 I_2) B."""
    return sizes.examples


def common_step(c: Constants) -> float:
    """1 / max(L_alpha, L_z): allowed by [D1], and by [D2] when I_2 >= 4 (d + 2)."""
    return 1 / max(c.L_alpha, c.L_z)


def complexity(c: Constants, drop: float, epsilon: float, projected: bool = False) -> Complexity:
    """Complexity [C1], proved: sizes for which the mean of ||grad_alpha L||^2 + ||grad_z L||^2 is at most eps^2.

    Divide [T1] by eta/4, eta = 1/Lambda, Lambda = max(L_alpha, L_z), and give each of its seven terms at most eps^2/8:
    4 Lambda drop/T, 2 (L_alpha/Lambda)(sigma_g^2/I_1 + sigma_alpha^2/B), 2 mu^2 L_z^2 d, and 2 (L_z/Lambda) times the
    three of V. So T = O(Lambda drop/eps^2), I_1 = O(sigma_g^2/eps^2), I_2 = O(d + d sigma_z^2/eps^2),
    B = O((sigma_alpha^2 + sigma_z^2)/eps^2), mu = O(eps/(L_z d)): T (I_1 + 2 I_2) = O(Lambda drop (sigma_g^2 +
    d sigma_z^2) / eps^4) calls, and B = O(1/eps^2) times as many examples. projected: the same from [T1b], with ||P||
    in place of ||grad_alpha L||, 6 in place of 2 (L_alpha/Lambda), and without [A4]. For gamma_alpha = gamma_z = 0.
    """
    eta, share = common_step(c), epsilon**2 / 8
    in_alpha = 6.0 if projected else 2 * c.L_alpha * eta
    in_z = 2 * c.L_z * eta
    I_1 = max(2.0, in_alpha * c.sigma2_g / share)
    I_2 = max(4.0 * (c.d + 2), in_z * 2 * (c.d + 2) * c.sigma2_z / share)
    B = max(1.0, in_alpha * c.sigma2_alpha / share, in_z * c.sigma2_z / share)
    by_bias = share / (2 * c.L_z**2 * c.d)
    by_variance = share * 2 * I_2 / (in_z * c.L_z**2 * c.d * (c.d + 2) * (c.d + 4))
    return Complexity(epsilon, eta, 4 * drop / (eta * share), I_1, I_2, B, float(np.sqrt(min(by_bias, by_variance))))


def small_steps(c: Constants, drop: float, epsilon: float) -> Complexity:
    """Complexity [C1] with small steps, proved, in every noise mode: I_1 = 2, I_2 = 1, B = 1 and eta = O(eps^2).

    The noise of [T1] over eta/4 is 4 eta times a constant Q, gamma_alpha^2 and gamma_z^2 in it; eta = min(1/Lambda,
    1/(4(d+2) L_z), eps^2/(8 Q)) leaves at most eps^2/2, the bias takes eps^2/4 and T = 16 drop/(eta eps^2) the rest:
    O(eps^-4) calls, and as many examples. Needs [A4]: the projected noise of [T1b] does not shrink with eta.
    """
    mu = float(min(epsilon / np.sqrt(8 * c.L_z**2 * c.d), 1 / (c.L_z * (c.d + 4))))
    one = Plan(1.0, 1.0, 0.0, 2, 1, 1)
    in_z = replace(one, mu=mu)
    bias = mu**2 * c.L_z**2 * c.d / 2
    Q = alpha_noise(c, one) + z_noise(c, in_z) - bias
    eta = min(common_step(c), largest_eta_z(c, 1), epsilon**2 / (8 * Q))
    return Complexity(epsilon, eta, 16 * drop / (eta * epsilon**2), 2, 1, 1, mu)


def stationarity(c: Constants, sizes: Complexity, drop: float, projected: bool = False) -> float:
    """What [T1] (or [T1b]) bounds the mean of the squared gradients by, with these sizes rounded up: over eta/4."""
    plan, bound = sizes.plan, projected_average_bound if projected else average_bound
    return bound(c, plan, int(np.ceil(sizes.steps)), drop) / (plan.eta_alpha / 4)


def reached(c: Constants, sizes: Complexity, drop: float, projected: bool, name: str) -> Inequality:
    """[C1]: what the theorem bounds the mean of the squared gradients by, against eps^2."""
    return Inequality(stationarity(c, sizes, drop, projected), sizes.epsilon**2, f"{name}, eps = {sizes.epsilon:g}")


def cheapest(c: Constants, drop: float, epsilon: float, cost: Callable[[Complexity], float],
             free_step: bool) -> Complexity:  # fmt: skip
    """The cheapest sizes with which [T1] over eta/4 is at most eps^2, by search: this formula-free optimum is what the
    exponents of `complexity` and `small_steps` are compared with [C1].

    Coordinate search on I_1, I_2, B (and eta, if free) in logarithms, sizes real and at least 2, 1, 1; mu is so small
    that it costs nothing, and T is what the other terms leave.
    """
    least = np.log([2.0, 1.0 if free_step else 4.0 * (c.d + 2), 1.0, 1.0])
    top = common_step(c)

    def sizes(x: np.ndarray) -> Complexity | None:
        I_1, I_2, B = np.exp(x[:3])
        eta = min(top / np.exp(x[3]), largest_eta_z(c, I_2))
        plan = Plan(eta, eta, 1e-9 * epsilon, I_1, I_2, B)
        left = epsilon**2 - (alpha_noise(c, plan) + z_noise(c, plan)) / (eta / 4)
        return Complexity(epsilon, eta, drop / (eta / 4) / left, I_1, I_2, B, plan.mu) if left > 0 else None

    start = complexity(c, drop, epsilon)
    x = np.maximum(np.log([start.policy_samples, start.direction_pairs, start.batch, 1.0]), least)
    step, moves = 1.0, [np.array(m, float) for m in product((-1, 0, 1), repeat=4) if any(m) and (free_step or not m[3])]
    best = sizes(x)
    assert best is not None
    while step > 1e-3:
        tried = [(np.maximum(x + step * m, least)) for m in moves]
        found = [(cost(s), i) for i, s in enumerate(map(sizes, tried)) if s is not None]
        value, i = min(found, default=(np.inf, 0))
        if value < cost(best) * (1 - 1e-9):
            x, best = tried[i], sizes(tried[i])
            assert best is not None
        else:
            step /= 2
    return best


def sizes_suffice(c: Constants, one_noise: Constants) -> list[Inequality]:
    """The sizes of [C1] put back into [T1] and [T1b], and those with small steps also under one noise a half step."""
    found = []
    for epsilon in (0.3, 0.01):
        for projected in (False, True):
            sizes = complexity(c, 1.0, epsilon, projected)
            found.append(reached(c, sizes, 1.0, projected, f"{'T1b' if projected else 'T1'}, large samples"))
        for mode in (c, one_noise):
            found.append(reached(mode, small_steps(mode, 1.0, epsilon), 1.0, False, "small steps"))
    return found


def exponents(c: Constants, near: Constants, nearer: Constants) -> list[Equality]:
    """How the cheapest sizes that a search finds go with eps [C1], in calls and in single examples, with large samples
    and with small steps; and how the calls of [C1] go with 1/alpha_min, a tenth as large in `nearer` as in `near`."""
    found = []
    for free, cost, right in ((False, calls, -4), (False, examples, -6), (True, calls, -4), (True, examples, -4)):
        at = [cost(cheapest(c, 1.0, epsilon, cost, free)) for epsilon in (0.1, 0.01)]
        slope = -float(np.log10(at[1] / at[0]))
        name = f"{cost.__name__}, {'small steps' if free else 'eta = 1/L'}"
        found.append(Equality(slope, right, slope - right, 1e-3, True, name))
    at = [complexity(at_floor, 1.0, 1e-3).calls for at_floor in (near, nearer)]
    slope = float(np.log10(at[1] / at[0]))
    return [*found, Equality(slope, 4.0, slope - 4.0, 1e-3, True, "calls against 1/alpha_min")]


def reported_evaluations(n: int, n_candidates: int, epsilon: float) -> float:
    """Complexity [C1], reported, up to a constant: O(sqrt(n kappa) / eps^3), which needs the 1/I^2 of the reported
    Proposition 1 (I = O(sqrt(n kappa) sigma_g / eps))."""
    return float(np.sqrt(n * n_candidates) / epsilon**3)
