"""Every bound of every setting: the last value that can be used, the first that cannot, and what is said of it."""

import math

import numpy as np
import pytest

from zopog_ref.checks import POSITIVE, Rule, at_least, check, check_choices
from zopog_ref.methods import METHODS, settings_class

TINY, HUGE = 5e-324, 1.7e308
POSITIVE_WORDS, NOT_NEGATIVE_WORDS = "it must be positive and finite", "it must be 0 or more, and finite"
BBT_BOUND, ELBO_BOUND = (
    "it must be 0 (none) or positive, and finite",
    "it must be 0 (none) or above 1, where the variances start",
)
# (method, setting): smallest, largest that can be used, those that cannot, what is said
BOUNDS = {
    **{("zo-pog", name): (TINY, HUGE, (0.0, -1.0, math.inf), POSITIVE_WORDS) for name in ("tau", "mu", "eta_alpha", "eta_z", "alpha_min")},
    **{(name, "readout_folds"): (0, 10**9, (-1,), "it must be at least 0") for name in ("zo-pog", "sspt", "bdpl")},
    ("zo-pog", "policy_samples"): (2, 10**9, (1, 0), "it must be at least 2"),
    ("zo-pog", "direction_pairs"): (1, 10**9, (0, -1), "it must be at least 1"),
    ("zo-pog", "decay"): (0.0, HUGE, (-TINY, math.inf), NOT_NEGATIVE_WORDS),
    ("bbt", "popsize"): (2, 10**9, (1,), "it must be at least 2"),
    ("bbt", "sigma"): (TINY, HUGE, (0.0, math.inf), POSITIVE_WORDS),
    ("bbt", "bound"): (0.0, HUGE, (-TINY, math.inf), BBT_BOUND),
    ("bdpl", "samples"): (2, 10**9, (1,), "it must be at least 2"),
    ("bdpl", "eta_p"): (TINY, HUGE, (0.0, math.inf), POSITIVE_WORDS),
    **{("bdpl", name): (0.0, HUGE, (-TINY, math.inf), NOT_NEGATIVE_WORDS) for name in ("weight_decay", "clip")},
    ("bdpl", "floor"): (TINY, 1.0, (0.0, 1.0000001), "it must lie above 0, at most 1/N"),
    ("catcma", "popsize"): (4, 10**9, (3,), "it must be at least 4, so that two or more are recombined"),
    ("catcma", "sigma"): (TINY, HUGE, (0.0, math.inf), POSITIVE_WORDS),
    **{("sspt", name): (1, 10**9, (0,), "it must be at least 1") for name in ("direction_pairs", "keep")},
    **{("sspt", name): (TINY, HUGE, (0.0, math.inf), POSITIVE_WORDS) for name in ("mu", "eta_z")},
    ("sspt", "decay"): (0.0, HUGE, (-TINY, math.inf), NOT_NEGATIVE_WORDS),
    ("ensembles", "members"): (1, 10**9, (0,), "it must be at least 1"),
    ("ensembles", "popsize"): (2, 10**9, (1,), "it must be at least 2"),
    ("cma-elbo", "popsize"): (2, 10**9, (1,), "it must be at least 2"),
    **{("cma-elbo", name): (1, 10**9, (0,), "it must be at least 1") for name in ("draws", "members")},
    **{("cma-elbo", name): (TINY, HUGE, (0.0, math.inf), POSITIVE_WORDS) for name in ("sigma", "prior_variance")},
    ("cma-elbo", "kl_weight"): (0.0, HUGE, (-TINY, math.inf), NOT_NEGATIVE_WORDS),
    ("cma-elbo", "bound"): (0.0, HUGE, (TINY, 1.0), ELBO_BOUND),
    **{("abc-smc", name): (1, 10**9, (0,), "it must be at least 1") for name in ("members", "samples", "max_rejections")},
    **{("abc-smc", name): (TINY, HUGE, (0.0, math.inf), POSITIVE_WORDS) for name in ("prior_variance", "kernel_variance")},
    ("clip-tuning", "networks"): (1, 10**9, (0,), "it must be at least 1"),
    ("clip-tuning", "p_clip"): (0.0, 0.999999, (-TINY, 1.0), "it must be 0 or more, and less than 1"),
    ("clip-tuning", "popsize"): (2, 10**9, (1,), "it must be at least 2"),
    ("random-search", "samples"): (1, 10**9, (0,), "it must be at least 1"),
    ("random-search", "sigma"): (0.0, HUGE, (-TINY, math.inf), NOT_NEGATIVE_WORDS),
}  # fmt: skip
CHOICES = {
    ("zo-pog", "gumbel"): ("per_sample", "per_step", "none"),
    ("zo-pog", "directions"): ("per_example", "shared"),
    ("zo-pog", "deploy"): ("mode", "noisy_mode"),
    ("bdpl", "score"): ("unbiased", "official"),
    ("bdpl", "optimizer"): ("plain", "adamw"),
    ("sspt", "directions"): ("per_example", "shared"),
    ("clip-tuning", "mixture"): ("mean", "worst"),
}


@pytest.mark.parametrize(("method", "name"), BOUNDS, ids=str)
def test_bounds(method: str, name: str) -> None:
    smallest, largest, unusable, words = BOUNDS[method, name]
    for value in (smallest, largest):
        assert getattr(settings_class(method)(**{name: value}), name) == value
    for value in unusable if isinstance(smallest, int) else (*unusable, math.nan):
        with pytest.raises(ValueError, match="it must") as raised:
            settings_class(method)(**{name: value})
        said = NOT_NEGATIVE_WORDS if words == ELBO_BOUND and math.isnan(value) else words
        assert str(raised.value) == f"{name} is {value}; {said}"


@pytest.mark.parametrize("value", [-TINY, math.inf])
def test_the_bound_of_cma_elbo_is_a_size(value: float) -> None:
    with pytest.raises(ValueError, match=NOT_NEGATIVE_WORDS):
        settings_class("cma-elbo")(bound=value)
    assert settings_class("cma-elbo")(bound=np.nextafter(1.0, 2.0)).bound > 1


@pytest.mark.parametrize(("method", "name"), CHOICES, ids=str)
def test_choices(method: str, name: str) -> None:
    for choice in CHOICES[method, name]:
        assert getattr(settings_class(method)(**{name: choice}), name) == choice
    with pytest.raises(ValueError, match=f"{name} is 'other'; choose one of {', '.join(CHOICES[method, name])}"):
        settings_class(method)(**{name: "other"})


def test_one_half_of_the_algorithm_must_be_on() -> None:
    settings = settings_class("zo-pog")
    assert settings(policy=False).zeroth_order
    assert settings(zeroth_order=False).policy
    with pytest.raises(ValueError, match="both off"):
        settings(policy=False, zeroth_order=False)


def test_every_number_and_every_choice_is_in_these_tables() -> None:
    """A setting that nothing bounds is a flag, or what another setting's test covers (BBT's, inherited)."""
    for method in METHODS:
        for name, default in vars(settings_class(method)()).items():
            if isinstance(default, bool) or (method in ("ensembles", "clip-tuning") and name in ("sigma", "bound")):
                continue
            assert ((method, name) in BOUNDS) != ((method, name) in CHOICES), (method, name)


def test_published_settings_differ_from_the_defaults() -> None:
    """paper() of the methods that have one."""
    changed = {
        "zo-pog": {"mu": 0.01, "eta_alpha": 1e-3, "eta_z": 1e-2, "deploy": "noisy_mode"},
        "bdpl": {"eta_p": 1e-4, "score": "official", "optimizer": "adamw", "clip": 3.0, "floor": 1e-8},
        "ensembles": {"members": 10},
        "cma-elbo": {"popsize": 20, "draws": 10, "common_draws": False, "members": 100},
        "abc-smc": {"members": 100, "weighted": False},
    }
    for method, numbers in changed.items():
        cls = settings_class(method)
        assert cls.paper() == cls(**numbers) != cls(), method


def test_what_a_rule_says() -> None:
    class Thing:
        size = 3

    check(Thing, at_least(3), "size")
    check(Thing, POSITIVE, "size")
    with pytest.raises(ValueError, match=r"^size is 3; it must be even$"):
        check(Thing, Rule("be even", lambda value: value % 2 == 0), "size")
    with pytest.raises(ValueError, match=r"^size is 3; it must be at least 4, for two$"):
        check(Thing, at_least(4, ", for two"), "size")
    check_choices(settings_class("bbt")())  # without a choice there is nothing to see
