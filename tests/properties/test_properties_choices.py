"""Options, flags, hashes, camera rules, records: what is said is what is kept."""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import NAMES, PHOTOS, pair_lists

from lgsfm.camera_rules import CameraRule, read_rules, rules_digest
from lgsfm.cli.flags import add_flags, given_flags
from lgsfm.database import VerificationOptions
from lgsfm.database_reading import DatabaseReport
from lgsfm.database_record import DatabaseContent, DatabaseRecord
from lgsfm.errors import InputError
from lgsfm.extractors.sift import SiftOptions
from lgsfm.files import read_json, write_json
from lgsfm.healing import Budget, parse_budget
from lgsfm.mapping import MappingOptions
from lgsfm.matchers.nearest import NearestOptions
from lgsfm.options import Options, digest
from lgsfm.pairing import PairOptions
from lgsfm.settings import Settings, flag_fields
from lgsfm.summary import Summary
from lgsfm.two_view import TwoViewOptions

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
CLASSES = [SiftOptions, NearestOptions, PairOptions, VerificationOptions, MappingOptions, TwoViewOptions]
ARGUMENT = TEXT.filter(lambda text: "\0" not in text)  # which no system hands to a program
FREE_TEXT = {"pairs", "covisibility_model", "masks", "camera_mask", "cameras", "weights_dir"}


# --------------------------------------------------------------------------------- options and hashes
def values_of(field: dataclasses.Field, value_type: type) -> st.SearchStrategy:
    """Valid values of an options field, by what the field says of them."""
    meta = field.metadata
    low, high = meta.get("minimum"), meta.get("maximum")
    if meta.get("choices"):
        return st.sampled_from(meta["choices"])
    if value_type is bool:
        return st.booleans()
    if value_type is int:
        low = 0 if low is None else int(low)
        return st.integers(low, int(high) if high is not None else low + 5000)
    if value_type is float:
        low = 0.0 if low is None else low
        return st.floats(low, high if high is not None else low + 1e6)
    return st.just(field.default)


def option_sets(options: type[Options]) -> st.SearchStrategy[dict]:
    fields = {field.name: values_of(field, value_type) for field, value_type in options.fields()}
    return st.fixed_dictionaries({}, optional=fields)


def made(options: type[Options], values: dict) -> Options | None:
    """The options, or None where values that are valid each exclude each other."""
    try:
        return options.from_dict(values)
    except InputError:
        return None


@given(st.sampled_from(CLASSES).flatmap(lambda kind: st.tuples(st.just(kind), option_sets(kind), option_sets(kind))))
def test_options_survive_json_and_their_hash_tells_them_apart(drawn):
    kind, values, others = drawn
    first, second = made(kind, values), made(kind, others)
    for options in filter(None, (first, second)):
        assert kind.from_dict(json.loads(json.dumps(options.to_dict()))) == options
        turned = dict(reversed(options.to_dict().items()))
        assert digest(turned) == digest(options.to_dict())
    if first and second:
        assert (digest(first.to_dict()) == digest(second.to_dict())) == (first == second)


@given(
    st.sampled_from(CLASSES).flatmap(lambda kind: st.tuples(st.just(kind), st.sampled_from(list(kind.fields())))),
    st.data(),
)
def test_a_value_out_of_bounds_is_refused_by_name(drawn, data):
    kind, (field, value_type) = drawn
    low, high = field.metadata.get("minimum"), field.metadata.get("maximum")
    wrong = [st.just([])] if value_type in (bool, str) else [st.just("1"), st.just(True)]
    if value_type is float:
        wrong += [st.sampled_from([float("nan"), float("inf")])]
    if value_type in (int, float) and low is not None:
        wrong += [st.floats(1e-6, 1e6).map(lambda less: value_type(low - less - (value_type is int)))]
    if value_type in (int, float) and high is not None:
        wrong += [st.floats(1e-6, 1e6).map(lambda more: value_type(high + more + (value_type is int)))]
    with pytest.raises(InputError, match=field.name):
        kind.from_dict({field.name: data.draw(st.one_of(wrong))})


@given(JSON, JSON)
def test_hashes_are_equal_where_the_json_is(first, second):
    assert digest(first) == digest(json.loads(json.dumps(first)))
    if json.dumps(first, sort_keys=True) != json.dumps(second, sort_keys=True):
        assert digest(first) != digest(second)


FLAGS = {flag.field.name: flag for flag in flag_fields(Settings)}
FLAG_VALUES = st.fixed_dictionaries(
    {},
    optional={
        name: ARGUMENT if name in FREE_TEXT - {"pairs"} else values_of(flag.field, flag.value_type)
        for name, flag in FLAGS.items()
        if name not in ("budget", "device")
    },
)


@given(FLAG_VALUES)
def test_flags_come_back_from_the_command_line(values):
    parser = argparse.ArgumentParser()
    add_flags(parser, Settings)
    line = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        line.append(f"--{'' if value else 'no-'}{flag}" if isinstance(value, bool) else f"--{flag}={value}")
    found = given_flags(parser.parse_args(line), Settings)
    assert found.keys() == values.keys()
    for name, value in values.items():
        if name in FREE_TEXT and value and name not in ("pairs", "weights_dir"):
            assert found[name] == str(Path(value).resolve())
        else:
            assert found[name] == value


# --------------------------------------------------------------------------------- budgets
@given(
    st.floats(0, 1e6).map(lambda value: round(value, 3)),
    st.sampled_from(["", "%", "s", "min", "h"]),
    st.integers(0, 10**6),
)
def test_a_budget_is_read_and_spent(value, unit, num_pairs):
    text = f"{value:.3f}{unit}"
    budget = parse_budget(f" {text.upper()} ", num_pairs)
    seconds = {"s": 1, "min": 60, "h": 3600}
    if unit in seconds:
        assert budget == Budget(seconds=pytest.approx(value * seconds[unit]))
        assert budget.left(2.0) == min(int(budget.seconds / 2), 1_000_000)
    else:
        assert budget == Budget(pairs=pytest.approx(value * (num_pairs / 100 if unit == "%" else 1)))
        assert budget.left(2.0) == min(int(budget.pairs), 1_000_000)
    rest = budget.spent(10, 30.0)
    assert 0 <= rest.left(1.0) <= budget.left(1.0)
    assert budget.spent(2e12, 4e12).left(1.0) == 0


# --------------------------------------------------------------------------------- rules of cameras
POSITIVE = st.floats(1e-3, 1e5)
RULES = st.fixed_dictionaries(
    {"images": st.one_of(NAMES, st.lists(NAMES, min_size=1, max_size=3))},
    optional={
        "size": st.lists(st.integers(1, 9000), min_size=2, max_size=2),
        "model": st.sampled_from(["OPENCV", "opencv", "Simple_Radial"]),
        "focal_px": POSITIVE,
        "shared": st.booleans(),
        "trusted": st.booleans(),
    },
)


def written(content: object, folder: str) -> Path:
    path = Path(folder) / "cameras.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@given(st.lists(RULES, max_size=3))
def test_rules_are_read_as_they_are_written(rules):
    with tempfile.TemporaryDirectory() as folder:
        path = written(rules, folder)
        found = read_rules(path)
        again = written([dict(reversed(rule.items())) for rule in rules], folder)
        before = rules_digest(str(again))
        assert before == rules_digest(str(written(rules, folder)))
        assert before != rules_digest(str(written([*rules, {"images": "another"}], folder)))
    for number, (rule, wanted) in enumerate(zip(found, rules, strict=True), start=1):
        images = wanted["images"]
        size = tuple(wanted["size"]) if "size" in wanted else None
        patterns = (images,) if isinstance(images, str) else tuple(images)
        model, focal = wanted.get("model", "").upper(), wanted.get("focal_px")
        expected = CameraRule(
            path, number, patterns, size, model, (), focal, wanted.get("shared"), wanted.get("trusted")
        )
        assert rule == expected


@given(NAMES, st.lists(NAMES, max_size=4))
def test_a_rule_fits_its_own_name_and_all_below_its_folder(name, others):
    for pattern in (name, f"{name}/"):
        rule = CameraRule(Path("rules.json"), 1, (pattern,))
        assert rule.fits(f"{name}/{others[0] if others else 'a.jpg'}", (9, 9))
    rule = CameraRule(Path("rules.json"), 1, (name,), size=(3, 4))
    assert rule.fits(name, (3, 4))
    assert not rule.fits(name, (4, 3))
    assert CameraRule(Path("rules.json"), 1, ("*",)).fits(name, None)
    literal = not set("*?[") & set(name)
    for other in others:
        if literal:
            below = other == name or other.startswith(f"{name}/")
            assert CameraRule(Path("rules.json"), 1, (name,)).fits(other, None) == below


def rules_or_error(content: object) -> tuple[list[CameraRule], str]:
    """The rules, or what people are told: never an error of Python, whatever the file says."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return read_rules(written(content, folder)), ""
        except InputError as exc:
            return [], str(exc)


@given(JSON)
def test_other_json_is_an_error_for_people(content):
    rules, error = rules_or_error(content)
    if error:
        assert "cameras.json" in error
    else:
        assert isinstance(content, list)
        assert len(rules) == len(content)


@given(RULES, st.sampled_from(["size", "model", "focal_px", "shared", "trusted", "images", "params"]), JSON)
def test_other_values_in_a_rule_are_errors_that_name_the_key(rule, key, value):
    rules, error = rules_or_error([{**rule, key: value}])
    assert len(rules) == (not error)
    if error:
        assert "rule 1" in error
        assert f"'{key}'" in error or key == "params"


# --------------------------------------------------------------------------------- records
@given(st.dictionaries(TEXT, JSON))
@example({"\r": "\r\n\u2028\x00"})
def test_json_files_hold_what_was_written(content):
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "a.json", content)
        assert read_json(Path(folder) / "a.json") == content
        assert [path.name for path in Path(folder).iterdir()] == ["a.json"]


@given(st.binary(max_size=60))
def test_a_damaged_json_file_counts_as_none(data):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.json").write_bytes(data)
        assert isinstance(read_json(Path(folder) / "a.json"), dict)


ROWS = {"int": st.integers(0, 99), "float": st.floats(0, 99), "str": TEXT, "list[str]": st.lists(PHOTOS, max_size=3)}


@given(st.fixed_dictionaries({f.name: ROWS[f.type] for f in dataclasses.fields(Summary) if f.type in ROWS}))
def test_a_summary_takes_over_what_was_written(values):
    with tempfile.TemporaryDirectory() as folder:
        written_one = Summary(**values)
        written_one.write(Path(folder) / "summary.json")
        found = Summary(values["image_dir"], values["output"], values["num_images"])
        found.adopt(Path(folder) / "summary.json")
    assert found == written_one


@st.composite
def contents(draw: st.DrawFn) -> DatabaseContent:
    names, pairs = draw(pair_lists(PHOTOS, max_size=5))
    images = {name: draw(st.sampled_from(["h0", "h1"])) for name in names}
    finer = {pair: "f" for pair in pairs if draw(st.integers(0, 3)) == 0}
    return DatabaseContent(
        images, pairs, finer, draw(st.sampled_from(["o", "p"])), draw(st.sampled_from(["off", "drop"]))
    )


@given(contents(), contents(), st.data())
def test_a_database_keeps_just_the_pairs_that_would_be_made_again(old, new, data):
    """The second content has some of the images of the first, some of them with other features."""
    keep = {name: image for name, image in old.images.items() if data.draw(st.booleans())}
    changed = {name: data.draw(st.sampled_from([image, "h2"])) for name, image in keep.items()}
    new = dataclasses.replace(new, images={**new.images, **changed}, pairs=sorted({*new.pairs, *old.pairs}))
    dropped = [pair for pair in old.pairs if data.draw(st.integers(0, 4)) == 0]
    record = DatabaseRecord(
        old.identity,
        "p",
        {each.name: 0 for each in dataclasses.fields(DatabaseReport)},
        images=dict(old.images),
        finer=sorted(map(list, old.finer)),
        origin=old.origin,
        dropped=[list(pair) for pair in dropped],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "database.json"
        record.write(path)
        record = DatabaseRecord.read(path)
    expected = {
        pair
        for pair in new.pairs
        if old.origin == new.origin
        and all(old.images.get(name) is not None and old.images.get(name) == new.images.get(name) for name in pair)
        and pair not in old.finer
        and pair not in new.finer
        and pair not in dropped
    }
    assert record.kept_pairs(new) == expected


@given(contents(), contents())
def test_the_identity_of_a_content_is_its_meaning(first, second):
    turned = dataclasses.replace(first, images=dict(reversed(first.images.items())), pairs=first.pairs[::-1])
    assert turned.identity == first.identity
    is_same = dataclasses.astuple(first) == dataclasses.astuple(second)
    if not is_same and (sorted(first.images.items()), *dataclasses.astuple(first)[1:]) != (
        sorted(second.images.items()),
        *dataclasses.astuple(second)[1:],
    ):
        assert first.identity != second.identity
