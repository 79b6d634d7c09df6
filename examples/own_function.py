"""Gradients of a function of your own, from its values alone.

f(t, z) = sum over positions of cost[i, t_i]  +  ||z - target||^2       tokens t (n,), a vector z (d,)

Both gradients have a closed form here, so that you see how far an estimate is from it.
"""

import numpy as np

from zopog_ref import perturb, policy_gradient, probabilities, sample, score, two_point_gradient

rng = np.random.default_rng(0)
cost, target = rng.random((2, 3)), np.array([1.0, -2.0, 0.5])  # n = 2 positions, N = 3 candidates, d = 3

# Over tokens: the policy gradient of E cost, for t drawn from the probabilities of alpha.
alpha = np.full((2, 3), 1 / 3)
p = probabilities(alpha)
tokens = sample(p, rng.random((50_000, 2)))  # (K, n)
estimate = policy_gradient(cost[[0, 1], tokens].sum(axis=1), tokens, alpha, p)

every = np.stack(np.meshgrid(range(3), range(3), indexing="ij"), -1).reshape(-1, 2)  # all nine prompts
weight = p[[0, 1], every].prod(axis=1)
exact = np.einsum("t,t,tij->ij", weight, cost[[0, 1], every].sum(axis=1), score(every, alpha, p))
print("policy gradient, furthest entry from the exact one:", abs(estimate - exact).max())

# Over z: two values for each random direction.
z, u = np.zeros(3), rng.standard_normal((50_000, 3))
plus, minus = perturb(z, u, mu=1e-3)
values = [((moved - target) ** 2).sum(axis=1) for moved in (plus, minus)]
estimate_z, exact_z = two_point_gradient(*values, u, mu=1e-3), 2 * (z - target)
print("zeroth-order gradient, furthest entry from the exact one:", abs(estimate_z - exact_z).max())

assert abs(estimate - exact).max() < 0.02
assert abs(estimate_z - exact_z).max() < 0.1
