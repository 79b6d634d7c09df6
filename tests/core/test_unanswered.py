"""A row without an answer, the same score for every class: wrong under the error loss, log C in nats, moves no readout."""

import numpy as np
import pytest

from zopog_ref.linear_fits import softmax
from zopog_ref.objective import cross_entropy, error, unanswered
from zopog_ref.read_loss import features, plain, refit
from zopog_ref.readout import KINDS, choose

SILENT = float(np.float32(-np.log(3)))


def test_wrong_whatever_its_class_and_log_c_nats() -> None:
    scores = np.array([[SILENT] * 3, [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]], np.float32)
    assert unanswered(scores).tolist() == [True, False, False]
    for label, wrong in ((0, [1, 0, 1]), (1, [1, 1, 0]), (2, [1, 1, 1])):  # a tie of some still goes to the first
        assert error(scores, np.full(3, label)).tolist() == wrong
        assert cross_entropy(scores, np.full(3, label))[0] == pytest.approx(np.log(3), abs=1e-7)
    assert not unanswered(np.zeros((4, 1))).any()  # a class alone has no other


def test_a_readout_in_the_objective_learns_nothing_from_it() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(20, 3)), rng.integers(0, 3, 20)
    theta = refit(plain(3), features(scores), labels, 20, 1.0)
    more = features(np.vstack([scores, np.full((5, 3), SILENT)]))
    assert not more[20:].any()
    again = refit(plain(3), more, np.append(labels, [0] * 5), 25, 1.0)
    np.testing.assert_allclose(again, theta, atol=1e-8)
    np.testing.assert_allclose(softmax(more[20:] @ theta), 1 / 3, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_no_readout_gives_it_a_label(kind: str) -> None:
    rng = np.random.default_rng(1)
    labels = np.array([0] * 16 + [1] * 4)  # a bias that says 0
    scores = [rng.normal(size=(20, 6)) + np.eye(2, 6)[labels] for _ in range(2)]
    readout = choose(scores, labels, 2, kinds=(kind,)).fit.readout  # type: ignore[arg-type]
    asked = [s if kind == "vocabulary" else s[:, :2] for s in scores]
    before = readout.predict(asked)
    one, both = [s.copy() for s in asked], [s.copy() for s in asked]
    one[0][0] = both[0][0] = both[1][0] = SILENT
    assert readout.predict(both)[0].tolist() == [0.5, 0.5]
    assert readout.predict(one)[0].tolist() != [0.5, 0.5]  # the other prompt speaks
    np.testing.assert_array_equal(readout.predict(both)[1:], before[1:])
