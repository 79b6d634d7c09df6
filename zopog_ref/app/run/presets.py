"""Named settings of a run: what each method needs on each kind of model, and where the numbers come from (docs/)."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

from zopog_ref import Settings
from zopog_ref.app.errors import InputError
from zopog_ref.app.run.auto_settings import RULES, auto_fields
from zopog_ref.methods import settings_class
from zopog_ref.methods.bbt import BBT
from zopog_ref.methods.bdpl import BDPL
from zopog_ref.methods.catcma import CatCMA
from zopog_ref.methods.clip_tuning import ClipTuning
from zopog_ref.methods.gflf_abc_smc import AbcSmc
from zopog_ref.methods.gflf_cma_elbo import CmaElbo
from zopog_ref.methods.gflf_ensembles import Ensembles
from zopog_ref.methods.random_search import RandomSearch
from zopog_ref.methods.sspt import SSPT


@dataclass(frozen=True)
class Preset:
    """Settings of one method on one kind of model; everything the command line can change has a field here."""

    about: str = field(compare=False)
    n_positions: int = 20  # n
    n_candidates: int = 100  # N
    dim: int = 500  # d
    scale: float = 30.0  # a, of the projection A
    batch_size: int = 32
    budget: int = 4000  # calls
    loss: str = "cross_entropy"
    method: Any = field(default_factory=Settings)  # the Settings of method_name
    method_name: str = "zo-pog"

    def changed(self, **changes: Any) -> "Preset":
        """A copy with some of the fields, or of the method's fields, replaced.

        Errors: ValueError for a setting that the method does not have, or cannot have.
        """
        own = {name: value for name, value in changes.items() if name in PRESET_FIELDS}
        rest = {name: value for name, value in changes.items() if name not in PRESET_FIELDS}
        known = [field.name for field in fields(self.method)]
        for name in rest:
            if name not in known:
                raise ValueError(f"{self.method_name} has no setting {name!r}; its own are {', '.join(known)}")
        return replace(self, **own, method=replace(self.method, **rest))


def learns_tokens_alone(preset: Preset) -> bool:
    """Whether there is no continuous prompt: z stays 0."""
    name, settings = preset.method_name, preset.method
    return (
        name in ("bdpl", *SEARCHLESS)
        or (name == "zo-pog" and not settings.zeroth_order)
        or (name == "random-search" and settings.sigma == 0)
    )


PRESET_FIELDS = ("n_positions", "n_candidates", "dim", "scale", "batch_size", "budget", "loss")

_OFFICIAL = "the official code's numbers, for RoBERTa-large"
_LARGE: dict[str, Any] = {"n_positions": 50, "scale": 1.0}  # what that code and its relatives have in common

# (method, name of the settings) -> preset
PRESETS = {
    ("zo-pog", "embedded"): Preset(
        "found on dev with the embedded model (docs/zo-pog.md says how)",
        method=Settings(
            policy_samples=2, direction_pairs=19, mu=0.1, eta_alpha=30.0, eta_z=0.35, decay=0.03, gumbel="none"
        ),
    ),
    ("zo-pog", "paper"): Preset(
        "the published numbers, for RoBERTa-large, in the variant of the official code",
        scale=100.0,
        method=Settings.paper(),
    ),
    ("zo-pog", "screened"): Preset(
        "our improved variant, found on dev with the embedded model (docs/zo-pog.md says how)",
        n_positions=5,
        method=Settings.screened(),
    ),
    ("bdpl", "embedded"): Preset(
        "found on dev with the embedded model (docs/bdpl.md says how)", method=BDPL.Settings()
    ),
    ("bdpl", "paper"): Preset(
        "the official code's numbers for MRPC",
        n_positions=10,
        n_candidates=200,
        batch_size=128,
        method=BDPL.Settings.paper(),
    ),
    ("bbt", "embedded"): Preset(
        "found on dev with the embedded model (docs/bbt.md says how)", scale=1.0, method=BBT.Settings()
    ),
    ("bbt", "paper"): Preset(_OFFICIAL, budget=8000, method=BBT.Settings(), **_LARGE),
    ("catcma", "embedded"): Preset(
        "found on dev with the embedded model (docs/catcma.md says how)", scale=1.0, method=CatCMA.Settings()
    ),
    ("catcma", "paper"): Preset(
        "not published for prompts: the defaults, with BBT's published projection", scale=1.0, method=CatCMA.Settings()
    ),
    ("sspt", "embedded"): Preset(
        "found on dev with the embedded model (docs/sspt.md says how)",
        method=SSPT.Settings(keep=500, eta_z=0.35, decay=0.03),
    ),
    ("sspt", "paper"): Preset(
        "its k and step size were not found: ZO-PoG's published step and projection, k = 100",
        scale=100.0,
        method=SSPT.Settings(mu=0.01, eta_z=0.01),
    ),
    ("ensembles", "embedded"): Preset(
        "from one run on dev with the embedded model (docs/gflf.md)", scale=1.0, method=Ensembles.Settings(members=3)
    ),
    ("ensembles", "paper"): Preset(
        f"{_OFFICIAL}, with the ten members of the paper", budget=60000, method=Ensembles.Settings.paper(), **_LARGE
    ),
    ("cma-elbo", "embedded"): Preset(
        "chosen for the embedded model, not searched for (docs/gflf.md)", scale=1.0, method=CmaElbo.Settings()
    ),
    ("cma-elbo", "paper"): Preset(_OFFICIAL, budget=60000, method=CmaElbo.Settings.paper(), **_LARGE),
    ("abc-smc", "embedded"): Preset(
        "found on dev with the embedded model (docs/gflf.md says how)",
        n_positions=5,
        dim=50,
        scale=1.0,
        loss="error",
        method=AbcSmc.Settings(members=5, samples=10, weighted=False),
    ),
    ("abc-smc", "paper"): Preset(_OFFICIAL, budget=60000, loss="error", method=AbcSmc.Settings.paper(), **_LARGE),
    ("clip-tuning", "embedded"): Preset(
        "chosen for the embedded model, not searched for (docs/clip-tuning.md)",
        scale=1.0,
        method=ClipTuning.Settings(networks=2),
    ),
    ("clip-tuning", "paper"): Preset(
        "BBT's published numbers for each of K networks; K and p_clip were not found",
        budget=32000,
        method=ClipTuning.Settings(),
        **_LARGE,
    ),
    ("random-search", "embedded"): Preset(
        "a start on the embedded model (docs/random-search.md says why these)",
        scale=1.0,
        method=RandomSearch.Settings(),
    ),
    ("random-search", "paper"): Preset(
        "no paper: the defaults, with ZO-PoG's published projection", scale=100.0, method=RandomSearch.Settings()
    ),
}
PRESETS = {(method, name): replace(preset, method_name=method) for (method, name), preset in PRESETS.items()}
TEMPLATE_ALONE = "none"  # as a method: the templates are the prompts, nothing is searched
AUTO = "auto"  # as a method: which questions to ask is chosen (docs/auto.md)
SEARCHLESS = (TEMPLATE_ALONE, AUTO)  # neither learns tokens or z


@dataclass(frozen=True)
class NoSettings:
    """Of the template alone, and of auto."""


def preset_of(method: str, settings: str, budget: int | None = None) -> Preset:
    """Named settings of a method, or of one whose prompts have no tokens (SEARCHLESS). Errors: InputError.

    budget: calls, by which the settings "auto" are made. Default: that of every preset.
    """
    if method in SEARCHLESS:
        about = {AUTO: "templates, demonstrations and instructions are chosen"}
        alone = "the template alone, nothing is searched"
        return Preset(about.get(method, alone), 0, 0, 0, method=NoSettings(), method_name=method)
    if settings == "auto" and method in RULES:
        fields = auto_fields(method, Preset.budget if budget is None else budget)
        return Preset("made for the budget, in units of the model's embeddings (docs/real-models.md)", **fields)
    if (method, settings) not in PRESETS:
        having = ", ".join(
            name for name in SETTINGS_NAMES if (method, name) in PRESETS or (name == "auto" and method in RULES)
        )
        where = "PRESETS in zopog_ref/app/run/presets.py"
        raise InputError(f"{method} has no settings {settings!r}: {where} has {having or 'none'}")
    return PRESETS[method, settings]


def settings_of(method: str) -> type[Any]:
    """The class of a method's settings. Errors: UnknownMethod."""
    return NoSettings if method in SEARCHLESS else settings_class(method)


SETTINGS_NAMES = (*dict.fromkeys(settings for _, settings in PRESETS), "auto")


def default_preset(model: str, method: str) -> str:
    """The embedded model has settings of its own; any other has "auto", or the published ones without a rule for it."""
    return "embedded" if model == "embedded" else "auto" if method in RULES else "paper"
