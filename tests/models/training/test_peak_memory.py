import mmap

import numpy as np
import pytest

from models.training.peak_memory import forget_peak, peak_mib


def test_the_peak_counts_what_was_released_until_it_is_forgotten() -> None:
    if not forget_peak():
        pytest.skip("this system keeps the peak of the process")
    before = peak_mib()
    # A mapping of its own: what the allocator has kept from other tests is resident already.
    with mmap.mmap(-1, 64 * 2**20) as held:
        np.frombuffer(held, np.uint8)[:] = 1
    assert peak_mib() > before + 50.0
    forget_peak()
    assert peak_mib() < before + 30.0
