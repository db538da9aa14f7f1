"""What models and processors return: dictionaries whose entries are attributes too."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

__all__ = ["BatchFeature", "LightGlueKeypointMatchingOutput", "ModelOutput"]


class ModelOutput(dict[str, Any]):
    """Base of outputs: the fields of a dataclass, of which those that are None count as absent.

    ``out.matches``, ``out["matches"]`` and ``out[0]`` are one; iteration, keys and items are those of a dictionary.
    """

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            if (value := getattr(self, field.name)) is not None:
                super().__setitem__(field.name, value)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self and value is not None:
            super().__setitem__(name, value)
        super().__setattr__(name, value)

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"Entries of a {type(self).__name__} cannot be removed or merged; make a dict of it first.")

    __delitem__ = pop = popitem = clear = update = setdefault = _refuse

    def __reduce__(self) -> Any:
        return _rebuilt, (type(self), dict(self), dict(self.__dict__))

    def to_tuple(self) -> tuple[Any, ...]:
        """The values that are not None, in the order of the fields."""
        return tuple(super(ModelOutput, self).__getitem__(key) for key in self.keys())


def _rebuilt(cls: type[ModelOutput], values: dict[str, Any], attributes: dict[str, Any]) -> ModelOutput:
    output = cls(**values)
    output.__dict__.update(attributes)
    return output


@dataclass(repr=False, eq=False)
class LightGlueKeypointMatchingOutput(ModelOutput):
    """Matches of B pairs of images, padded to the N keypoints of the image that has most.

    Where ``mask`` is 0, ``matches`` is -1 and everything else 0.

    loss: always None.
    matches: (B, 2, N) int64, index of the matched keypoint in the other image, -1 for none.
    matching_scores: (B, 2, N) float32 in [0, 1], of mutual best candidates also below the filter threshold, else 0.
    keypoints: (B, 2, N, 2) float32, (x, y) px of the image as the network saw it, divided by its width and height.
    prune: (B, 2, N) int32, number of layers in which a keypoint took part; 1 where there is padding.
    mask: (B, 2, N) int32, 1 for a keypoint, 0 for padding.
    hidden_states: if asked for, seven (B, 2, N, C) per layer: the tokens that come in; after self-attention the
        tokens, the input of their update and the update; the same after cross-attention. 0 where a keypoint was
        dropped or a pair had stopped.
    attentions: if asked for, two (B, 2, heads, N, N) per layer: self- and cross-attention.

    The attribute `image_sizes`, which is no entry, is (B, 2, 2) int64: height and width [px] of the images that the
    network saw, without padding. None in the output of a legacy model.
    """

    loss: Tensor | None = None
    matches: Tensor | None = None
    matching_scores: Tensor | None = None
    keypoints: Tensor | None = None
    prune: Tensor | None = None
    mask: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.image_sizes: Tensor | None = None


class BatchFeature(dict[str, Any]):
    """What a processor returns: ``inputs["pixel_values"]`` or ``inputs.pixel_values``, made for ``model(**inputs)``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"There is no '{name}' in this batch, only {', '.join(self)}.") from None

    @property
    def data(self) -> dict[str, Any]:
        """The entries as a plain dictionary."""
        return dict(self)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """A batch on another device or of another dtype; arguments as for `torch.Tensor.to`.

        A dtype holds for floating-point tensors alone: sizes stay integers.
        """
        return type(self)({name: _moved(value, args, kwargs) for name, value in self.items()})


def _moved(value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not isinstance(value, Tensor):
        return value
    if not value.is_floating_point():
        args = tuple(a for a in args if not isinstance(a, torch.dtype))
        kwargs = {name: v for name, v in kwargs.items() if name != "dtype"}
    return value.to(*args, **kwargs) if args or kwargs else value
