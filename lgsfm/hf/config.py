"""Configurations, with the names and defaults of the transformers documentation, and their ``config.json``.

A configuration is data: nothing in it is run, whatever a file from the hub says.
"""

from __future__ import annotations

import copy
import json
import logging
import math
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from ..errors import InputError, unknown_name
from . import hub

__all__ = ["AlikedConfig", "AutoConfig", "LightGlueConfig", "PretrainedConfig", "SuperPointConfig"]

CONFIG_FILE = "config.json"
# What transformers writes into a config.json beside the fields of the model; of no effect here.
GENERIC = frozenset(
    [
        "_attn_implementation_internal",
        "_name_or_path",
        "architectures",
        "attn_implementation",
        "auto_map",
        "chunk_size_feed_forward",
        "dtype",
        "hidden_size",
        "id2label",
        "intermediate_size",
        "is_encoder_decoder",
        "label2id",
        "model_type",
        "problem_type",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "use_cache",
    ]
)
DTYPES = ("float32", "float16", "bfloat16")
# Sizes of networks, at most: far more than any has, and few enough that a network can be looked at before it is made
MAX_DIM = 1 << 14
MAX_LAYERS = 1 << 10

logger = logging.getLogger(__name__)


@dataclass(init=False)
class PretrainedConfig:
    """Base of the configurations: keyword arguments that are checked, dictionaries, JSON files.

    ``dtype`` is that of the saved weights: float32, float16 or bfloat16; None if unknown.

    Raises:
        InputError: an argument does not exist (the message names the valid ones) or has an impossible value.
    """

    model_type: ClassVar[str] = ""

    output_attentions: bool = False
    output_hidden_states: bool = False
    return_dict: bool = True
    dtype: str | None = None

    def __init__(self, **values: Any) -> None:
        names = [field.name for field in fields(self)]
        for name in values:
            if name not in names and name not in GENERIC:
                raise unknown_name(f"argument of {type(self).__name__}", name, names)
        stated = values.get("model_type", self.model_type)
        if stated != self.model_type:
            raise InputError(f"This is the configuration of a '{stated}' model, not of {self.model_type}.")
        values["dtype"] = _dtype_name(values.get("dtype") or values.get("torch_dtype"))
        for field in fields(self):
            setattr(self, field.name, values.get(field.name, field.default))
        self.check()

    def check(self) -> None:
        """Raises `InputError` on a value that cannot be."""
        for field in fields(self):
            value = getattr(self, field.name)
            owner = type(self).__name__
            _check_type(owner, field.name, str(field.type), value)
            if field.type == "float":  # transformers does not read an int there
                setattr(self, field.name, _finite(owner, field.name, value))

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain values, as they stand in config.json; generic ones only where not default."""
        generic = {field.name: field.default for field in fields(PretrainedConfig)}
        values = {field.name: copy.deepcopy(getattr(self, field.name)) for field in fields(self)}
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        return {"model_type": self.model_type} | {
            name: value for name, value in values.items() if name not in generic or value != generic[name]
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], **changes: Any) -> Self:
        """A configuration from a dictionary; ``changes`` win. Raises `InputError` like the constructor."""
        return cls(**{**values, **changes})

    def to_json_string(self) -> str:
        """config.json as text, keys sorted."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Writes config.json into a folder, which is made if need be."""
        hub.write(Path(save_directory) / CONFIG_FILE, self.to_json_string().encode())

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Self:
        """The configuration in a folder or hub repository; `lgsfm.hf.hub` says where it is looked for.

        ``options`` are arguments of `Source` (revision, cache_dir, local_files_only ...) or of the configuration.
        Keys in the file that mean nothing here are left out, with a warning where transformers does not write them.
        """
        source, changes = hub.split_options(options)
        values = hub.read_json(name, CONFIG_FILE, source)
        return cls.from_dict(_known(cls, values, str(name)), **changes)


@dataclass(init=False)
class SuperPointConfig(PretrainedConfig):
    """SuperPoint: sizes of the network and what counts as a keypoint.

    The encoder has four blocks and the keypoint decoder 65 outputs (8 x 8 px and "none"): other values would put the
    keypoints in wrong places, and are refused.
    """

    model_type: ClassVar[str] = "superpoint"

    encoder_hidden_sizes: list[int] | tuple[int, ...] = (64, 64, 128, 128)  # channels of each block
    decoder_hidden_size: int = 256  # channels inside the two decoders
    keypoint_decoder_dim: int = 65
    descriptor_decoder_dim: int = 256  # of a descriptor
    keypoint_threshold: float = 0.005  # least score; lower finds more in weak texture
    max_keypoints: int = -1  # the best so many are kept; -1 keeps all
    nms_radius: int = 4  # no two keypoints are closer along both axes [px]
    border_removal_distance: int = 4  # keypoints closer to a border are dropped [px]
    initializer_range: float = 0.02  # standard deviation of random weights

    def check(self) -> None:
        """Raises `InputError` on a value that cannot be."""
        super().check()
        self.encoder_hidden_sizes = tuple(self.encoder_hidden_sizes)
        for dim in (*self.encoder_hidden_sizes, self.decoder_hidden_size, self.descriptor_decoder_dim):
            _check_size("Sizes of SuperPoint", dim, MAX_DIM)
        if len(self.encoder_hidden_sizes) != 4 or self.keypoint_decoder_dim != 65:
            raise InputError("SuperPoint has four encoder_hidden_sizes and a keypoint_decoder_dim of 65.")
        if self.nms_radius < 0 or self.border_removal_distance < 0:
            raise InputError("nms_radius and border_removal_distance of SuperPoint must not be negative.")


@dataclass(init=False)
class AlikedConfig(PretrainedConfig):
    """ALIKED as the detector: an extension that transformers does not have; see `lgsfm.models.aliked`."""

    model_type: ClassVar[str] = "aliked"

    variant: str = "aliked-n16"  # aliked-n16, aliked-n16rot, aliked-n32, aliked-t16
    descriptor_decoder_dim: int = 128  # of a descriptor; 64 for aliked-t16
    keypoint_threshold: float = 0.2  # least score; lower finds more in weak texture
    max_keypoints: int = 2048  # the best so many are kept; -1 keeps all
    initializer_range: float = 0.02  # standard deviation of random weights

    def check(self) -> None:
        """Raises `InputError` on a value that cannot be."""
        super().check()
        dims = {"aliked-n16": 128, "aliked-n16rot": 128, "aliked-n32": 128, "aliked-t16": 64}
        if self.variant not in dims:
            raise unknown_name("variant of ALIKED", self.variant, dims)
        if self.descriptor_decoder_dim != dims[self.variant]:
            raise InputError(f"The descriptors of {self.variant} have {dims[self.variant]} dimensions.")


DETECTORS: dict[str, type[SuperPointConfig] | type[AlikedConfig]] = {
    "aliked": AlikedConfig,
    "superpoint": SuperPointConfig,
}


@dataclass(init=False)
class LightGlueConfig(PretrainedConfig):
    """LightGlue: the detector, sizes of the network, when to stop, what to keep.

    ``legacy`` is ours: True computes what transformers computes, with its faults; see `lgsfm.hf.legacy`.
    ``trust_remote_code=True`` is refused: no code from the hub is run here.
    ``attention_dropout`` is kept for the file alone: the network is for inference.
    """

    model_type: ClassVar[str] = "lightglue"

    keypoint_detector_config: Any = None  # a `SuperPointConfig` (the default), an `AlikedConfig`, or a dictionary
    descriptor_dim: int = 256  # of the tokens of the network
    num_hidden_layers: int = 9
    num_attention_heads: int = 4
    num_key_value_heads: int | None = None  # fewer than the attention heads: groups of these share keys and values
    depth_confidence: float = 0.95  # stop once this share of the points is decided; -1 runs all layers
    width_confidence: float = 0.99  # drop points that are surely unmatchable; -1 keeps all
    filter_threshold: float = 0.1  # least score of a match; higher gives fewer, surer ones
    initializer_range: float = 0.02  # standard deviation of random weights
    hidden_act: str = "gelu"
    attention_dropout: float = 0.0
    attention_bias: bool = True  # whether the projections of the attentions have a bias
    legacy: bool = False

    def __init__(self, *, trust_remote_code: bool = False, **values: Any) -> None:
        hub.refuse_remote_code(trust_remote_code)
        super().__init__(**values)

    def check(self) -> None:
        """Raises `InputError` on a value that cannot be."""
        super().check()
        self.keypoint_detector_config = _detector_config(self.keypoint_detector_config)
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        dim, heads, shared = self.descriptor_dim, self.num_attention_heads, self.num_key_value_heads
        for size in (dim, heads, shared):
            _check_size("Dimensions and heads of LightGlue", size, MAX_DIM)
        _check_size("Layers of LightGlue", self.num_hidden_layers, MAX_LAYERS)
        if dim % (2 * heads):
            raise InputError(f"descriptor_dim ({dim}) must be a multiple of 2 * num_attention_heads ({heads}).")
        if heads % shared:
            raise InputError(f"num_attention_heads ({heads}) must be a multiple of num_key_value_heads ({shared}).")

    @property
    def hidden_size(self) -> int:
        """Dimension of the tokens."""
        return self.descriptor_dim

    @property
    def intermediate_size(self) -> int:
        """Dimension inside the updates of tokens."""
        return 2 * self.descriptor_dim

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain values; ``legacy`` only where it is on."""
        values = super().to_dict() | {"architectures": ["LightGlueForKeypointMatching"]}
        values["keypoint_detector_config"] = self.keypoint_detector_config.to_dict()
        if not self.legacy:
            del values["legacy"]
        return values


class AutoConfig:
    """The configuration of a folder or hub repository, whatever its model is."""

    @staticmethod
    def from_pretrained(name: str | Path, **options: Any) -> PretrainedConfig:
        """A `LightGlueConfig`, or the configuration of a detector alone; arguments as for their from_pretrained."""
        classes: dict[str, type[PretrainedConfig]] = {"lightglue": LightGlueConfig, **DETECTORS}
        model_type = str(hub.read_json(name, CONFIG_FILE, hub.split_options(dict(options))[0]).get("model_type"))
        if model_type not in classes:
            raise unknown_name("model type", model_type, classes)
        return classes[model_type].from_pretrained(name, **options)


def _known(cls: type[PretrainedConfig], values: dict[str, Any], name: str) -> dict[str, Any]:
    """What of a file's values means something here; the same for the detector inside."""
    known = {field.name for field in fields(cls)} | GENERIC | {"trust_remote_code"}
    if others := sorted(set(values) - known):
        logger.warning("%s of %s: left out what means nothing here: %s", CONFIG_FILE, name, ", ".join(others))
    kept = {key: value for key, value in values.items() if key in known}
    detector = kept.get("keypoint_detector_config")
    if isinstance(detector, dict) and (kind := DETECTORS.get(str(detector.get("model_type", "superpoint")))):
        kept["keypoint_detector_config"] = _known(kind, detector, name)
    return kept


def _detector_config(given: Any) -> PretrainedConfig:
    if given is None:
        return SuperPointConfig()
    if isinstance(given, (SuperPointConfig, AlikedConfig)):
        return given
    if not isinstance(given, dict):
        raise InputError(f"keypoint_detector_config must be a configuration or a dictionary, not {given!r}.")
    model_type = str(given.get("model_type", "superpoint"))
    if model_type not in DETECTORS:
        raise unknown_name("keypoint detector", model_type, DETECTORS)
    return DETECTORS[model_type].from_dict(given)


def _dtype_name(dtype: Any) -> str | None:
    name = None if dtype is None else str(dtype).removeprefix("torch.")
    if name is not None and name not in DTYPES:
        raise unknown_name("dtype", name, DTYPES)
    return name


def _check_size(what: str, value: Any, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InputError(f"{what} must be whole numbers, at least 1 and at most {most:,}, not {value!r}.")


def _finite(owner: str, name: str, value: float) -> float:
    with suppress(OverflowError):  # an integer beyond what floats hold
        if math.isfinite(value):
            return float(value)
    raise InputError(f"Argument {name} of {owner} must be a finite number, not {value!r:.40}.")


def _check_type(owner: str, name: str, annotation: str, value: Any) -> None:
    """Compares with the simple types that an annotation names; an int passes for a float."""
    if annotation == "Any":
        return
    allowed: tuple[type, ...] = tuple(
        {"int": int, "float": float, "str": str, "bool": bool, "None": type(None)}.get(part.split("[")[0], object)
        for part in annotation.split(" | ")
    )
    if object in allowed:
        allowed = (list, tuple)
    if float in allowed:
        allowed += (int,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise InputError(f"Argument {name} of {owner} must be {annotation}, not {value!r}.")
