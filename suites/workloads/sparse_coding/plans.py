"""List the models that are trained: which class, with which settings, at which levels of activity."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from sparsebench.suites.workloads.sparse_coding.models.coder import CoderSettings, SparseCoder

_HERE = "sparsebench.suites.workloads.sparse_coding.models."


@dataclass(frozen=True, kw_only=True)
class Model:
    """Where a model stands; imported only when it is trained, so that one broken file costs one model.

    Attributes:
        target: "module:Class".
        settings: name of its settings' class, in the same module.
        level: the setting that decides how much of a code is on.
        holder: the representation that holds its codes where the choice is not what is measured.
    """

    target: str
    settings: str
    level: str
    holder: str = "csr"


def _model(place: str, holder: str = "csr") -> Model:
    """Return a model of "module:Class:Settings:level"."""
    module, cls, settings, level = place.split(":")
    return Model(target=f"{module}:{cls}", settings=settings, level=level, holder=holder)


MODELS: dict[str, Model] = {
    "sparse-dream": _model(_HERE + "sparse_dream:SparseDream:SparseDreamSettings:activity", "dense"),
    "conserving-flow": _model(_HERE + "conserving_flow:ConservingFlow:ConservingFlowSettings:flow", "dense"),
    "foldiak": _model(_HERE + "foldiak:Foldiak:FoldiakSettings:activity"),
    "k-winners": _model(_HERE + "k_winners:KWinners:KWinnersSettings:winners", "ell"),
    "gradient-dream": _model(_HERE + "gradient_dream:GradientDream:GradientDreamSettings:sparsity"),
    "olshausen-field": _model(_HERE + "olshausen_field:OlshausenField:OlshausenFieldSettings:penalty"),
    "lca": _model(_HERE + "lca:LCA:LCASettings:penalty"),
    "matching-pursuit": _model(_HERE + "matching_pursuit:MatchingPursuit:MatchingPursuitSettings:k", "ell"),
    "topk-autoencoder": _model(_HERE + "topk_autoencoder:TopKAutoencoder:TopKSettings:k", "ell"),
    "lista": _model(_HERE + "lista:LISTA:LISTASettings:penalty"),
    "routed-autoencoder": _model(_HERE + "routed_autoencoder:RoutedAutoencoder:RoutedSettings:k", "ell"),
}
"""The family, by name. Others are named "module:Class:Settings:level" where a plan is made by hand."""

SYMBOLS: dict[str, str] = {"sparsity": "λ", "winners": "k", "activity": "p", "penalty": "λ", "target": "p", "flow": "f"}
"""What tables call a level; others go by their own name."""


def model_of(name: str) -> Model:
    """Return a model by its name in MODELS, or by "module:Class:Settings:level".

    Raises:
        ValueError: if it is neither.
    """
    if name in MODELS:
        return MODELS[name]
    if name.count(":") != 3:
        raise ValueError(f"expected a model of {', '.join(MODELS)} or module:Class:Settings:level, got {name!r}")
    return _model(name)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training to come.

    Attributes:
        model: see `model_of`.
        settings: of its settings' class, by name; "units" among them.
        images: how many are learned from, the first ones; None for all there are.
        data: "digits" or "patches".
    """

    model: str
    settings: tuple[tuple[str, Any], ...]
    images: int | None = None
    data: str = "digits"

    @property
    def short(self) -> str:
        """Return the model's name without a module."""
        return self.model if self.model in MODELS else self.model.split(":")[1]

    @property
    def units(self) -> int:
        """Return N."""
        return int(dict(self.settings)["units"])

    @property
    def level(self) -> float | None:
        """Return the value of the setting that decides how much is on."""
        value = dict(self.settings).get(model_of(self.model).level)
        return None if value is None else float(value)

    @property
    def holder(self) -> str:
        """Return the representation that holds the codes where the choice is not what is measured."""
        return model_of(self.model).holder

    @property
    def workload(self) -> str:
        """Return the name that a case has for it: "topk-autoencoder N=100 k=7"."""
        name = model_of(self.model).level
        level = "" if self.level is None else f" {SYMBOLS.get(name, name)}={self.level:g}"
        return f"{self.short} N={self.units}{level}" + ("" if self.data == "digits" else f", {self.data}")

    @property
    def label(self) -> str:
        """Return a name for files, of plain letters: "topk-autoencoder-N100-k7"."""
        level = "" if self.level is None else f"-{model_of(self.model).level}{self.level:g}"
        return f"{self.short}-N{self.units}{level}" + ("" if self.data == "digits" else f"-{self.data}")

    def made(self) -> tuple[type[SparseCoder], CoderSettings]:
        """Return the class and its settings.

        Raises:
            ValueError: if the settings are refused, or the model is not known.
            ImportError, AttributeError: if its file is missing or broken.
        """
        model = model_of(self.model)
        module_name, class_name = model.target.split(":")
        module = importlib.import_module(module_name)
        settings: CoderSettings = getattr(module, model.settings)(**dict(self.settings))
        cls: type[SparseCoder] = getattr(module, class_name)
        return cls, settings


def plan(model: str, *, images: int | None = None, data: str = "digits", **settings: Any) -> Plan:
    """Return a plan with these settings."""
    return Plan(model=model, settings=tuple(settings.items()), images=images, data=data)


PATCH_PIXELS = 144
"""Of a patch: 12 × 12."""
AMORTISED: tuple[str, ...] = ("topk-autoencoder", "routed-autoencoder")
"""Models whose encoders stand for an inference by k atoms."""
ROUTED: dict[str, Any] = {
    "units": 10_000, "groups": 10, "shrink": ((4, 400), (8, 200)), "memory": 0.8, "batch": 10_000, "epochs": 3,
}  # fmt: skip
"""Of the routed encoder: fewer than half a million multiply-adds an image. More epochs gained nothing."""
ROUTED_LEVELS: tuple[dict[str, Any], ...] = ({"k": 14, "kept": 16, "rank": 100}, {"k": 32, "kept": 20, "rank": 192})
SHORT = 3_000
"""Images of a short training; a whole list of them takes ten seconds."""


def quick() -> list[Plan]:
    """Return one training of each kind with N = 100, about a second each: to see that all of it works."""
    short: dict[str, Any] = {"images": SHORT, "units": 100}
    return [
        plan("sparse-dream", **short, activity=0.05, epochs=5),
        plan("conserving-flow", **short, flow=0.05, epochs=3),
        plan("foldiak", **short, activity=0.1, epochs=1),
        plan("k-winners", **short, winners=14, epochs=3),
        plan("gradient-dream", **short, sparsity=0.3, epochs=4),
        plan("olshausen-field", **short, penalty=0.8, epochs=2),
        plan("lca", **short, penalty=0.8, epochs=2),
        plan("matching-pursuit", **short, k=14, epochs=2),
        plan("lista", **short, penalty=0.8, epochs=4),
        *(plan("topk-autoencoder", **short, k=k, epochs=8, batch=64, warm=20) for k in (7, 14)),
    ]


def full() -> list[Plan]:
    """Return every model at several levels of activity: digits with N = 100, with more units, then patches."""
    n: dict[str, Any] = {"units": 100}
    return [
        *(plan("sparse-dream", **n, activity=p, epochs=5) for p in (0.05, 0.1, 0.2)),
        *(plan("conserving-flow", **n, flow=f, epochs=5) for f in (0.05, 0.1, 0.2)),
        *(plan("foldiak", **n, activity=p, epochs=2) for p in (0.05, 0.1, 0.2)),
        *(plan("k-winners", **n, winners=k, epochs=5) for k in (7, 14, 25)),
        *(plan("gradient-dream", **n, sparsity=penalty, epochs=5) for penalty in (0.1, 0.3, 1.0)),
        *(plan("olshausen-field", **n, penalty=penalty, epochs=5) for penalty in (0.3, 0.8, 2.0)),
        *(plan("lca", **n, penalty=penalty, epochs=5) for penalty in (0.3, 0.8, 2.0)),
        *(plan("matching-pursuit", **n, k=k, epochs=5) for k in (7, 14, 25)),
        *(plan("lista", **n, penalty=penalty, epochs=5) for penalty in (0.3, 0.8, 2.0)),
        *(plan("topk-autoencoder", **n, k=k, epochs=15) for k in (7, 14, 3, 25, 50)),
        *_large(),
        *_patches(),
    ]


def _large() -> list[Plan]:
    """Return models of digits with more units than pixels matter."""
    return [
        *(plan("olshausen-field", units=400, penalty=penalty, epochs=5) for penalty in (0.8, 2.0)),
        *(plan("matching-pursuit", units=400, k=k, epochs=5) for k in (7, 14)),
        plan("topk-autoencoder", units=1_000, k=14, epochs=10, rate=3e-3),
        *(plan("routed-autoencoder", **ROUTED, **level) for level in ROUTED_LEVELS),
    ]


def _patches() -> list[Plan]:
    """Return models of natural-image patches, which are of either sign: nothing is cut, and no rule that needs ink."""
    n: dict[str, Any] = {"data": "patches", "units": 200}
    return [
        *(plan("olshausen-field", **n, penalty=penalty, epochs=5) for penalty in (0.5, 1.0, 2.0)),
        *(plan("lca", **n, penalty=penalty, epochs=5) for penalty in (0.5, 1.0, 2.0)),
        *(plan("matching-pursuit", **n, k=k, epochs=5) for k in (7, 14, 25)),
        *(plan("topk-autoencoder", **n, k=k, epochs=10, squared=1.0, rate=3e-3) for k in (7, 14, 25)),
    ]


def held() -> list[Plan]:
    """Return the models whose codes are timed in every representation: TopK autoencoders of digits, one a k."""
    chosen = [one for one in full() if (one.model, one.data, one.units) == ("topk-autoencoder", "digits", 100)]
    return sorted(chosen, key=lambda one: one.level or 0.0)


def pursued(profile: str) -> list[Plan]:
    """Return the models of digits whose encoders are timed against matching pursuit on their own dictionaries."""
    found = [one for one in plans(profile) if one.data == "digits" and one.model in AMORTISED]
    return found[-1:] if profile == "quick" else found


def plans(profile: str) -> list[Plan]:
    """Return the trainings of a profile; none for "gpu", whose time is for kernels.

    Raises:
        ValueError: if the profile is unknown.
    """
    lists = {"quick": quick, "full": full, "gpu": list}
    if profile not in lists:
        raise ValueError(f"expected a profile of {', '.join(lists)}, got {profile!r}")
    found: list[Plan] = lists[profile]()
    return found
