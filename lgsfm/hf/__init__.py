"""LightGlue with the interface of Hugging Face transformers, over the networks of lgsfm.

    from lgsfm.hf import pipeline
    match = pipeline("keypoint-matching", model="ETH-CVG/lightglue_superpoint")
    matches = match(["a.jpg", "b.jpg"], threshold=0.5)

The names, arguments, defaults and files of the documentation of transformers 5; neither transformers nor torchvision
is needed. Results are right where those of transformers are not: batches keep their order, image sizes are (height,
width), keypoints keep their fractions, the aspect ratio can be kept. ``legacy=True`` gives theirs.

config     what a model is; config.json              hub        where files are looked for
model      pixels -> matches of keypoints            legacy     the same as transformers computes it
processor  pictures -> pixels; output -> matches     pipelines  pictures -> matches
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .auto import AutoImageProcessor as AutoImageProcessor
    from .auto import AutoModel as AutoModel
    from .auto import AutoModelForKeypointMatching as AutoModelForKeypointMatching
    from .config import AlikedConfig as AlikedConfig
    from .config import AutoConfig as AutoConfig
    from .config import LightGlueConfig as LightGlueConfig
    from .config import SuperPointConfig as SuperPointConfig
    from .model import LightGlueForKeypointMatching as LightGlueForKeypointMatching
    from .outputs import BatchFeature as BatchFeature
    from .outputs import LightGlueKeypointMatchingOutput as LightGlueKeypointMatchingOutput
    from .pipelines import KeypointMatchingPipeline as KeypointMatchingPipeline
    from .pipelines import pipeline as pipeline
    from .processor import LightGlueImageProcessor as LightGlueImageProcessor
    from .processor import LightGlueImageProcessorFast as LightGlueImageProcessorFast

_HOMES = {
    "AlikedConfig": "config",
    "AutoConfig": "config",
    "AutoImageProcessor": "auto",
    "AutoModel": "auto",
    "AutoModelForKeypointMatching": "auto",
    "BatchFeature": "outputs",
    "KeypointMatchingPipeline": "pipelines",
    "LightGlueConfig": "config",
    "LightGlueForKeypointMatching": "model",
    "LightGlueImageProcessor": "processor",
    "LightGlueImageProcessorFast": "processor",
    "LightGlueKeypointMatchingOutput": "outputs",
    "SuperPointConfig": "config",
    "pipeline": "pipelines",
}

__all__ = [
    "AlikedConfig",
    "AutoConfig",
    "AutoImageProcessor",
    "AutoModel",
    "AutoModelForKeypointMatching",
    "BatchFeature",
    "KeypointMatchingPipeline",
    "LightGlueConfig",
    "LightGlueForKeypointMatching",
    "LightGlueImageProcessor",
    "LightGlueImageProcessorFast",
    "LightGlueKeypointMatchingOutput",
    "SuperPointConfig",
    "pipeline",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
