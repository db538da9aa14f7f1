"""Configurations: the documented names and defaults, strict arguments, files of and for transformers."""

import json

import pytest
import transformers

from lgsfm.errors import InputError, WeightsError
from lgsfm.hf import AlikedConfig, AutoConfig, LightGlueConfig, SuperPointConfig

PAIRS = [(LightGlueConfig, transformers.LightGlueConfig), (SuperPointConfig, transformers.SuperPointConfig)]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_names_and_defaults_are_those_of_transformers(ours, theirs):
    mine, reference = ours().to_dict(), theirs().to_dict()
    mine.pop("architectures", None)
    detector = mine.pop("keypoint_detector_config", None)
    assert {name: reference[name] for name in mine} == mine
    if detector:
        expected = reference["keypoint_detector_config"]
        assert {name: expected[name] for name in detector} == detector


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_files_go_both_ways(ours, theirs, tmp_path):
    theirs(initializer_range=0.5).save_pretrained(tmp_path / "theirs")
    read = ours.from_pretrained(tmp_path / "theirs")
    assert read == ours(initializer_range=0.5)
    read.save_pretrained(tmp_path / "ours")
    assert theirs.from_pretrained(tmp_path / "ours").initializer_range == 0.5
    assert AutoConfig.from_pretrained(tmp_path / "ours") == read
    assert ours.from_dict(json.loads(read.to_json_string())) == read


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LightGlueConfig(depth_confidense=1.0), "Did you mean 'depth_confidence'"),
        (lambda: LightGlueConfig.from_dict({"num_layers": 9}), "Available: .*num_hidden_layers"),
        (lambda: SuperPointConfig(nms=4), "Available: .*nms_radius"),
        (lambda: LightGlueConfig(keypoint_detector_config={"max_keypoint": 1}), "Did you mean 'max_keypoints'"),
        (lambda: LightGlueConfig(keypoint_detector_config={"model_type": "disk"}), "Available: aliked, superpoint"),
        (lambda: LightGlueConfig(trust_remote_code=True), "never runs code"),
        (lambda: LightGlueConfig(descriptor_dim="256"), "must be int"),
        (lambda: LightGlueConfig(attention_bias=None), "must be bool"),
        (lambda: LightGlueConfig(num_hidden_layers=True), "must be int"),
        (lambda: LightGlueConfig(descriptor_dim=100, num_attention_heads=3), "multiple of 2"),
        (lambda: LightGlueConfig(num_key_value_heads=3), "multiple of num_key_value_heads"),
        (lambda: LightGlueConfig(num_hidden_layers=0), "at least 1"),
        (lambda: LightGlueConfig(dtype="int8"), "Available: bfloat16"),
        (lambda: LightGlueConfig(model_type="superglue"), "of a 'superglue' model"),
        (lambda: SuperPointConfig(encoder_hidden_sizes=[64, 64]), "four encoder_hidden_sizes"),
        (lambda: AlikedConfig(variant="n16"), "Available: aliked-n16"),
        (lambda: AlikedConfig(variant="aliked-t16"), "have 64 dimensions"),
    ],
)
def test_impossible_arguments_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_what_transformers_writes_loads_and_the_rest_is_warned_of(tmp_path, caplog):
    values = transformers.LightGlueConfig().to_dict() | {
        "auto_map": {"AutoModel": "evil.Model"},
        "torch_dtype": "float16",
        "_commit_hash": "abc",
        "depth_confidense": 0.5,
    }
    del values["dtype"]
    values["keypoint_detector_config"]["add_cross_attention"] = False  # older versions write all they know
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert LightGlueConfig.from_pretrained(tmp_path).dtype == "float16"
    assert "depth_confidense" in caplog.text
    assert "add_cross_attention" in caplog.text
    assert "auto_map" not in caplog.text
    assert LightGlueConfig.from_pretrained(tmp_path, filter_threshold=0.3).filter_threshold == 0.3


def test_unreadable_files(tmp_path):
    with pytest.raises(WeightsError, match=r"no config\.json in"):
        LightGlueConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[1")
    with pytest.raises(InputError, match="not a readable JSON file"):
        LightGlueConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="Unknown model type 'bert'"):
        AutoConfig.from_pretrained(tmp_path)


def test_sizes_follow():
    config = LightGlueConfig(descriptor_dim=128)
    assert (config.hidden_size, config.intermediate_size, config.num_key_value_heads) == (128, 256, 4)
    assert isinstance(config.keypoint_detector_config, SuperPointConfig)
