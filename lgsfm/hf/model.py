"""`LightGlueForKeypointMatching`: a detector and LightGlue in one model, from pixels to matches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from .. import weights
from ..errors import InputError, WeightsError
from ..models import resolve_device
from ..models.keypoints import Keypoints
from ..models.lightglue import ACTIVATIONS, Adaptivity, LightGlue, normalize_keypoints
from ..models.lightglue_fast import FastLightGlue
from . import hub, legacy
from .config import LightGlueConfig
from .detectors import Detect, make_detector
from .outputs import LightGlueKeypointMatchingOutput
from .trace import Trace, stack_traces

__all__ = ["LightGlueForKeypointMatching"]


class Compiled(NamedTuple):
    """What inference uses, made from the parameters as they were when they had this state."""

    state: list[Any]
    detect: Detect
    match: FastLightGlue


class PairMatches(NamedTuple):
    """Mutual best candidates (K, 2) of a pair, their scores (K,), and the lifetimes of the keypoints of each image."""

    indices: Tensor
    scores: Tensor
    lifetimes: list[Tensor]


class LightGlueForKeypointMatching(LightGlue):
    """Matches pairs of images.

    Each pair gets what it would get alone, in the order of the batch. Parameters have the names of transformers'
    model of the same name; it is for inference: outputs carry no gradients. The dtype of the model is that of the
    matching; detection, positions and scores are float32.
    """

    config_class: ClassVar[type[LightGlueConfig]] = LightGlueConfig
    main_input_name: ClassVar[str] = "pixel_values"

    def __init__(self, config: LightGlueConfig, *, legacy: bool | None = None) -> None:
        if config.hidden_act not in ACTIVATIONS:
            raise InputError(f"Unknown hidden_act '{config.hidden_act}'. Available: {', '.join(sorted(ACTIVATIONS))}.")
        super().__init__(
            config.keypoint_detector_config.descriptor_decoder_dim,
            config.descriptor_dim,
            config.num_attention_heads,
            config.num_hidden_layers,
            kv_heads=config.num_key_value_heads,
            bias=config.attention_bias,
            activation=ACTIVATIONS[config.hidden_act],
        )
        self.config = config if legacy is None else LightGlueConfig.from_dict(config.to_dict(), legacy=legacy)
        self.keypoint_detector = make_detector(config.keypoint_detector_config)
        _initialize(self, config.initializer_range)
        self._compiled: Compiled | None = None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.positional_encoder.projector.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters."""
        return self.positional_encoder.projector.weight.dtype

    # ---- files

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        config: LightGlueConfig | None = None,
        dtype: str | torch.dtype | None = "auto",
        device: str | torch.device | None = None,
        **options: Any,
    ) -> Self:
        """The model in a folder, or of a repository of the Hugging Face hub; ready for inference.

        Args:
            name: where it is; `lgsfm.hf.hub` says what is looked for, and in which order.
            config: instead of the one in config.json.
            dtype: of the parameters; "auto" takes that of the file.
            device: "cpu", "cuda" ...; "auto" is the first GPU there is.
            **options: of `lgsfm.hf.hub.Source`, or changes to the configuration such as ``legacy=True``.

        Raises:
            InputError: an argument is unknown, or the configuration is impossible.
            WeightsError: there are no such weights, or they do not fit.
        """
        dtype = options.pop("torch_dtype", dtype)
        device = options.pop("device_map", device)
        if config is None:
            config = LightGlueConfig.from_pretrained(name, **options)
        elif changes := hub.split_options(options)[1]:
            config = LightGlueConfig.from_dict(config.to_dict(), **changes)
        state = hub.read_weights(name, hub.split_options(options)[0])
        _check_fit(cls, config, state, name)
        model = cls(config)
        try:
            model.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise WeightsError(f"The weights of {name} do not fit its configuration: {error}") from error
        stored = config.dtype or str(state["positional_encoder.projector.weight"].dtype)
        model.to(_dtype(stored if dtype in (None, "auto") else dtype))
        if device is not None:
            model.to(resolve_device(str(device)))
        return model.eval()

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Writes config.json and model.safetensors, which transformers reads too. Raises `InputError`."""
        self.config.dtype = str(self.dtype).removeprefix("torch.")
        self.config.save_pretrained(save_directory)
        hub.write(Path(save_directory) / hub.WEIGHTS_FILE, weights.safetensors_bytes(self.state_dict()))

    # ---- inference

    @torch.no_grad()
    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        image_sizes: Tensor | None = None,
    ) -> LightGlueKeypointMatchingOutput | tuple[Any, ...]:
        """Matches of pairs of images.

        Args:
            pixel_values: (B, 2, C, H, W) in [0, 1]; C is 1, or 3 (RGB), of which SuperPoint sees the luma.
            labels: must be None: there is no training.
            output_attentions: also return the attentions; this and the next take the readable, slower network.
            output_hidden_states: also return the hidden states.
            return_dict: False returns a tuple of what is not None.
            image_sizes: (B, 2, 2) height and width [px] of each image in its tensor, from the top-left corner; what
                lies outside is padding and is not seen. By default there is none.

        Raises:
            InputError: a shape is wrong, or labels were given.
        """
        if labels is not None:
            raise InputError("LightGlue is not trainable here: leave out the labels.")
        if pixel_values.ndim != 5 or pixel_values.shape[1] != 2 or pixel_values.shape[2] not in (1, 3):
            raise InputError(
                "pixel_values must have the shape (batch_size, 2, num_channels, height, width) with 1 or 3 channels, "
                f"not {tuple(pixel_values.shape)}."
            )
        config = self.config
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        attentions = config.output_attentions if output_attentions is None else output_attentions
        if config.legacy:
            output = legacy.forward(self, pixel_values, states, attentions, image_sizes)
        else:
            sizes = _image_sizes(pixel_values, image_sizes)
            output = self._forward(pixel_values, sizes, states, attentions)
            output.image_sizes = sizes
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _forward(
        self, pixel_values: Tensor, sizes: Tensor, states: bool, attentions: bool
    ) -> LightGlueKeypointMatchingOutput:
        compiled = self.compiled()
        found = [
            [
                compiled.detect(image[None, :, :height, :width].float())
                for image, (height, width) in zip(pair, pair_sizes, strict=True)
            ]
            for pair, pair_sizes in zip(pixel_values, sizes.tolist(), strict=True)
        ]
        traces = []
        results = []
        for pair, pair_sizes in zip(found, sizes.tolist(), strict=True):
            if states or attentions:
                with Trace(self, states, attentions) as trace:
                    results.append(self._match(LightGlue.forward, pair, pair_sizes))
                traces.append(trace)
            else:
                results.append(self._match(compiled.match, pair, pair_sizes))
        output = _pack(found, results, sizes, self.config.filter_threshold)
        if traces and output.mask is not None:
            lifetimes = [result.lifetimes for result in results]
            all_states, all_attentions = stack_traces(traces, lifetimes, output.mask.shape[2])
            output = LightGlueKeypointMatchingOutput(**output, hidden_states=all_states, attentions=all_attentions)
        return output

    def _match(self, network: Any, pair: Sequence[Keypoints], sizes: Sequence[tuple[int, int]]) -> PairMatches:
        """Matches of one pair with the fast network, or with ``LightGlue.forward``."""
        config = self.config
        # threshold 0 keeps the scores of candidates that the filter refuses, which the output shows
        adaptivity = Adaptivity(config.depth_confidence, config.width_confidence, 0.0)
        (h0, w0), (h1, w1) = sizes
        keypoints = normalize_keypoints(pair[0].keypoints, w0, h0), normalize_keypoints(pair[1].keypoints, w1, h1)
        descriptors = pair[0].descriptors.to(self.dtype), pair[1].descriptors.to(self.dtype)
        counts = [len(k) for k in keypoints]
        lifetimes = torch.zeros(sum(counts), dtype=torch.int32, device=self.device)
        if network is LightGlue.forward:
            found = network(self, keypoints, descriptors, adaptivity, lifetimes)
        else:
            prepared = map(network.prepare, keypoints, descriptors)
            found = network(*prepared, adaptivity, lifetimes)
        return PairMatches(found.indices, found.scores, list(lifetimes.split(counts)))

    def compiled(self) -> Compiled:
        """The detector and the fast network with the parameters of now; made anew when one has changed."""
        if self._compiled is None or self._compiled.state != self._state():
            fast = FastLightGlue(self).to(self.dtype)
            detect = self.keypoint_detector.compiled()
            self._compiled = Compiled(self._state(), detect, fast)  # making them may move parameters in memory
        return self._compiled

    def _state(self) -> list[Any]:
        """What changes when a parameter or the detector's configuration does."""
        tensors = [*self.parameters(), *self.buffers()]
        state: list[Any] = [(t.data_ptr(), t.device, t.dtype, 0 if t.is_inference() else t._version) for t in tensors]
        return [*state, repr(self.config.keypoint_detector_config)]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None}  # copies make their own


def _pack(
    found: list[list[Keypoints]], results: list[PairMatches], sizes: Tensor, threshold: float
) -> LightGlueKeypointMatchingOutput:
    """The results of all pairs in tensors of one shape."""
    size = max((len(f.scores) for pair in found for f in pair), default=0)
    shape = (len(found), 2, size)
    matches = torch.full(shape, -1, dtype=torch.long, device=sizes.device)
    mask = torch.zeros(shape, dtype=torch.int32, device=sizes.device)
    prune, scores = torch.ones_like(mask), torch.zeros(shape, device=sizes.device)  # padding as in transformers
    keypoints = torch.zeros((*shape, 2), device=sizes.device)
    for i, (pair, result) in enumerate(zip(found, results, strict=True)):
        for side, f in enumerate(pair):
            count = len(f.scores)
            keypoints[i, side, :count] = f.keypoints / sizes[i, side].flip(0)
            mask[i, side, :count] = 1
            prune[i, side, :count] = result.lifetimes[side]
            own, other = result.indices[:, side], result.indices[:, 1 - side]
            scores[i, side, own] = result.scores.float()
            matches[i, side, own] = other.where(result.scores > threshold, -1)
    return LightGlueKeypointMatchingOutput(
        matches=matches, matching_scores=scores, keypoints=keypoints, prune=prune, mask=mask
    )


def _check_fit(
    cls: type[LightGlueForKeypointMatching], config: LightGlueConfig, state: dict[str, Tensor], name: str | Path
) -> None:
    """Before a network is made: a configuration may ask for one of any size, weights can be no larger than their file.

    Raises:
        WeightsError: the tensors are not those of the network.
    """
    with torch.device("meta"):  # shapes alone
        wanted = {key: value.shape for key, value in cls(config).state_dict().items()}
    found = {key: value.shape for key, value in state.items()}
    wrong = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
    if wrong:
        key = min(wrong)
        shapes = (str(tuple(shape)) if shape is not None else "none" for shape in (found.get(key), wanted.get(key)))
        raise WeightsError(
            f"The weights of {name} do not fit its configuration: of {len(wrong)} tensors, among them {key}, the file "
            "has {}, the network {}.".format(*shapes)
        )


def _image_sizes(pixel_values: Tensor, image_sizes: Any) -> Tensor:
    batch, _, _, height, width = pixel_values.shape
    whole = torch.tensor([height, width], device=pixel_values.device)
    if image_sizes is None:
        return whole.expand(batch, 2, 2)
    sizes = torch.as_tensor(image_sizes, device=pixel_values.device).long()
    if sizes.shape != (batch, 2, 2):
        raise InputError(f"image_sizes must have the shape ({batch}, 2, 2), not {tuple(sizes.shape)}.")
    if bool(((sizes < 1) | (sizes > whole)).any()):
        raise InputError(f"image_sizes (height, width) must lie between 1 and those of the tensor, {height} x {width}.")
    return sizes


def _initialize(network: nn.Module, std: float) -> None:
    """Random weights: normal with this standard deviation, biases 0, norms 1."""
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _dtype(name: str | torch.dtype) -> torch.dtype:
    dtype = getattr(torch, str(name).removeprefix("torch."), None)
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise InputError(f"Unknown dtype '{name}'. Available: auto, bfloat16, float16, float32.")
    return dtype
