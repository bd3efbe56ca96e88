from pathlib import Path

import numpy as np
import pytest

from models.feature_domain import FeatureDomain, fitted_domain, left_out_distances, read_domain, write_domain
from models.weights import WeightsError

RNG = np.random.default_rng(5)
TRAINING = [RNG.normal(1.0, 2.0, 16).astype(np.float32) for _ in range(200)]


def test_training_images_lie_about_one_from_their_domain_and_others_further() -> None:
    domain = fitted_domain(TRAINING)
    assert np.median([domain.distance(one) for one in TRAINING]) == pytest.approx(1.0, abs=0.15)
    assert domain.distance(np.full(16, 9.0, np.float32)) == pytest.approx(4.0, rel=0.2)


def test_an_image_is_further_from_the_others_than_from_all() -> None:
    few = TRAINING[:20]
    assert left_out_distances(few).mean() > np.mean([fitted_domain(few).distance(one) for one in few])


def test_a_domain_is_read_as_it_was_written_and_refused_when_altered(tmp_path: Path) -> None:
    path, domain = tmp_path / "tiny.domain", fitted_domain(TRAINING)
    sha256 = write_domain(path, domain)
    assert np.array_equal(read_domain(path, sha256).precision, domain.precision)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(WeightsError, match="not the one"):
        read_domain(path, sha256)
    with pytest.raises(WeightsError, match="can not be read"):
        read_domain(tmp_path / "none.domain", sha256)


def test_a_distance_is_mahalanobis() -> None:
    domain = FeatureDomain(np.zeros(2, np.float32), np.diag([1.0, 0.25]).astype(np.float32))
    assert domain.distance(np.array([0.0, 4.0], np.float32)) == pytest.approx(np.sqrt(4.0 / 2.0))
