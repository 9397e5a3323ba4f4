"""How many inputs hypothesis draws: few and the same in `make test`, new ones for as long as asked in a soak."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy
from soak_table import Tally

SECONDS = float(os.environ.get("EMOZOO_FUZZ_SECONDS", "600"))  # for each kind of file in the long run
_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
quick = settings(
    derandomize=True,
    max_examples=40,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=_CHECKS,
)
_FRESH = settings(
    max_examples=300, deadline=None, database=None, suppress_health_check=_CHECKS, phases=[Phase.generate, Phase.shrink]
)


def soak(case: Callable[[Any], object], inputs: SearchStrategy[Any], tally: Tally, seconds: float) -> None:
    """Draws inputs for so many seconds, others in each round, and counts them.

    The smallest input that fails is in the error: it belongs into the quick suite, as an ``@example``.
    """
    round_ = tally.seed
    end = time.monotonic() + seconds

    def one(x: Any) -> None:
        case(x)
        tally.survived += 1

    while time.monotonic() < end:
        round_ += 1
        try:
            seed(round_)(_FRESH(given(inputs)(one)))()
        except BaseException:
            tally.lost += 1
            raise
        tally.memory(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024))
