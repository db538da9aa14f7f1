"""Image processors: pairs of pictures -> ``pixel_values``, and outputs of the model -> matches in the pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import InputError, unknown_name
from . import hub, matches
from .outputs import BatchFeature
from .pixels import channels_first, named_size, pairs_of, quantized, resize_pil, resize_torch, target_size

__all__ = ["LightGlueImageProcessor", "LightGlueImageProcessorFast"]

CONFIG_FILE = "preprocessor_config.json"
GRAY = (0.2989, 0.5870, 0.1140)  # luma of R, G, B
DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "size": {"height": 480, "width": 640},
    "resample": 2,  # bilinear
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_grayscale": True,
    "keep_aspect": False,
    "legacy": False,
}
FORMATS = ("channels_first", "channels_last")


class LightGlueImageProcessor:
    """Prepares pairs of images for `LightGlueForKeypointMatching`; resizes with PIL.

    do_resize: whether to resize, to ``size``: height and width [px], or longest_edge, shortest_edge, or max_height
        and max_width, which keep the aspect ratio; by default 480 x 640.
    resample: filter, one of `PIL.Image.Resampling`.
    do_rescale: whether to multiply with ``rescale_factor``.
    do_grayscale: whether all three channels become the luma.
    keep_aspect: ours; True fits images into height and width without distortion.
    legacy: ours; True gives coordinates as transformers does: cut to whole pixels.

    Raises `InputError` on an argument that does not exist.
    """

    do_resize: bool
    size: dict[str, int]
    resample: int
    do_rescale: bool
    rescale_factor: float
    do_grayscale: bool
    keep_aspect: bool
    legacy: bool
    model_input_names: ClassVar[list[str]] = ["pixel_values", "image_sizes"]

    def __init__(self, **options: Any) -> None:
        for name, value in {**DEFAULTS, **self._checked(options)}.items():
            setattr(self, name, value)

    # ---- files

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Self:
        """The processor of a folder or hub repository; ``options`` as for the model's, or those of the processor."""
        source, changes = hub.split_options(options)
        values = hub.read_json(name, CONFIG_FILE, source)
        return cls(**({key: value for key, value in values.items() if key in DEFAULTS} | changes))

    def to_dict(self) -> dict[str, Any]:
        """The options as they stand in preprocessor_config.json; those that are ours only where they are on."""
        values = {name: getattr(self, name) for name in DEFAULTS}
        own = {name for name in ("keep_aspect", "legacy") if not values[name]}
        return {"image_processor_type": "LightGlueImageProcessor"} | {
            name: value for name, value in values.items() if name not in own
        }

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Writes preprocessor_config.json into a folder. Raises `InputError`."""
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"
        hub.write(Path(save_directory) / CONFIG_FILE, text.encode())

    # ---- before the model

    def __call__(self, images: Any, **options: Any) -> BatchFeature:
        """`preprocess`."""
        return self.preprocess(images, **options)

    def preprocess(
        self,
        images: Any,
        *,
        return_tensors: str | None = None,
        data_format: str = "channels_first",
        input_data_format: str | None = None,
        device: str | torch.device | None = None,
        **options: Any,
    ) -> BatchFeature:
        """Pairs of images, ready for ``model(**inputs)``.

        Args:
            images: a pair or a list of pairs of PIL images, arrays or tensors; with values from 0 to 255 if
                ``do_rescale``.
            return_tensors: "pt" (torch), "np" (numpy), or None for lists of pairs of arrays.
            data_format: "channels_first" or "channels_last", of the result; the model takes the first.
            input_data_format: the same for arrays and tensors given; by default it is told by their shape.
            device: of the result.
            **options: instead of those of the processor.

        Returns:
            pixel_values, (B, 2, 3, H, W) float32, and, where images differ in size and so are padded at the right
            and below, image_sizes, (B, 2, 2) int64: the (height, width) [px] of each without its padding.

        Raises:
            InputError: an argument is unknown or impossible.
        """
        for name, value, known in (
            ("return_tensors", return_tensors, ("pt", "np", None)),
            ("data_format", data_format, FORMATS),
            ("input_data_format", input_data_format, (*FORMATS, None)),
        ):
            if value not in known:
                raise unknown_name(f"{name}:", str(value), map(str, known))
        settings = {name: getattr(self, name) for name in DEFAULTS} | self._checked(options)
        made = [
            self._prepare(image, input_data_format, device, settings) for pair in pairs_of(images) for image in pair
        ]
        sizes = torch.tensor([image.shape[1:] for image in made]).view(-1, 2, 2)
        height, width = sizes.amax((0, 1)).tolist()
        values = torch.zeros(len(made), 3, height, width, device=made[0].device)
        for row, image in zip(values, made, strict=True):
            row[:, : image.shape[1], : image.shape[2]] = image
        if data_format == "channels_last":
            values = values.permute(0, 2, 3, 1)
        data: dict[str, Any] = {"pixel_values": values.unflatten(0, (-1, 2))}
        if bool((sizes != sizes.new_tensor([height, width])).any()):
            data["image_sizes"] = sizes.to(values.device)
        if return_tensors != "pt":
            data = {name: value.cpu().numpy() for name, value in data.items()}
        if return_tensors is None:
            data = {name: [list(pair) for pair in value] for name, value in data.items()}
        return BatchFeature(data)

    def _prepare(self, picture: Any, layout: str | None, device: Any, settings: dict[str, Any]) -> Tensor:
        """One image as (3, H, W) float32."""
        image, factor, legacy = channels_first(picture, layout), 1.0, settings["legacy"]
        if settings["do_resize"]:
            size = target_size(image.shape[1], image.shape[2], settings["size"], settings["keep_aspect"])
            if legacy:
                image, factor = quantized(image)
            image = self._resize(image, size, settings["resample"], device)
        values = torch.as_tensor(np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image).to(device)
        is_integer = not values.is_floating_point()
        values = values if factor == 1 else (values.double() * factor).float()
        if settings["do_rescale"]:
            if not legacy and not is_integer and 0 < float(values.max()) <= 1:
                raise InputError("The values of an image are in [0, 1] already: give do_rescale=False.")
            values = values.double() * settings["rescale_factor"]
        return gray(values.float()) if settings["do_grayscale"] else values.float()

    def _resize(self, image: Any, size: tuple[int, int], resample: int, device: Any) -> Any:
        return resize_pil(image, size, resample)

    @staticmethod
    def _checked(options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if name not in DEFAULTS:
                raise unknown_name("option of LightGlueImageProcessor", name, DEFAULTS)
        checked = {name: value for name, value in options.items() if value is not None}
        if "size" in checked:
            checked["size"] = named_size(checked["size"])
        if "resample" in checked:
            checked["resample"] = int(checked["resample"])
            if not 0 <= checked["resample"] <= 5:
                raise unknown_name("resample:", str(checked["resample"]), map(str, range(6)))
        return checked

    # ---- behind the model

    def post_process_keypoint_matching(
        self, outputs: Any, target_sizes: Any, threshold: float = 0.0
    ) -> list[dict[str, Tensor]]:
        """The matches of each pair, in pixels of images of the given sizes.

        Args:
            outputs: of the model, of ours or of transformers'.
            target_sizes: (B, 2, 2) tensor or nested lists: (height, width) of each image before processing.
            threshold: matches with at most this score are left out.

        Returns:
            For each pair: keypoints0 and keypoints1, (K, 2) float32 (x, y) px with the centre of the top-left pixel
            at (0, 0), and matching_scores (K,). With ``legacy`` they are int32, cut off, and up to half a pixel of
            the resized image away even before that.

        Raises:
            InputError: there are not as many sizes as pairs, or they are not pairs of (height, width).
        """
        return matches.post_process(outputs, target_sizes, threshold, self.legacy)

    def visualize_keypoint_matching(
        self, images: Any, keypoint_matching_output: list[dict[str, Tensor]]
    ) -> list[Image.Image]:
        """Each pair side by side, matches as lines from red (score 0) to green (score 1).

        Args:
            images: as for `preprocess`, in the sizes that the matches are for, with values from 0 to 255.
            keypoint_matching_output: what `post_process_keypoint_matching` gave.
        """
        return matches.visualize(pairs_of(images), keypoint_matching_output)


class LightGlueImageProcessorFast(LightGlueImageProcessor):
    """The same in torch, on the ``device`` that is asked for; resamples nearest, bilinear or bicubic."""

    def _resize(self, image: Any, size: tuple[int, int], resample: int, device: Any) -> Any:
        tensor = torch.as_tensor(np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image)
        return resize_torch(tensor.to(device), size, resample)


def gray(image: Tensor) -> Tensor:
    """(3, H, W) with the luma in all channels; an image without colour stays as it is."""
    if bool((image == image[:1]).all()):
        return image
    r, g, b = (plane * weight for plane, weight in zip(image, GRAY, strict=True))
    return (r + g + b).expand(3, -1, -1)
