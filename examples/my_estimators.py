"""Estimators of your own, for `zopog verify --estimator`: which lines of the theory one violates, and by what factor.

cd examples && zopog verify --quick --estimator my_estimators:leave_one_out      # violates none
cd examples && zopog verify --quick --estimator my_estimators:own_mean           # 1 - 1/K times the gradient
"""

import numpy as np


def _score(tokens, alpha, p, tau):
    """d log p(t) / d alpha: (1{t_i = j} - p_ij) / (tau alpha_ij), (K, n, N)."""
    drawn = tokens[..., None] == np.arange(alpha.shape[-1])
    return (drawn - p) / (tau * alpha)


def leave_one_out(losses, tokens, alpha, p, tau):
    """Each sample's baseline is the mean of the others, which it does not depend on: unbiased."""
    baseline = (losses.sum() - losses) / (len(losses) - 1)
    return np.einsum("k,kij->ij", losses - baseline, _score(tokens, alpha, p, tau)) / len(losses)


def own_mean(losses, tokens, alpha, p, tau):
    """The mean of all samples as the baseline, divided by K: a common slip, and too small by 1 - 1/K."""
    return np.einsum("k,kij->ij", losses - losses.mean(), _score(tokens, alpha, p, tau)) / len(losses)
