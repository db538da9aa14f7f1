import json
from dataclasses import FrozenInstanceError, dataclass

import pytest

from lgsfm.errors import InputError
from lgsfm.options import Options, digest, option


@dataclass(frozen=True, kw_only=True)
class Sample(Options):
    ratio: float = option(0.9, "help", minimum=0, maximum=1)
    count: int = option(5, "help", minimum=1)
    mode: str = option("fast", "help", choices=("fast", "exact"))
    loud: bool = option(False, "help")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ratio": 2}, "ratio must be at most 1, not 2"),
        ({"count": 0}, "count must be at least 1, not 0"),
        ({"ratio": float("nan")}, "ratio must be a finite number"),
        ({"ratio": "0.5"}, "ratio must be float, not '0.5'"),
        ({"count": 1.5}, "count must be int, not 1.5"),
        ({"count": True}, "count must be int, not True"),
        ({"loud": 1}, "loud must be bool, not 1"),
        ({"mode": "fsat"}, "mode: 'fsat'. Available: exact, fast. Did you mean 'fast'"),
        ({"rtaio": 0.5}, "'rtaio'. Available: count, loud, mode, ratio. Did you mean 'ratio'"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(InputError) as caught:
        Sample.from_dict(values)
    assert message in str(caught.value)


def test_bounds_are_inclusive():
    assert (Sample(ratio=0).ratio, Sample(ratio=1).ratio, Sample(count=1).count) == (0, 1, 1)


def test_dictionary_round_trip_through_json():
    sample = Sample(ratio=0.25, mode="exact", loud=True)
    assert Sample.from_dict(json.loads(json.dumps(sample.to_dict()))) == sample


def test_options_cannot_change_after_the_check():
    with pytest.raises(FrozenInstanceError):
        Sample().ratio = 7


def test_digest_depends_on_the_meaning_only():
    """An int for a float, or another order, must not make a second cache file; any other value must."""
    assert digest(Sample(ratio=1).to_dict()) == digest(Sample(ratio=1.0).to_dict())
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    others = [Sample(), Sample(ratio=0.89), Sample(count=6), Sample(mode="exact"), Sample(loud=True)]
    assert len({digest(other.to_dict()) for other in others}) == len(others)
    assert digest("é 中") == "9145b1d81bae"  # cache files of the past stay valid
