"""Where files are looked for, and that nothing from there can run code."""

import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from hf_helpers import SMALL, theirs

from lgsfm import weights
from lgsfm.errors import InputError, WeightsError
from lgsfm.hf import AutoImageProcessor, AutoModel, LightGlueConfig, hub
from lgsfm.models.superpoint import SuperPoint

NAME = "somebody/lightglue"


@pytest.fixture(autouse=True)
def empty_places(tmp_path, monkeypatch):
    """No caches of the user, no network."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "LGSFM_WEIGHTS", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("LGSFM_CACHE", str(tmp_path / "lgsfm"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LGSFM_OFFLINE", "1")


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "saved"
    theirs(0, **SMALL).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"do_grayscale": false}')
    return folder


def into_cache(saved, hub_folder, commit="c0ffee", branch="main"):
    repository = hub_folder / f"models--{NAME.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    saved.rename(snapshot)
    (repository / "refs").mkdir(exist_ok=True)
    if branch:
        (repository / "refs" / branch).write_text(commit)


def is_found(name=NAME, **options):
    assert not AutoImageProcessor.from_pretrained(name, **options).do_grayscale
    return AutoModel.from_pretrained(name, **options).config.num_hidden_layers == 4


def test_a_folder(saved, monkeypatch):
    monkeypatch.chdir(saved.parent)
    assert is_found("saved")
    assert is_found(saved)


@pytest.mark.parametrize("branch", ["main", None])
def test_the_cache_of_hugging_face(saved, tmp_path, branch):
    into_cache(saved, tmp_path / "hf" / "hub", branch=branch)
    assert is_found()
    assert is_found(revision="c0ffee")
    with pytest.raises(WeightsError, match="could not be fetched"):
        is_found(revision="v2")


def test_one_of_several_snapshots_is_not_guessed(saved, tmp_path):
    into_cache(saved, tmp_path / "hf" / "hub", branch=None)
    (tmp_path / "hf" / "hub" / "models--somebody--lightglue" / "snapshots" / "decaf").mkdir()
    assert is_found(revision="c0ffee")
    with pytest.raises(WeightsError, match="could not be fetched"):
        is_found()


def test_another_cache_and_another_branch(saved, tmp_path, monkeypatch):
    into_cache(saved, tmp_path / "elsewhere", branch="v2")
    assert is_found(cache_dir=tmp_path / "elsewhere", revision="v2")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert is_found(revision="v2")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An endpoint that serves ``tmp_path / "served"``."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path / "served")

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.delenv("LGSFM_OFFLINE")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_network_comes_last_and_once(saved, tmp_path, server, monkeypatch):
    served = tmp_path / "served" / NAME / "resolve" / "main"
    served.parent.mkdir(parents=True)
    saved.rename(served)
    with pytest.raises(WeightsError, match="nothing was downloaded: offline"):
        is_found(local_files_only=True)
    assert is_found()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert is_found()  # from our own cache


def test_what_the_network_may_not_send(saved, tmp_path, server, monkeypatch):
    served = tmp_path / "served" / NAME / "resolve" / "main"
    served.parent.mkdir(parents=True)
    saved.rename(served)
    monkeypatch.setitem(hub.MAX_BYTES, ".safetensors", 1000)
    with pytest.raises(WeightsError, match="larger than 1,000 bytes"):
        is_found()
    assert [path.name for path in (tmp_path / "lgsfm").rglob("*.safetensors*")] == []
    with pytest.raises(WeightsError, match="404"):
        AutoModel.from_pretrained("nobody/nothing")
    monkeypatch.setenv("HF_ENDPOINT", "http://example.org")
    with pytest.raises(WeightsError, match="not an https address"):
        AutoModel.from_pretrained("nobody/nothing")


@pytest.mark.parametrize("name", ["../secrets", "a/b/c", "/nowhere/at/all", "a/..", "https://x.org/a", "", "a b"])
def test_names_that_are_neither_folder_nor_repository(name, saved):
    with pytest.raises(InputError, match="no name of a repository"):
        AutoModel.from_pretrained(name) if name else AutoModel.from_pretrained(saved / "nothing")
    with pytest.raises(InputError, match="no name of a repository"):
        AutoModel.from_pretrained(NAME, revision="../../x")


def test_pickles_are_refused(saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"no model\.safetensors"):
        AutoModel.from_pretrained(saved)
    (saved / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match="Pickled weights can run code"):
        AutoModel.from_pretrained(saved)
    with pytest.raises(WeightsError, match="safetensors alone"):
        AutoModel.from_pretrained(saved, use_safetensors=False)
    (saved / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(WeightsError, match="Cannot read the weights"):
        AutoModel.from_pretrained(saved)


def test_code_in_a_repository_is_not_run(saved):
    values = json.loads((saved / "config.json").read_text())
    values["auto_map"] = {"AutoModelForKeypointMatching": "evil.Model", "AutoConfig": "evil.Config"}
    (saved / "config.json").write_text(json.dumps(values))
    (saved / "evil.py").write_text("raise SystemExit('run')")
    assert is_found(saved)
    with pytest.raises(InputError, match="never runs code"):
        AutoImageProcessor.from_pretrained(saved, trust_remote_code=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 1000},
        {"descriptor_dim": 1 << 14, "num_hidden_layers": 900},
        {"keypoint_detector_config": {"encoder_hidden_sizes": [1 << 14] * 4}},
        {"num_key_value_heads": 1},
        {"attention_bias": False},
    ],
)
def test_a_configuration_that_asks_for_more_than_the_weights_have_makes_no_network(saved, changes, monkeypatch):
    values = json.loads((saved / "config.json").read_text())
    values.setdefault("keypoint_detector_config", {}).update(changes.pop("keypoint_detector_config", {}))
    (saved / "config.json").write_text(json.dumps(values | changes))
    empty = torch.empty

    def bounded(*size, **options):
        made = empty(*size, **options)
        assert made.device.type == "meta" or made.numel() < 10_000_000, "memory was taken"
        return made

    monkeypatch.setattr(torch, "empty", bounded)
    with pytest.raises(WeightsError, match="do not fit its configuration"):
        AutoModel.from_pretrained(saved)


@pytest.mark.parametrize("value", [1 << 40, 10**30, 0, -1, True, 2.5, "256", None, []])
@pytest.mark.parametrize("key", ["descriptor_dim", "num_hidden_layers", "num_attention_heads"])
def test_sizes_that_no_network_has_are_refused(saved, key, value):
    values = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(values | {key: value}))
    with pytest.raises(InputError, match="LightGlue"):
        AutoModel.from_pretrained(saved)


@pytest.mark.parametrize("sizes", [[1 << 40] * 4, [64, 64, 128], [64, 64, 128, "x"], [64, 64, 128, [1]], {}])
def test_sizes_that_no_detector_has_are_refused(sizes):
    with pytest.raises(InputError, match=r"SuperPoint|encoder_hidden_sizes"):
        LightGlueConfig.from_dict({"keypoint_detector_config": {"encoder_hidden_sizes": sizes}})


def test_thresholds_must_be_numbers(saved):
    values = json.loads((saved / "config.json").read_text())
    for text in ("NaN", "Infinity", "1" + "0" * 400):
        (saved / "config.json").write_text(
            json.dumps(values | {"filter_threshold": 0})[:-1] + f', "filter_threshold": {text}}}'
        )
        with pytest.raises(InputError, match="filter_threshold of LightGlueConfig must be a finite number"):
            AutoModel.from_pretrained(saved)


def test_a_configuration_is_read_only_if_it_is_small_and_shallow(saved):
    (saved / "config.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="not a readable JSON file"):
        AutoModel.from_pretrained(saved)
    with (saved / "config.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="more than any configuration"):
        AutoModel.from_pretrained(saved)


@pytest.mark.parametrize("commit", ["../../outside", "/outside", ".."])
def test_the_cache_leads_to_no_file_outside_of_it(saved, tmp_path, commit):
    """A branch names its commit in a file, which may say anything."""
    repository = tmp_path / "hf" / "hub" / f"models--{NAME.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "snapshots" / "c0ffee").mkdir(parents=True)
    saved.rename(repository / "outside")
    (repository / "refs" / "main").write_text(commit)
    with pytest.raises(WeightsError, match="not on this computer"):
        is_found()


def test_the_published_model_is_put_together(tmp_path, monkeypatch):
    """Of weights in the original layout: SuperPoint's and LightGlue's own files, as `lgsfm.weights` finds them."""
    torch.manual_seed(0)
    expected = AutoModel.from_config(LightGlueConfig())
    detector = SuperPoint()
    matcher = {k: v for k, v in expected.state_dict().items() if not k.startswith("keypoint_detector.")}
    files = {"lightglue-superpoint": matcher, "superpoint": detector.state_dict()}
    asked = []
    monkeypatch.setattr(weights, "fetch", lambda model, offline: asked.append((model, offline)) or model)
    monkeypatch.setattr(weights, "load", files.__getitem__)
    model = AutoModel.from_pretrained("ETH-CVG/lightglue_superpoint", local_files_only=True)
    assert asked == [("lightglue-superpoint", True), ("superpoint", True)]
    assert model.config.to_dict() | {"dtype": None} == LightGlueConfig().to_dict() | {"dtype": None}
    assert torch.equal(model.keypoint_detector.network.convDb.weight, detector.convDb.weight)
    files["lightglue-superpoint"] = expected.state_dict()  # the safetensors file holds both
    whole = AutoModel.from_pretrained("ETH-CVG/lightglue_superpoint")
    assert asked[2:] == [("lightglue-superpoint", False)]
    assert torch.equal(whole.keypoint_detector.network.convDb.weight, expected.keypoint_detector.network.convDb.weight)
    processor = AutoImageProcessor.from_pretrained("ETH-CVG/lightglue_superpoint")
    assert (processor.size, processor.do_grayscale) == ({"height": 480, "width": 640}, True)


def test_missing_published_weights_are_named():
    with pytest.raises(WeightsError, match=r"superpoint_lightglue\.pth"):
        AutoModel.from_pretrained("ETH-CVG/lightglue_superpoint")


def test_writing_nowhere(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write"):
        LightGlueConfig().save_pretrained(tmp_path / "file")
