"""Pictures in, arrays out: what a processor takes, and how large it makes it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import InputError, unknown_name
from ..images import read_photo
from ..weights import is_offline
from ..weights_download import DownloadError, download_url

__all__ = [
    "channels_first",
    "load_picture",
    "named_size",
    "pairs_of",
    "quantized",
    "resize_pil",
    "resize_torch",
    "target_size",
]

SIZES = (("height", "width"), ("longest_edge",), ("shortest_edge",), ("max_height", "max_width"))
TORCH_MODES = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}  # by the numbers of PIL
MAX_DOWNLOAD_BYTES = 100 << 20


def pairs_of(images: Any) -> list[tuple[Any, Any]]:
    """The pairs in a pair of pictures or a list of pairs. Raises `InputError` if it is neither."""
    if isinstance(images, (list, tuple)) and images:
        if len(images) == 2 and all(map(_is_picture, images)):
            return [(images[0], images[1])]
        if all(isinstance(p, (list, tuple)) and len(p) == 2 and all(map(_is_picture, p)) for p in images):
            return [(p[0], p[1]) for p in images]
    raise InputError(
        "Images must be a pair of images or a list of pairs of images: PIL images, or arrays or tensors (H, W), "
        "(H, W, C) or (C, H, W) with 1, 3 or 4 channels."
    )


def load_picture(picture: Any) -> Image.Image:
    """A PIL image as it is; the file of a path or of an https address as the upright RGB image that it shows.

    Addresses are fetched with a timeout of 10 s and at most 100 MB; plain http is refused, and everything if
    LGSFM_OFFLINE or HF_HUB_OFFLINE is set. Raises `InputError` if there is no readable image.
    """
    if isinstance(picture, Image.Image):
        return picture
    if not isinstance(picture, (str, Path)):
        raise InputError(f"An image must be a PIL image, a path or an https address, not {type(picture).__name__}.")
    if urlsplit(str(picture)).scheme not in ("http", "https"):
        return Image.fromarray(read_photo(Path(picture)).rgb)
    with tempfile.TemporaryDirectory(prefix="lgsfm-") as folder:
        path = Path(folder) / "image"
        try:
            if is_offline():
                raise DownloadError("offline mode is on (LGSFM_OFFLINE or HF_HUB_OFFLINE)")
            download_url(str(picture), path, MAX_DOWNLOAD_BYTES)
        except DownloadError as error:
            raise InputError(f"Cannot fetch {picture}: {error}\nSave the image and give its path.") from error
        return Image.fromarray(read_photo(path).rgb)


def channels_first(picture: Any, input_data_format: str | None = None) -> np.ndarray | Tensor:
    """A picture as (3, H, W), of its own dtype; a tensor stays one. Grey is repeated, transparency dropped.

    An array that could be read both ways, such as (3, H, 3), is (C, H, W). Raises `InputError`.
    """
    if isinstance(picture, Image.Image):
        return np.moveaxis(_rgb(picture), 2, 0)
    array = picture[None] if picture.ndim == 2 else picture
    first = array.shape[0] in (1, 3, 4) if input_data_format is None else input_data_format == "channels_first"
    if picture.ndim == 3 and not first:
        array = array.movedim(2, 0) if isinstance(array, Tensor) else np.moveaxis(array, 2, 0)
    if array.shape[0] not in (1, 3, 4) or 0 in array.shape:
        raise InputError(f"An image of shape {tuple(picture.shape)} has not 1, 3 or 4 channels, or no pixels.")
    if array.shape[0] == 1:
        return array.expand(3, -1, -1) if isinstance(array, Tensor) else np.repeat(array, 3, 0)
    return array[:3]


def named_size(size: Any) -> dict[str, int]:
    """A size as a dictionary with the keys of one of `SIZES`; an int is the shortest edge, a pair (height, width)."""
    if isinstance(size, int):
        size = {"shortest_edge": size}
    if isinstance(size, Sequence) and len(size) == 2:
        size = {"height": size[0], "width": size[1]}
    if isinstance(size, Mapping):
        named = {key: value for key, value in size.items() if value is not None}
        if tuple(sorted(named)) in map(tuple, map(sorted, SIZES)) and all(
            isinstance(value, int) and value > 0 for value in named.values()
        ):
            return named
    raise InputError(f"The size {size!r} is none of: {', '.join(' and '.join(keys) for keys in SIZES)}, in px.")


def target_size(height: int, width: int, size: Mapping[str, int], keep_aspect: bool) -> tuple[int, int]:
    """(height, width) to which an image is resized, enlarged too."""
    if "longest_edge" in size:
        scale = size["longest_edge"] / max(height, width)
    elif "shortest_edge" in size:
        scale = size["shortest_edge"] / min(height, width)
    elif keep_aspect or "max_height" in size:
        limits = (size.get("max_height", size.get("height", 0)), size.get("max_width", size.get("width", 0)))
        scale = min(limits[0] / height, limits[1] / width)
    else:
        return size["height"], size["width"]
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_pil(image: np.ndarray | Tensor, size: tuple[int, int], resample: int) -> np.ndarray:
    """(3, H, W) -> (3, *size), antialiased; uint8 stays so, everything else becomes float32."""
    if isinstance(image, Tensor):
        image = image.float() if image.dtype == torch.bfloat16 else image  # which numpy does not know
    array = image.cpu().numpy() if isinstance(image, Tensor) else image
    if array.shape[1:] == size:
        return array
    method, target = Image.Resampling(resample), (size[1], size[0])
    if array.dtype == np.uint8:
        rgb = np.ascontiguousarray(np.moveaxis(array, 0, 2))
        return np.moveaxis(np.asarray(Image.fromarray(rgb).resize(target, method)), 2, 0)
    planes = [Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(target, method) for plane in array]
    return np.stack([np.asarray(plane) for plane in planes])


def quantized(image: np.ndarray | Tensor) -> tuple[np.ndarray | Tensor, float]:
    """What transformers makes of an image before it resizes it: uint8, and a factor for the resized values.

    Raises `InputError` where it refuses the values.
    """
    if image.dtype in (np.uint8, torch.uint8):
        return image, 1.0
    values = torch.as_tensor(np.ascontiguousarray(image) if isinstance(image, np.ndarray) else image).double()
    is_whole = torch.allclose(values, values.trunc())
    if values.min() < 0 or values.max() > 255 or (not is_whole and values.max() > 1):
        raise InputError("transformers takes only whole values from 0 to 255, or values in [0, 1]. Use legacy=False.")
    return (values.byte(), 1.0) if is_whole else ((values * 255).float().byte(), 1 / 255)


def resize_torch(image: Tensor, size: tuple[int, int], resample: int) -> Tensor:
    """The same in torch, on the device of the image; nearest, bilinear and bicubic alone."""
    if tuple(image.shape[1:]) == size:
        return image
    if resample not in TORCH_MODES:
        raise unknown_name("resample of LightGlueImageProcessorFast:", str(resample), map(str, TORCH_MODES))
    mode = TORCH_MODES[resample]
    resized = F.interpolate(image[None].float(), size=size, mode=mode, antialias=resample > 0)[0]
    return resized.round_().clamp_(0, 255).byte() if image.dtype == torch.uint8 else resized


def _is_picture(value: Any) -> bool:
    return isinstance(value, Image.Image) or (isinstance(value, (np.ndarray, Tensor)) and value.ndim in (2, 3))


def _rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8; 16-bit samples are divided by 256."""
    if image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, 2)
    return np.asarray(image.convert("RGB"))
