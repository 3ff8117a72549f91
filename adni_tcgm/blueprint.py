"""What must be known to build a trained network again, as plain values; its weights are kept beside them.

Methods and networks of this package go by their names. Those of somebody else go by module and name ("mine:MyMethod"),
and are imported only where the caller has allowed that module.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import torch
from torch import nn

from adni_tcgm.methods.registry import METHODS
from adni_tcgm.nets.augment3d import Augment3D
from adni_tcgm.nets.registry import NET_SETTINGS
from adni_tcgm.pretraining.murauer import Mapped, Murauer
from adni_tcgm.pretraining.pretext import Encoder, Pretraining, build_encoders
from adni_tcgm.pretraining.shared_private import SharedPrivate, build_shared_encoders
from adni_tcgm.tcgm.batch import Modality, MultimodalBatch
from adni_tcgm.tcgm.encoders import Encoded, EncodedModel, Encoders
from adni_tcgm.tcgm.trainer import Fitted, Spec, TrainConfig, viewed_modalities

PRETRAININGS = {"pretext": Pretraining, "murauer": Murauer, "shared_private": SharedPrivate}


class CodeNotAllowed(ValueError):
    """A file names code of somebody else, which is not run unless the caller says so.

    >>> issubclass(CodeNotAllowed, ValueError)
    True
    """


def import_named(name: str) -> Any:
    """ "module:Name" -> what the module calls Name. Raises ValueError where there is no such thing.

    >>> import_named("math:pi")
    3.141592653589793
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{name}: nothing to import here: {error}") from error


def lookup(kinds: Mapping[str, Any], name: str, allow_code: Collection[str] = ()) -> Any:
    """What `name` stands for: a registered name, or "module:Name" of an allowed module.

    Raises CodeNotAllowed for another module, ValueError for an unknown name.

    >>> lookup({"mlp": "a network"}, "mlp")
    'a network'
    """
    if name in kinds:
        return kinds[name]
    module, colon, _ = name.partition(":")
    if not colon:
        raise ValueError(f"{name!r} is unknown; choose one of {', '.join(kinds)}, or module:Name of your own")
    if module not in allow_code:
        raise CodeNotAllowed(f"it names {name}, code of somebody's own; to run it: --allow-code {module}")
    return import_named(name)


def describe(fitted: Fitted) -> dict[str, Any]:
    """Everything but weights, for `build`. Raises ValueError for a network whose settings are in no file."""
    method, encoders = fitted.method, None
    if isinstance(method, Encoded):
        encoders, method = _describe_encoders(fitted.model.encoders), method.method  # type: ignore[union-attr]
    classifier = getattr(method, "classifier", None)
    settings = {f.name: getattr(method, f.name) for f in fields(method) if f.name != "classifier"}
    return {
        "method": {"name": _name(METHODS, method), **settings},
        "net": _describe_net(classifier) if classifier is not None else None,
        "encoders": encoders,
        "augment": asdict(fitted.augment) if is_dataclass(fitted.augment) else None,
        "train": asdict(fitted.config),
        "prior": fitted.prior.tolist(),
        "modalities": {modality.name: list(modality.shape) for modality in fitted.modalities},
        "classes": list(fitted.classes),
    }


def build(about: Mapping[str, Any], weights: Mapping[str, torch.Tensor], allow_code: Collection[str] = ()) -> Fitted:
    """The trained model that `describe` described, with its weights, in evaluation mode, on the CPU.

    Raises CodeNotAllowed where it names code of a module that is not allowed, RuntimeError for other weights.
    """
    modalities = [Modality(name, tuple(shape)) for name, shape in about["modalities"].items()]
    augment = Augment3D(**_tuples(about["augment"])) if about["augment"] else None
    settings = dict(about["method"])
    kind = lookup(METHODS, settings.pop("name"), allow_code)
    net = [_build_net(about["net"], allow_code)] if about["net"] is not None else []
    method, prior = kind(*net, **settings), torch.tensor(about["prior"])
    encoders, seen = None, viewed_modalities(modalities, _blank(modalities), augment)
    if about["encoders"]:
        encoders = _build_encoders(about["encoders"], seen, allow_code)
        seen = encoders.modalities
    model = method.build(Spec(seen, about["classes"], prior))
    if encoders is not None:
        model, method = EncodedModel(encoders, model), Encoded(method)
    model.load_state_dict(weights)
    config = TrainConfig(**about["train"])
    return Fitted(method, model.eval(), about["classes"], modalities, prior, [], config, config.steps, augment)


def _name(kinds: Mapping[str, Any], thing: Any) -> str:
    """A registered name, or module:Name of the kind of this thing."""
    known = next((name for name, kind in kinds.items() if type(thing) is kind), None)
    kind = type(thing)
    if known is None and (kind.__module__ == "__main__" or "<locals>" in kind.__qualname__):
        raise ValueError(f"{kind.__name__} cannot be saved: no module that could be imported again has it")
    return known or f"{kind.__module__}:{kind.__qualname__}"


def _describe_net(net: Any) -> dict[str, Any]:
    if isinstance(net, Mapping):
        return {"of": {name: _describe_net(one) for name, one in net.items()}}
    if not is_dataclass(net) or hasattr(net, "factory"):
        name = type(getattr(net, "factory", net)).__name__
        raise ValueError(f"a model with a network of {name} cannot be saved; known: {list(NET_SETTINGS)}")
    return {"name": _name(NET_SETTINGS, net), **asdict(net)}


def _build_net(about: Mapping[str, Any], allow_code: Collection[str]) -> Any:
    if "of" in about:
        return {name: _build_net(one, allow_code) for name, one in about["of"].items()}
    settings = dict(about)
    return lookup(NET_SETTINGS, settings.pop("name"), allow_code)(**_tuples(settings))


def _describe_encoders(encoders: Encoders) -> dict[str, Any]:
    pretraining, network = encoders.made_by
    nets = {name: net.net for name, net in encoders.nets.items()}
    outputs = {name: [net.p.out_features, net.g.out_features] for name, net in nets.items() if isinstance(net, Mapped)}
    return {
        "pretraining": {"name": _name(PRETRAININGS, pretraining), **asdict(pretraining)},
        "net": _describe_net(network),
        "widths": encoders.widths,
        "outputs": outputs,
    }


def _build_encoders(about: Mapping[str, Any], seen: Sequence[Modality], allow_code: Collection[str]) -> Encoders:
    settings = dict(about["pretraining"])
    pretraining = PRETRAININGS[settings.pop("name")](**_tuples(settings))
    network, widths = _build_net(about["net"], allow_code), about["widths"]
    if isinstance(pretraining, Murauer):
        # What a sample says is its class scores and its other views (p and g).
        nets: dict[str, nn.Module] = {}
        for modality in seen:
            f = network.build(modality.shape, pretraining.latent)
            mapped = Mapped(f, pretraining, *about["outputs"][modality.name])
            nets[modality.name] = Encoder(mapped, widths[modality.name])
        encoders = Encoders(nets, widths)
    elif isinstance(pretraining, SharedPrivate):
        encoders = build_shared_encoders(pretraining, network, seen)
    else:
        encoders = build_encoders(network, seen, widths)
    encoders.made_by = pretraining, network
    return encoders


def _blank(modalities: Sequence[Modality]) -> MultimodalBatch:
    """One sample, all zeros."""
    inputs = {modality.name: torch.zeros(1, *modality.shape) for modality in modalities}
    return MultimodalBatch(["0"], inputs, torch.ones(1, len(modalities), dtype=torch.bool), torch.zeros(1).long())


def _tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples are lists in JSON."""
    return {key: _tuple(value) for key, value in settings.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
