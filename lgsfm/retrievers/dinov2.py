"""DINOv2: a global descriptor of the photo itself, by a network of `transformers` (``pip install 'lgsfm[retrieval]'``).

M. Oquab et al.: "DINOv2: Learning robust visual features without supervision", TMLR 2024. The descriptor is the class
token beside the generalised mean (p = 3, with signs) of the patch tokens, as in N. Keetha et al.: "AnyLoc: Towards
universal visual place recognition", RA-L 2023. How many of the right pairs it finds has not been measured here.

Only JSON and safetensors are read, and code from a hub is never run. Descriptors are computed anew for each run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import InputError, WeightsError
from ..images import Photo
from ..options import Options, option
from ..weights import WeightFile, WeightSpec, is_offline

if TYPE_CHECKING:
    import torch

__all__ = ["Dinov2Options", "Dinov2Retriever", "describe_tokens"]

MODEL_TYPES = ("dinov2", "dinov2_with_registers")
LICENCES = {  # by the model cards
    f"facebook/dinov2-{registers}{size}": "Apache-2.0"
    for size in ("small", "base", "large", "giant")
    for registers in ("", "with-registers-")
}
UNKNOWN_LICENCE = "unknown, look it up"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, where preprocessor_config.json says nothing
GEM_POWER = 3
BATCH_PHOTOS = 16


@dataclass(frozen=True, kw_only=True)
class Dinov2Options(Options):
    """Options of DINOv2."""

    retriever_model: str = option(
        "facebook/dinov2-base", "dinov2: a repository of the Hugging Face hub, or a folder with its files"
    )
    retriever_edge_px: int = option(224, "dinov2: shorter edge of the photos that the network sees", minimum=56)

    def __post_init__(self) -> None:
        super().__post_init__()
        if find_spec("transformers") is None:  # said before hours of work
            raise InputError(
                "--retriever dinov2 needs transformers, which is not installed: pip install 'lgsfm[retrieval]'. "
                "Or choose --retriever asmk, which needs nothing."
            )


class Dinov2Retriever:
    """Global descriptors by DINOv2.

    Raises:
        WeightsError: the model cannot be had.
        InputError: it is another kind of model.
    """

    options_class: ClassVar[type[Dinov2Options]] = Dinov2Options
    looks_at_photos: ClassVar[bool] = True

    def __init__(self, options: Dinov2Options, *, device: str = "auto", offline: bool = False) -> None:
        self.options, self.device, self.offline = options, device, is_offline(offline)
        config = self._read_json("config.json")
        if config.get("model_type") not in MODEL_TYPES:
            raise InputError(
                f"'{options.retriever_model}' is a model of type {config.get('model_type')!r}; --retriever dinov2 "
                f"takes {' and '.join(MODEL_TYPES)}."
            )
        self.weight_file = self._located()

    def describe(self, names: Sequence[str], features: Any) -> np.ndarray:
        """Not to be had from features. Raises `InputError`."""
        raise InputError("The retriever dinov2 looks at the photos: say where their folder is (image_dir).")

    def describe_photos(self, names: Sequence[str], read: Callable[[str, int], Photo]) -> np.ndarray:
        """(len(names), 2 D) float32 L2-normalised global descriptors; the dot product is the similarity.

        Args:
            names: the photos.
            read: gives the upright photo of a name, reduced no further than to a longer edge of so many px.
        """
        if not names:
            return np.zeros((0, 0), np.float32)
        vectors = []
        for start in range(0, len(names), BATCH_PHOTOS):
            # neighbours are mostly of one size; only those share a batch
            pixels = (
                self.pixels(read(name, 8 * self.options.retriever_edge_px).rgb) for name in names[start:][:BATCH_PHOTOS]
            )
            for _, same in groupby(pixels, key=lambda image: image.shape):
                vectors.append(self._describe(list(same)))
        return np.concatenate(vectors)

    def pixels(self, rgb: np.ndarray) -> torch.Tensor:
        """(3, H, W) float32: an (H, W, 3) uint8 image as the network wants it, in whole patches, nothing cut off."""
        import torch

        height, width = rgb.shape[:2]
        patch, scale = int(self.network.config.patch_size), self.options.retriever_edge_px / min(height, width)
        # a panorama is squeezed: its longer edge is at most four times the shorter one
        longest = 4 * self.options.retriever_edge_px
        size = [max(1, round(min(edge * scale, longest) / patch)) * patch for edge in (height, width)]
        image = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
        resized = torch.nn.functional.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 255)[0] / 255
        mean, std = (torch.tensor(values)[:, None, None] for values in self.normalisation)
        return (resized - mean) / std

    def _describe(self, images: list[torch.Tensor]) -> np.ndarray:
        import torch

        from ..models import explained_memory_errors, resolve_device

        with torch.inference_mode(), explained_memory_errors():
            batch = torch.stack(images).to(resolve_device(self.device))
            tokens = self.network(pixel_values=batch).last_hidden_state.float()
            return describe_tokens(tokens, getattr(self.network.config, "num_register_tokens", 0)).cpu().numpy()

    @cached_property
    def network(self) -> Any:
        """The network on its device, loaded at first use."""
        from transformers import AutoModel

        from ..models import resolve_device

        try:
            network = AutoModel.from_pretrained(
                self.options.retriever_model,
                local_files_only=True,  # `_located` has fetched it
                use_safetensors=True,
                trust_remote_code=False,
            )
        except Exception as exc:  # a damaged file raises almost anything
            raise WeightsError(f"The model '{self.options.retriever_model}' cannot be loaded: {exc}") from exc
        return network.eval().to(resolve_device(self.device))

    @cached_property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of red, green, blue that the network was trained with, in [0, 1]."""
        try:
            known = self._read_json("preprocessor_config.json")
        except WeightsError:
            known = {}
        return list(known.get("image_mean", MEAN)), list(known.get("image_std", STD))

    @staticmethod
    def allows_commercial_use(options: Dinov2Options) -> bool:
        """Whether the licence of the weights is known, and allows it; nothing is looked for."""
        return options.retriever_model in LICENCES

    def licence(self) -> str:
        """The licence of the weights, by their model card."""
        return LICENCES.get(self.options.retriever_model, UNKNOWN_LICENCE)

    def notes(self) -> Iterator[str]:
        """What to tell people."""
        yield f"Retriever: {self.options.retriever_model} (licence of its weights: {self.licence()})."

    def _located(self) -> WeightFile:
        path = self._file("model.safetensors")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        spec = WeightSpec(
            name=self.options.retriever_model,
            sha256=sha256,
            licence=self.licence(),
            commercial_use=self.licence() != UNKNOWN_LICENCE,
            citation="oquab2024dinov2: DINOv2: Learning Robust Visual Features without Supervision, arXiv:2304.07193",
        )
        return WeightFile(path, sha256, spec, "transformers")

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self._file(name).read_bytes()))
        except (OSError, ValueError, TypeError) as exc:
            raise WeightsError(f"{name} of '{self.options.retriever_model}' cannot be read: {exc}") from exc

    def _file(self, name: str) -> Path:
        """A file of the model: in the folder, the cache of Hugging Face, or downloaded."""
        from transformers.utils import cached_file

        model = self.options.retriever_model
        folder = Path(model).expanduser()
        try:
            found = folder / name if folder.is_dir() else cached_file(model, name, local_files_only=self.offline)
        except Exception as exc:  # of the hub's client, of several kinds
            raise WeightsError(self._missing(name, " ".join(str(exc).split())[:300])) from exc
        if found is None or not Path(found).is_file():
            raise WeightsError(self._missing(name, "no such file"))
        return Path(found)

    def _missing(self, name: str, reason: str) -> str:
        how = "nothing was downloaded: offline mode is on" if self.offline else "it could not be downloaded"
        return (
            f"{name} of the model '{self.options.retriever_model}' is not on this computer, and {how} ({reason}). "
            "Name a folder that holds config.json and model.safetensors (--retriever-model FOLDER), download the "
            "repository into the cache of Hugging Face, or choose --retriever asmk."
        )


def describe_tokens(tokens: torch.Tensor, registers: int) -> torch.Tensor:
    """(B, 2 D) L2-normalised: of (B, 1 + registers + patches, D) tokens the first, beside the mean of the patches."""
    import torch
    from torch.nn.functional import normalize

    mean = (tokens[:, 1 + registers :] ** GEM_POWER).mean(1)
    pooled = torch.sign(mean) * mean.abs() ** (1 / GEM_POWER)
    return normalize(torch.cat([normalize(tokens[:, 0], dim=-1), normalize(pooled, dim=-1)], dim=-1), dim=-1)
