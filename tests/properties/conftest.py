"""Properties: what must hold for any input, tried by hypothesis on inputs that it makes up.

The gate tries the same few examples each time. To look for more, say how many of each::

    LGSFM_EXAMPLES=2000 python -m pytest tests/properties

A failing example is printed in its smallest form; the fix gets a plain test with it in the tests of the module.
"""

import os

import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, Phase, settings

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much]  # the machine's speed says nothing about the code
PHASES = [Phase.explicit, Phase.generate]
examples = int(os.environ.get("LGSFM_EXAMPLES") or 0)
settings.register_profile(
    "lgsfm",
    database=None,
    deadline=None,
    derandomize=not examples,
    max_examples=examples or 40,
    phases=PHASES if os.environ.get("LGSFM_NO_SHRINKING") else [*PHASES, Phase.shrink],
    suppress_health_check=SLOW,
)
settings.load_profile("lgsfm")
