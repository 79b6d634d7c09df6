"""The methods by name: ZO-PoG and the systems it is compared with, all on one interface (zopog_ref.method.Method).

    from zopog_ref.methods import method_class
    method = method_class("bdpl")(n_positions=4, n_candidates=10, dim=3, seed=0)

A method's module is imported when it is asked for; none needs its extra package before an instance is made.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

from zopog_ref.method import Method

__all__ = ["METHODS", "Entry", "MissingPackage", "UnknownMethod", "entry_of", "method_class", "settings_class"]


@dataclass(frozen=True)
class Entry:
    """One method: what it is, in a line; where its class is; the packages it needs beyond NumPy."""

    about: str
    module: str
    cls: str
    packages: tuple[str, ...] = ()  # import names
    extra: str = "methods"  # of this distribution, the extra that brings them


METHODS = {
    "zo-pog": Entry(
        "policy gradient on discrete tokens, zeroth-order steps on a continuous prompt (ICLR 2025)",
        "zopog_ref.algorithm", "ZOPoG",
    ),
    "bdpl": Entry(
        "policy gradient on discrete tokens, categorical distributions on the simplex (TMLR 2023)",
        "zopog_ref.methods.bdpl", "BDPL",
    ),
    "bbt": Entry(
        "CMA-ES on a continuous prompt in a random subspace (ICML 2022)",
        "zopog_ref.methods.bbt", "BBT", packages=("cma", "threadpoolctl"),
    ),
    "catcma": Entry(
        "one evolution strategy over tokens and continuous prompt together (GECCO 2024)",
        "zopog_ref.methods.catcma", "CatCMA", packages=("cmaes", "threadpoolctl"),
    ),
    "sspt": Entry(
        "zeroth-order steps on a sparse continuous prompt (KDD 2024)",
        "zopog_ref.methods.sspt", "SSPT",
    ),
    "ensembles": Entry(
        "several CMA-ES runs, a prompt of each, equal weights (EACL Findings 2023)",
        "zopog_ref.methods.gflf_ensembles", "Ensembles", packages=("cma", "threadpoolctl"),
    ),
    "cma-elbo": Entry(
        "CMA-ES fits a Gaussian over prompts to the evidence lower bound (EACL Findings 2023)",
        "zopog_ref.methods.gflf_cma_elbo", "CmaElbo", packages=("cma", "threadpoolctl"),
    ),
    "abc-smc": Entry(
        "a posterior over prompts from predicted labels alone, by sequential Monte Carlo (EACL Findings 2023)",
        "zopog_ref.methods.gflf_abc_smc", "AbcSmc",
    ),
    "clip-tuning": Entry(
        "CMA-ES on a mixture of thinned networks' losses (EMNLP Findings 2022)",
        "zopog_ref.methods.clip_tuning", "ClipTuning", packages=("cma", "threadpoolctl"),
    ),
    "random-search": Entry(
        "independent random prompts, the best on the training rows: what the others must beat",
        "zopog_ref.methods.random_search", "RandomSearch",
    ),
}  # fmt: skip


class UnknownMethod(ValueError):
    """A name that no method has."""


class MissingPackage(ImportError):
    """A method whose package is not installed."""


def entry_of(name: str) -> Entry:
    """The method of this name. Errors: UnknownMethod."""
    if name not in METHODS:
        raise UnknownMethod(f"unknown method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]


def settings_class(name: str) -> type[Any]:
    """The method's Settings, which need no extra package. Errors: UnknownMethod."""
    return _load(entry_of(name)).Settings


def method_class(name: str) -> type[Method]:
    """The method's class. Errors: UnknownMethod; MissingPackage, which says what to install."""
    entry = entry_of(name)
    for package in entry.packages:
        if importlib.util.find_spec(package) is None:
            install = f"pip install {package} (the extra {entry.extra} has it)"
            raise MissingPackage(f"the method {name} needs the package {package!r}: {install}")
    return _load(entry)


def _load(entry: Entry) -> type[Method]:
    cls: type[Method] = getattr(importlib.import_module(entry.module), entry.cls)
    return cls
