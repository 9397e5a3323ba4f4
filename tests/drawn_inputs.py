"""How many inputs hypothesis draws: few and the same in `make test`, new ones for as long as asked in a soak."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

SECONDS = float(os.environ.get("EMOZOO_FUZZ_SECONDS", "60"))  # for each case of the slow suite
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


def soak(case: Callable[[Any], object], inputs: SearchStrategy[Any]) -> int:
    """Draws inputs for ``EMOZOO_FUZZ_SECONDS`` seconds, others in each round; returns how many were tried.

    The smallest input that fails is in the error: it belongs into the quick suite, as an ``@example``.
    """
    tried, round_ = 0, time.time_ns() % 1_000_000
    end = time.monotonic() + SECONDS

    def one(x: Any) -> None:
        nonlocal tried
        tried += 1
        case(x)

    while time.monotonic() < end:
        round_ += 1
        seed(round_)(_FRESH(given(inputs)(one)))()
    return tried
