"""The registry: every method can be named, its settings are options without clashes, a missing package says so."""

import argparse
import dataclasses
import importlib.util

import pytest

from zopog_ref.method import Method
from zopog_ref.methods import METHODS, Entry, MissingPackage, UnknownMethod, method_class, settings_class


@pytest.mark.parametrize("name", METHODS)
def test_settings_are_plain_and_need_no_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    settings = settings_class(name)()
    assert type(settings).__dataclass_params__.frozen
    assert {type(getattr(settings, field.name)) for field in dataclasses.fields(settings)} <= {int, float, bool, str}
    assert all(field.default is not dataclasses.MISSING for field in dataclasses.fields(settings))


@pytest.mark.parametrize("name", METHODS)
def test_every_number_is_checked(name: str) -> None:
    """Each float of each method refuses NaN, by its own name: nothing unusable reaches a run."""
    for field in dataclasses.fields(settings_class(name)):
        if isinstance(field.default, float):
            with pytest.raises(ValueError, match=field.name):
                settings_class(name)(**{field.name: float("nan")})


@pytest.mark.parametrize("name", METHODS)
def test_a_class_of_the_one_interface(name: str) -> None:
    for package in METHODS[name].packages:
        pytest.importorskip(package, reason="this method needs the extra methods")
    cls = method_class(name)
    assert issubclass(cls, Method)
    with pytest.raises(ValueError, match="n_candidates is 0"):
        cls(1, 0, 1)


def test_an_unknown_name_names_the_known() -> None:
    with pytest.raises(UnknownMethod, match="there are zo-pog, "):
        method_class("zo-pig")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("about", "zopog_ref.methods.random_search", "RandomSearch", packages=("numpy", "no_such_package"))
    monkeypatch.setitem(METHODS, "needy", entry)
    with pytest.raises(
        MissingPackage,
        match=r"needy needs the package 'no_such_package': pip install no_such_package \(the extra methods",
    ):
        method_class("needy")
    assert settings_class("needy")().samples


def test_strategies_need_what_sets_their_threads() -> None:
    """What is missing is named before a model is loaded, not in the first step."""
    strategies = [entry.packages for entry in METHODS.values() if {"cma", "cmaes"} & set(entry.packages)]
    assert len(strategies) == 5
    assert all("threadpoolctl" in packages for packages in strategies)


def test_options_of_all_methods_do_not_clash() -> None:
    tune = pytest.importorskip("zopog_ref.app.tune.options", reason="the command line needs the extra cpu")
    tune.add_arguments(argparse.ArgumentParser())  # argparse refuses an option given twice
    for name in METHODS:
        for field in dataclasses.fields(settings_class(name)):
            assert type(field.default) is tune.method_options()[field.name][0], (name, field.name)


def method_or_skip(name: str, preset):
    for package in METHODS[name].packages:
        pytest.importorskip(package, reason="this method needs the extra methods")
    return method_class(name)(preset.n_positions, preset.n_candidates, preset.dim, preset.method, 0)


def test_every_method_has_both_presets_and_they_fit_it() -> None:
    presets = pytest.importorskip("zopog_ref.app.run.presets", reason="the command line needs the extra cpu")
    both = {(m, s) for m in METHODS for s in ("embedded", "paper")}
    assert both | {("zo-pog", "screened")} == set(presets.PRESETS)
    for (name, _), preset in presets.PRESETS.items():
        assert preset.method_name == name
        assert type(preset.method) is settings_class(name)
        assert method_or_skip(name, preset).loss in (None, preset.loss)
