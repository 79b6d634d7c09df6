"""Racing: which of several questions to put to a black box, when every mini-batch of rows costs a call.

    arm m      a prompt; its scores on a mini-batch of rows cost one call
    PRESS_m    (1/n) sum_i |y_i - f_-i|^2 of kernel ridge on its scores alone, lambda = 1     [A1]: [R2] to [R4]
    a round    all arms answer the first mini-batch; the better half, never fewer than `keep`, the next; ...    [A2]
    together   K = (1/M) sum_m K_m over the kept arms: no parameter is added                                    [A3]

Rows come in an order that has all classes in every stretch, so the first mini-batch is a small copy of the whole. Of an
arm whose prompt shows some rows' labels (demonstrations) these rows are never asked, nor copies of their texts. PRESS
ranks arms of one kind. It does not compare kinds: it prefers demonstrations where they lose (docs/auto.md).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from zopog_ref.arrays import FLOAT64, INT64
from zopog_ref.ledger import Ledger
from zopog_ref.linear_fits import kernel_ridge
from zopog_ref.objective import Loss
from zopog_ref.randomness import Purpose, permutation
from zopog_ref.readout_kernel import kernel_of

__all__ = ["Race", "TextObjective", "affordable", "cost", "press", "spread", "survivors"]

Ask = Callable[[int, INT64], FLOAT64]  # (arm, rows) -> scores (rows, T_arm), label words first; it charges the calls


def press(scores: Sequence[FLOAT64], labels: INT64, n_classes: int, groups: INT64) -> FLOAT64:
    """Squared left-out error of every row [A1], (n,), of the averaged kernel of these scores; inf of one text alone."""
    if len(np.unique(groups)) < 2:
        return np.full(len(labels), np.inf)
    targets = np.eye(n_classes)[labels]
    left_out = kernel_ridge(kernel_of(scores, n_classes), targets, 1.0, groups).left_out
    return np.asarray(((left_out - targets) ** 2).sum(axis=1))


def spread(labels: INT64, seed: int) -> INT64:
    """An order of the rows (n,) in which the classes take turns, as long as they have rows."""
    order = permutation(seed, 0, Purpose.DEMONSTRATIONS, len(labels))
    turn = np.empty(len(labels), np.int64)
    for c in np.unique(labels):
        mine = np.flatnonzero(labels[order] == c)
        turn[mine] = np.arange(len(mine))
    return order[np.argsort(turn, kind="stable")]


def survivors(alive: int, keep: int) -> int:
    """How many of the arms answer the next mini-batch [A2]."""
    return min(alive, max(keep, -(-alive // 2)))


def cost(arms: int, keep: int, blocks: int) -> int:
    """Calls of a round."""
    calls = 0
    for _ in range(blocks):
        calls += arms
        arms = survivors(arms, keep)
    return calls


def affordable(arms: int, keep: int, blocks: int, left: int) -> int:
    """How many of the arms can start, for all of a round to cost at most `left` calls."""
    return next((count for count in range(arms, 0, -1) if cost(count, keep, blocks) <= left), 0)


class Race:
    """The arms' scores on the training rows, as far as they were asked for.

    Parameters:

    - labels: (n,), the rows' classes in 0..n_classes - 1; groups: (n,), rows of equal text have equal entries.
    - batch_size: rows of a call; at least 1.
    - ask: asks for, and pays for, the scores of some rows.
    - seed: of the rows' order.
    """

    def __init__(self, labels: INT64, n_classes: int, groups: INT64, batch_size: int, ask: Ask, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.labels, self.n_classes, self.groups = labels, n_classes, groups
        self.batch_size, self.ask = batch_size, ask
        self.order = spread(labels, seed)
        self.rows: dict[int, INT64] = {}  # of each arm, in the order in which they were asked
        self._scores: dict[int, list[FLOAT64]] = {}

    def allowed(self, own: Sequence[int] = ()) -> INT64:
        """The rows in their order, without `own` and the copies of their texts."""
        return self.order[~np.isin(self.groups[self.order], self.groups[list(own)])]

    def blocks(self, own: Sequence[int] = ()) -> int:
        """Mini-batches of the allowed rows: what a whole arm costs."""
        return -(-len(self.allowed(own)) // self.batch_size)

    def missing(self, arm: int, rows: INT64) -> INT64:
        """Those of the rows that the arm was not asked about."""
        return rows[~np.isin(rows, self.rows[arm])] if arm in self.rows else rows

    def answer(self, arm: int, rows: INT64) -> None:
        """Ask the arm about those of the rows that it was not asked about; of none left, nothing."""
        if len(more := self.missing(arm, rows)):
            self._scores.setdefault(arm, []).append(self.ask(arm, more))
            self.rows[arm] = np.concatenate([self.rows.get(arm, more[:0]), more])

    def go_on(self, arm: int, own: Sequence[int] = ()) -> None:
        """Ask for the arm's next mini-batch."""
        self.answer(arm, self.missing(arm, self.allowed(own))[: self.batch_size])

    def scores(self, arm: int, rows: INT64) -> FLOAT64:
        """(rows, T) of rows that were asked. Errors: ValueError for others."""
        place = np.full(len(self.labels), -1)
        place[self.rows[arm]] = np.arange(len(self.rows[arm]))
        if (place[rows] < 0).any():
            raise ValueError(f"arm {arm} was not asked about {int((place[rows] < 0).sum())} of these rows")
        return np.concatenate(self._scores[arm])[place[rows]]

    def common(self, arms: Sequence[int]) -> INT64:
        """The rows that every one of the arms was asked about, ascending."""
        return np.array(sorted(set.intersection(*(set(self.rows[arm].tolist()) for arm in arms))), np.int64)

    def press(self, arms: Sequence[int], rows: INT64 | None = None) -> FLOAT64:
        """[A1] of the arms read together [A3], of each row that all were asked about, or of these rows."""
        rows = self.common(arms) if rows is None else rows
        given = [self.scores(arm, rows) for arm in arms]
        return press(given, self.labels[rows], self.n_classes, self.groups[rows])

    def ranked(self, arms: Sequence[int]) -> list[int]:
        """The arms, the least PRESS first; of equals the earlier one."""
        return sorted(arms, key=lambda arm: float(self.press([arm]).mean()))

    def run(self, arms: Sequence[int], own: Mapping[int, Sequence[int]], keep: int, left: int) -> list[int]:
        """A round [A2] of at most `left` calls: the arms that answered all their rows, the least PRESS first.

        Arms start in their order, as many as can be paid to the end; none where not one can.
        """
        blocks = max((self.blocks(own.get(arm, ())) for arm in arms), default=0)
        alive = list(arms[: affordable(len(arms), keep, blocks, left)])
        for _ in range(blocks):
            for arm in alive:
                if len(self.rows.get(arm, ())) < len(self.allowed(own.get(arm, ()))):
                    self.go_on(arm, own.get(arm, ()))
            alive = self.ranked(alive)[: survivors(len(alive), keep)]
        return alive


class TextObjective:
    """The arms of a race as the prompts of a method: tokens that are whole texts, and z that says nothing.

    E_t l(t; B) is what a policy descends, with l the mean of [A1] over a mini-batch B of prompt t's own scores there.

    A prompt (n,) names a text for each of n positions: a template, what stands in front of it. Repeated questions are
    answered by the race, which pays nothing for them. Rows that a prompt shows are not asked of it: their losses are
    the mean of the others', so that the mean is that of the rows that were asked.

    Parameters:

    - race: asks, pays, and holds the answers.
    - arms: (N_1, .., N_n) numbers of the arms. Methods have equally many candidates at all positions: N = max N_i, and
      token j of position i stands for text j mod N_i.
    - ledger: the one that the race's `ask` charges.
    - own: of an arm, the rows that it shows. Default: none.
    - loss: of the label words' scores (B, C) and classes (B,), such as objective.cross_entropy. Default: None, [A1].
    """

    def __init__(
        self, race: Race, arms: INT64, ledger: Ledger, own: Mapping[int, Sequence[int]] | None = None,
        loss: Loss | None = None,
    ) -> None:  # fmt: skip
        self.race, self.arms, self.ledger, self.own, self.loss = race, arms, ledger, own or {}, loss

    def losses(self, tokens: INT64, z: FLOAT64, examples: INT64) -> FLOAT64:
        """(K, B); see Objective. Errors: ValueError where a prompt shows all of the rows."""
        return np.stack([self._losses(int(self.arms[tuple(t % self.arms.shape)]), examples) for t in tokens])

    def _losses(self, arm: int, examples: INT64) -> FLOAT64:
        asked = np.isin(examples, self.race.allowed(self.own.get(arm, ())))
        rows = examples[asked]
        if not len(rows):
            raise ValueError(f"arm {arm} shows all of the {len(examples)} rows: ask about more at once")
        self.race.answer(arm, rows)
        if self.loss is None:
            found = self.race.press([arm], rows)
        else:
            found = self.loss(self.race.scores(arm, rows)[:, : self.race.n_classes], self.race.labels[rows])
        answer = np.full(len(examples), found.mean())
        answer[asked] = found
        return answer
