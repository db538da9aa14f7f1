"""``pipeline("keypoint-matching")``: from pairs of pictures to lists of matches in one call."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, TypedDict

import torch
from PIL import Image

from ..errors import InputError, unknown_name
from ..models import explained_memory_errors, resolve_device
from . import hub
from .auto import AutoImageProcessor
from .config import LightGlueConfig
from .model import LightGlueForKeypointMatching
from .pixels import load_picture
from .processor import LightGlueImageProcessor, LightGlueImageProcessorFast

__all__ = ["Keypoint", "KeypointMatchingPipeline", "Match", "pipeline"]

DEFAULT_MODEL = "ETH-CVG/lightglue_superpoint"
TASKS = ("keypoint-matching",)


class Keypoint(TypedDict):
    """A position [px], the centre of the top-left pixel at (0, 0)."""

    x: float
    y: float


class Match(TypedDict):
    """A keypoint of each image, and how sure the match is, in [0, 1]."""

    keypoint_image_0: Keypoint
    keypoint_image_1: Keypoint
    score: float


def pipeline(
    task: str = "keypoint-matching",
    model: str | Path | LightGlueForKeypointMatching | None = None,
    *,
    image_processor: LightGlueImageProcessor | str | Path | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | int | torch.device | None = None,
    legacy: bool | None = None,
    use_fast: bool = False,
    model_kwargs: dict[str, Any] | None = None,
    **options: Any,
) -> KeypointMatchingPipeline:
    """A function that matches pairs of images.

    Args:
        task: "keypoint-matching".
        model: a model, or the folder or hub repository of one; by default ETH-CVG/lightglue_superpoint.
        image_processor: a processor, or the folder or repository of one; by default the one of the model's folder or
            repository, and of a model that is given, the default.
        dtype: of the model; "auto" takes that of its file.
        device: "cpu", "cuda" ..., or the number of a GPU, -1 for the CPU; "auto" is the first GPU there is.
        legacy: True gives what transformers gives; by default as model and processor were saved.
        use_fast: whether to resize with torch instead of PIL, if no ``image_processor`` is given.
        model_kwargs: for the model's from_pretrained, as are ``options`` such as revision or local_files_only.

    Raises:
        InputError: the task or an argument is unknown.
        WeightsError: there are no such weights.
    """
    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    options = {"legacy": legacy} | options if legacy is not None else options
    if isinstance(model, LightGlueForKeypointMatching):
        if model_kwargs or options.keys() - {"legacy"}:
            raise InputError("Options for loading a model mean nothing where the model itself is given.")
        if legacy is not None and legacy != model.config.legacy:
            model = copy.copy(model)  # shares the weights; the caller's model stays as it is
            model.config = LightGlueConfig.from_dict(model.config.to_dict(), legacy=legacy)
        kind = LightGlueImageProcessorFast if use_fast else LightGlueImageProcessor
        image_processor = image_processor or kind(legacy=model.config.legacy)
    else:
        name = model or DEFAULT_MODEL
        model = LightGlueForKeypointMatching.from_pretrained(name, dtype=dtype, **options, **(model_kwargs or {}))
        if image_processor is None:
            where = {key: value for key, value in options.items() if key in hub.SOURCE_OPTIONS or key == "legacy"}
            image_processor = AutoImageProcessor.from_pretrained(name, use_fast=use_fast, **where)
    if isinstance(image_processor, (str, Path)):
        image_processor = AutoImageProcessor.from_pretrained(image_processor, use_fast=use_fast)
    if device is not None:
        number = {-1: "cpu"}.get(device, f"cuda:{device}") if isinstance(device, int) else str(device)
        model.to(resolve_device(number))
    return KeypointMatchingPipeline(model, image_processor)


class KeypointMatchingPipeline:
    """Matches pairs of images; made by `pipeline`."""

    task = "keypoint-matching"

    def __init__(self, model: LightGlueForKeypointMatching, image_processor: LightGlueImageProcessor) -> None:
        self.model = model.eval()
        self.image_processor = image_processor

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def __call__(
        self, inputs: Any, threshold: float = 0.0, *, timeout: float | None = None, batch_size: int | None = None
    ) -> list[Match] | list[list[Match]]:
        """Matches of a pair of images, or of each of several pairs, the surest first.

        Args:
            inputs: a pair or a list of pairs; an image is a PIL image, the path of a file, or an https address,
                which `lgsfm.hf.pixels.load_picture` fetches. Files are seen upright, as their EXIF tag says.
            threshold: matches with at most this score are left out.
            timeout: without effect: an address has 10 s to answer.
            batch_size: without effect: pairs are matched one by one, and so results never depend on it.

        Returns:
            The matches of the pair, or, of more than one pair, a list of lists in the order of the pairs.
            Positions are in pixels of the images given.

        Raises:
            InputError: these are no pairs of images, or one cannot be read.
        """
        pairs = _pairs(inputs)
        results = [self._match([load_picture(picture) for picture in pair], threshold) for pair in pairs]
        return results[0] if len(results) == 1 else results

    def _match(self, images: list[Image.Image], threshold: float) -> list[Match]:
        batch = self.image_processor(images, return_tensors="pt").to(self.device)
        if self.model.config.legacy:
            batch = batch.to(self.model.dtype)
        with explained_memory_errors():
            outputs = self.model(**batch, return_dict=True)
        # transformers gives PIL's (width, height) where (height, width) is due
        sizes = [[image.size if self.image_processor.legacy else image.size[::-1] for image in images]]
        (found,) = self.image_processor.post_process_keypoint_matching(outputs, sizes, threshold)
        lists = (found[name].tolist() for name in ("keypoints0", "keypoints1", "matching_scores"))
        matches: list[Match] = [
            {"keypoint_image_0": {"x": x0, "y": y0}, "keypoint_image_1": {"x": x1, "y": y1}, "score": score}
            for (x0, y0), (x1, y1), score in zip(*lists, strict=True)
        ]
        return sorted(matches, key=lambda match: match["score"], reverse=True)


def _pairs(inputs: Any) -> list[Any]:
    def is_pair(pair: Any) -> bool:
        kinds = (str, Path, Image.Image)
        return isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(image, kinds) for image in pair)

    if is_pair(inputs):
        return [inputs]
    if isinstance(inputs, (list, tuple)) and inputs and all(map(is_pair, inputs)):
        return list(inputs)
    raise InputError("The inputs must be a pair of images or a list of pairs: PIL images, paths or https addresses.")
