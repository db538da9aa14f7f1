"""Where the files of a model are: a folder, or the name of a repository of the Hugging Face hub.

Looked for in this order:

1. a folder of that name
2. the weights that `lgsfm.weights` knows, see `PUBLISHED`
3. the cache of Hugging Face: ``$HF_HUB_CACHE`` or ``$HF_HOME/hub``, or the ``cache_dir`` that is named
4. our own cache of downloads, and then ``https://huggingface.co`` (``$HF_ENDPOINT``), unless offline; what was
   downloaded once is not looked for again

Only JSON and safetensors are read, both of which cannot run code; pickled weights are refused.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .. import weights
from ..errors import InputError, WeightsError
from ..weights_download import DownloadError, download_url

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PUBLISHED", "Published", "Source", "read_json", "read_weights", "refuse_remote_code", "split_options"]

WEIGHTS_FILE = "model.safetensors"
PICKLES = ("pytorch_model.bin", "model.bin", "model.pt", "model.pth")
MAX_BYTES = {".json": 1 << 20, ".safetensors": 1 << 30}  # far more than any LightGlue has; of weights, in a download
REPOSITORY = re.compile(r"(?!.*\.\.)[\w.-]+(/[\w.-]+)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Arguments of every ``from_pretrained`` that say where to look."""

    revision: str = "main"  # branch, tag or commit of the repository
    cache_dir: str | Path | None = None  # instead of the cache of Hugging Face
    local_files_only: bool = False  # never use the network; so do LGSFM_OFFLINE=1 and HF_HUB_OFFLINE=1


# Of every from_pretrained; those after the fields of Source are accepted, but change nothing here.
SOURCE_OPTIONS = frozenset(
    [field.name for field in fields(Source)]
    + ["trust_remote_code", "use_safetensors", "attn_implementation", "low_cpu_mem_usage", "token"]
)


@dataclass(frozen=True)
class Published:
    """A repository whose weights `lgsfm.weights` knows, by hash, and what its JSON files say."""

    matcher: str  # model of `lgsfm.weights`
    detector: str  # the same, where the weights of the matcher do not bring the detector along
    files: dict[str, dict[str, Any]]


PUBLISHED = {
    "ETH-CVG/lightglue_superpoint": Published(
        "lightglue-superpoint",
        "superpoint",
        {"config.json": {"model_type": "lightglue"}, "preprocessor_config.json": {}},
    ),
    "lgsfm/lightglue_aliked": Published(  # ours; not on the hub
        "lightglue-aliked",
        "aliked-n16",
        {
            "config.json": {"model_type": "lightglue", "keypoint_detector_config": {"model_type": "aliked"}},
            "preprocessor_config.json": {"do_grayscale": False},
        },
    ),
}


def split_options(options: dict[str, Any]) -> tuple[Source, dict[str, Any]]:
    """The arguments of a ``from_pretrained``: where to look, and the rest."""
    refuse_remote_code(options.get("trust_remote_code"))
    if not options.get("use_safetensors", True):
        raise WeightsError("Weights are read from safetensors alone: pickled ones can run code. Convert the file.")
    where = {field.name: options[field.name] for field in fields(Source) if options.get(field.name) is not None}
    return Source(**where), {name: value for name, value in options.items() if name not in SOURCE_OPTIONS}


def refuse_remote_code(trust_remote_code: Any) -> None:
    """Raises `InputError` where code from the hub is asked for."""
    if trust_remote_code:
        raise InputError(
            "trust_remote_code=True is refused: lgsfm never runs code from a model repository. "
            "Leave it out; models of type 'lightglue' with SuperPoint or ALIKED need none."
        )


def read_json(name: str | Path, file: str, source: Source) -> dict[str, Any]:
    """The JSON object in a file of a folder or repository. Raises `InputError`, or `WeightsError` if it is nowhere."""
    if (published := _published(name)) and not (cached := _cached(str(name), file, source)):
        return dict(published.files[file])
    path = cached if published and cached else _locate(name, file, source)
    most = MAX_BYTES[".json"]
    try:
        if (num_bytes := path.stat().st_size) > most:
            raise InputError(f"{path} has {num_bytes:,} bytes, more than any configuration ({most:,}).")
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a readable JSON file: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} does not hold a JSON object.")
    return values


def read_weights(name: str | Path, source: Source) -> dict[str, Tensor]:
    """The tensors of a folder or repository by their names in the Hugging Face layout. Raises `WeightsError`."""
    published = _published(name)
    if published is None:
        return weights.read_tensors(_locate(name, WEIGHTS_FILE, source))
    from ..models.lightglue import from_original
    from ..models.superpoint import to_hugging_face

    offline = source.local_files_only
    state = weights.load(weights.fetch(published.matcher, offline=offline))
    if any(key.startswith("keypoint_detector.") for key in state):
        return state
    if not any(key.startswith("transformer_layers.") for key in state):
        state = from_original(state)
    detector = weights.load(weights.fetch(published.detector, offline=offline))
    return state | {f"keypoint_detector.{key}": value for key, value in to_hugging_face(detector).items()}


def write(path: Path, data: bytes) -> None:
    """Writes a whole file or nothing. Raises `InputError` if it cannot be written."""
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise InputError(f"Cannot write {path}: {error}") from error


# ---- places


def _published(name: str | Path) -> Published | None:
    return None if Path(name).is_dir() else PUBLISHED.get(str(name))


def _locate(name: str | Path, file: str, source: Source) -> Path:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _in_folder(folder, file)
    if not isinstance(name, str) or not REPOSITORY.fullmatch(name) or not REPOSITORY.fullmatch(source.revision):
        raise InputError(
            f"There is no folder '{name}', and it is no name of a repository (organisation/model, revision "
            f"'{source.revision}'). Give the folder that holds {file}."
        )
    return _cached(name, file, source) or _downloaded(name, file, source)


def _in_folder(folder: Path, file: str) -> Path:
    path = folder / file
    if path.is_file():
        return path
    pickles = [pickle for pickle in PICKLES if (folder / pickle).is_file()]
    if file == WEIGHTS_FILE and pickles:
        raise WeightsError(
            f"{folder} has {pickles[0]} but no {file}. Pickled weights can run code and are not read: "
            "convert them with safetensors.torch.save_file."
        )
    raise WeightsError(f"There is no {file} in {folder}. Give the folder that save_pretrained wrote.")


def _cached(name: str, file: str, source: Source) -> Path | None:
    """The file in the cache of Hugging Face: of the revision, or of the snapshot if there is but one."""
    hub = Path(source.cache_dir).expanduser() if source.cache_dir else weights.hugging_face_hub()
    repository = hub / f"models--{name.replace('/', '--')}"
    reference = repository / "refs" / source.revision
    snapshots = [path.name for path in repository.glob("snapshots/*")]
    if reference.is_file():
        commit = reference.read_text().strip()
    else:
        commit = snapshots[0] if len(snapshots) == 1 and source.revision == "main" else source.revision
    path = repository / "snapshots" / commit / file
    return path if commit in snapshots and path.is_file() else None


def _downloaded(name: str, file: str, source: Source) -> Path:
    path = weights.cache_dir() / "hub" / name.replace("/", "--") / source.revision / file
    if path.is_file():
        return path
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{endpoint}/{name}/resolve/{source.revision}/{file}"
    try:
        if weights.is_offline(source.local_files_only):
            raise DownloadError("nothing was downloaded: offline (local_files_only, LGSFM_OFFLINE or HF_HUB_OFFLINE)")
        download_url(url, path, MAX_BYTES[path.suffix])
    except DownloadError as error:
        raise WeightsError(
            f"{file} of '{name}' is not on this computer and could not be fetched:\n  - {url}: {error}\n"
            "Give a folder that holds config.json and model.safetensors, or download the repository into the cache "
            f"of Hugging Face ({weights.hugging_face_hub()})."
        ) from error
    return path
