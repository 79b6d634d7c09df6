"""What the settings mean: the symbol of the papers' formulas, and a line for people."""

# A setting that means something else in one method has an entry "method.setting".
MEANINGS: dict[str, tuple[str, str]] = {
    "n_positions": ("n", "prompt tokens"),
    "n_candidates": ("N", "candidate tokens for each position"),
    "dim": ("d", "dimensions of the continuous prompt z"),
    "scale": ("a", "how far z moves the embeddings"),
    "batch_size": ("B", "rows of a mini-batch"),
    "budget": ("calls", "API calls, one prompt on one mini-batch each"),
    "loss": ("loss", "training loss"),
    "policy_samples": ("I_1", "prompts of a policy step; at least 2"),
    "direction_pairs": ("I_2", "pairs of prompts of a zeroth-order step"),
    "tau": ("tau", "temperature of the token distribution"),
    "mu": ("mu", "smoothing radius: how far apart the two prompts of a pair are, in z"),
    "eta_alpha": ("eta_alpha", "step size of the token parameters alpha"),
    "eta_z": ("eta_z", "step size of the continuous prompt z"),
    "decay": ("decay", "step t uses eta / (1 + decay t); 0: constant steps"),
    "alpha_min": ("alpha_min", "least alpha; smaller ones are clipped"),
    "gumbel": ("g", "when the noise of the sampled tokens is drawn"),
    "directions": ("u", "a random direction for each row, or one for all of them"),
    "deploy": ("deploy", "the likeliest tokens, or those of the last noisy distribution"),
    "policy": ("", "off: the tokens' distribution stays uniform (an ablation)"),
    "zeroth_order": ("", "off: z stays 0 (an ablation)"),
    "screen": ("", "on: the first step keeps the best of its prompts, the rest is for z (--settings screened)"),
    "readout_folds": ("F", "0: as published; F > 0: the loss is read through a readout, refitted at each step"),
    "samples": ("I", "prompts a step"),
    "abc-smc.samples": ("K", "proposals a step"),
    "eta_p": ("eta_p", "step size of the token probabilities p"),
    "score": ("score", "of the policy gradient: unbiased, or as the official code has it"),
    "optimizer": ("", "plain steps, or AdamW"),
    "weight_decay": ("", "of AdamW"),
    "clip": ("", "largest norm of the gradient; 0: never clipped"),
    "floor": ("", "least probability of a token, at most 1/N"),
    "popsize": ("lambda", "prompts a generation"),
    "sigma": ("sigma", "first step size of the evolution strategy"),
    "random-search.sigma": ("sigma", "standard deviation of z"),
    "diagonal": ("", "on: learn variances only (separable CMA-ES)"),
    "bound": ("", "keeps every coordinate in [-bound, bound]; 0: unbounded"),
    "keep": ("k", "entries of z that may differ from 0"),
    "members": ("M", "prompts that answer together"),
    "prior_variance": ("v0", "variance of the prior over z"),
    "kernel_variance": ("", "mean variance of the proposals around a particle"),
    "max_rejections": ("", "steps without an acceptance after which the search ends"),
    "weighted": ("w", "off: the prompts have equal weights"),
    "draws": ("", "prompts drawn to estimate the loss of one candidate"),
    "kl_weight": ("lambda", "weight of the divergence from the prior"),
    "common_draws": ("", "on: all candidates of a generation share their random draws"),
    "networks": ("K", "thinned networks"),
    "p_clip": ("p", "probability that a hidden unit is switched off"),
    "mixture": ("", "of the networks' losses: their mean, or the worst"),
}


def meaning_of(name: str, method: str = "") -> str:
    """Of a setting, in that method."""
    return MEANINGS.get(f"{method}.{name}", MEANINGS.get(name, ("", "")))[1]


def symbol_of(name: str, method: str = "") -> str:
    """As the paper writes it; "" where it has none."""
    return MEANINGS.get(f"{method}.{name}", MEANINGS.get(name, ("", "")))[0]
