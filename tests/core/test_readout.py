"""The readout: each kind against its formula and against refits, the attacks, and what a file keeps of it."""

import json

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from zopog_ref import readout as module
from zopog_ref.linear_fits import log_softmax, logistic, smoothed, softmax, temperature
from zopog_ref.readout import DOUBT, KINDS, LEVEL, Readout, centred, choose, labels, likely_tokens, none, vocabulary

C, N, T = 3, 30, 40


def box(
    n: int = N,
    classes: int = C,
    width: int = T,
    seed: int = 0,
    prompts: int = 2,
    words: float = 1.0,
    tokens: float = 1.0,
):
    """Scores of M prompts, label words first, that tell the classes as loudly as asked; biased words; labels."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    code = rng.normal(size=(classes, width - classes))
    scores = []
    for _ in range(prompts):
        word = rng.normal(size=(n, classes)) + words * np.eye(classes)[y] + 3.0 * np.arange(classes)
        rest = rng.normal(size=(n, width - classes)) + tokens * code[y]
        scores.append(np.hstack([word, rest]) - 5.0)
    return scores, y


def words_of(scores: list[np.ndarray], classes: int = C) -> list[np.ndarray]:
    return [s[:, :classes] for s in scores]


def test_none_is_the_mean_of_the_scores_and_one_prompt_is_itself() -> None:
    scores, y = box()
    words = words_of(scores)
    np.testing.assert_allclose(none(words[0]).readout.predict(words[0]), softmax(words[0]), rtol=1e-14)
    np.testing.assert_allclose(none(words).readout.predict(words), softmax((words[0] + words[1]) / 2), rtol=1e-14)
    assert none(words, y).readout.left_out_accuracy == (sum(words).argmax(axis=1) == y).mean()


def test_centred_takes_the_training_mean_away_and_no_label_r7() -> None:
    scores, y = box()
    words, new = words_of(scores), words_of(box(seed=9)[0])
    fit = centred(words)
    expected = softmax(sum(new) / 2 - sum(words).mean(axis=0) / 2)
    np.testing.assert_allclose(fit.readout.predict(new), expected, rtol=1e-12)
    assert fit.readout.temperature == 1.0
    assert fit.readout.left_out_loss is None
    one = centred(words, y).readout
    np.testing.assert_allclose(softmax(np.log(expected) / one.temperature), one.predict(new), rtol=1e-12)
    assert (centred(words, y[::-1].copy()).readout.predict(new).argmax(axis=1) == expected.argmax(axis=1)).all()


def test_centring_new_rows_on_their_own_mean_is_another_thing() -> None:
    scores, _ = box()
    one_class = words_of(scores)[0][::3]  # rows of class 0 alone: their own mean would take the class away
    right = centred(words_of(scores)[0]).readout.predict(one_class)
    broken = softmax(one_class - one_class.mean(axis=0))
    assert right[:, 0].mean() > broken[:, 0].mean() + 0.1


@pytest.mark.parametrize("groups", [None, np.arange(N) // 2])
def test_left_out_probabilities_are_those_of_refits(groups: np.ndarray | None) -> None:
    """Of every kind: the training rows without the group, the same penalty and temperature."""
    scores, y = box()
    words = words_of(scores)
    fits = {"centred": centred(words, y, groups=groups), "labels": labels(words, y, groups=groups)}
    for G in range(N if groups is None else N // 2):
        rows = np.flatnonzero(np.arange(N) == G if groups is None else groups == G)
        rest = np.setdiff1d(np.arange(N), rows)
        kept, out = [s[rest] for s in words], [s[rows] for s in words]
        plain = centred(kept).readout.logits(out) / fits["centred"].readout.temperature
        np.testing.assert_allclose(fits["centred"].left_out[rows], softmax(plain), rtol=0, atol=1e-12)
        mean = [s.mean(axis=0) - s.mean() for s in words]  # the features stay centred on all rows
        moved = [[r - m for r, m in zip(part, mean)] for part in (kept, out)]
        refit = labels_without_centring(moved[0], y[rest], moved[1])
        expected = softmax(refit / fits["labels"].readout.temperature)
        np.testing.assert_allclose(fits["labels"].left_out[rows], expected, rtol=0, atol=1e-5)


def labels_without_centring(kept: list[np.ndarray], y: np.ndarray, out: list[np.ndarray]) -> np.ndarray:
    from zopog_ref.linear_fits import logistic

    def features(part: list[np.ndarray]) -> np.ndarray:
        return np.column_stack([*(s - s.mean(axis=1, keepdims=True) for s in part), np.ones(len(part[0]))])

    prior = np.vstack([np.eye(C) / 2, np.eye(C) / 2, np.zeros((1, C))])
    return features(out) @ logistic(features(kept), np.eye(C)[y], module.FEW_ROWS_PULL, prior)


def primal(scores: list[np.ndarray], like: list[np.ndarray]) -> np.ndarray:
    """The features of [R1] and [R2] written out: (n, all blocks)."""
    blocks = []
    for s, reference in zip(scores, like):
        for where in (slice(0, C), slice(C, None)):
            x, z = (a[:, where] - a[:, where].mean(axis=1, keepdims=True) for a in (s, reference))
            scale = np.sqrt(((z - z.mean(axis=0)) ** 2).sum(axis=1).mean())
            blocks.append((x - z.mean(axis=0)) / scale)
    return np.hstack(blocks) / np.sqrt(len(blocks))


def test_vocabulary_is_ridge_on_the_features_of_r1_and_its_left_out_rows_are_refits() -> None:
    scores, y = box()
    new = box(seed=5)[0]
    fit = vocabulary(scores, y, C)
    x = primal(scores, scores)
    assert (x**2).sum() == pytest.approx(N)  # tr K = n
    peer = Ridge(alpha=1.0, solver="svd").fit(x, np.eye(C)[y])
    f = peer.predict(primal(new, scores))
    np.testing.assert_allclose(fit.readout.logits(new) * fit.readout.temperature, f, rtol=0, atol=1e-10)
    left_out = np.array(
        [
            Ridge(alpha=1.0, solver="svd").fit(np.delete(x, i, 0), np.eye(C)[np.delete(y, i)]).predict(x[i : i + 1])[0]
            for i in range(N)
        ]
    )
    np.testing.assert_allclose(fit.left_out, softmax(left_out / fit.readout.temperature), rtol=0, atol=1e-10)
    assert fit.readout.temperature == pytest.approx(temperature(left_out, smoothed(y, C)), rel=1e-9)
    assert fit.readout.left_out_loss == pytest.approx(-np.log(fit.left_out[np.arange(N), y]).mean())


def test_several_prompts_add_rows_to_average_and_no_parameters() -> None:
    scores, y = box(prompts=1)
    once, thrice = vocabulary(scores, y, C).readout, vocabulary(scores * 3, y, C).readout
    new = box(seed=5, prompts=1)[0]
    np.testing.assert_allclose(thrice.predict(new * 3), once.predict(new), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_normaliser_of_a_row_changes_nothing_and_the_linear_form_is_the_readout_r10(kind: str) -> None:
    scores, y = box()
    fit = choose(scores, y, C).fits[kind].readout
    new = box(seed=5)[0] if kind == "vocabulary" else words_of(box(seed=5)[0])
    shifted = [s + np.arange(N)[:, None] * (m + 1) for m, s in enumerate(new)]
    np.testing.assert_allclose(fit.predict(shifted), fit.predict(new), rtol=0, atol=1e-9)
    mean = np.mean([s @ fit.linear(m)[0] + fit.linear(m)[1] for m, s in enumerate(new)], axis=0)
    np.testing.assert_allclose(softmax(mean), fit.predict(new), rtol=0, atol=1e-13)
    in_float32 = sum(s.astype(np.float32) @ fit.matrices[m].astype(np.float32) for m, s in enumerate(new)) / 2
    np.testing.assert_allclose(softmax(in_float32 + fit.bias), fit.predict(new), rtol=0, atol=2e-5)


def test_the_labels_readout_beats_its_prior_and_a_strong_pull_is_centred_r8() -> None:
    scores, y = box()
    words, new = words_of(scores), words_of(box(seed=5)[0])
    tight = labels(words, y, penalty=1e9).readout
    plain = centred(words, y).readout
    np.testing.assert_allclose(tight.logits(new) * tight.temperature, np.log(centred(words).readout.predict(new)) - np.log(centred(words).readout.predict(new)).mean(axis=1, keepdims=True), atol=1e-5)  # fmt: skip
    assert (tight.predict(new).argmax(axis=1) == plain.predict(new).argmax(axis=1)).all()
    swapped = [
        s[:, [1, 2, 0]] for s in words
    ]  # label words that mean another class: the map learns it, centring cannot
    loud, y = box(words=4.0)
    swapped = [s[:, [1, 2, 0]] for s in words_of(loud)]
    learned = labels(swapped, y)
    assert (learned.left_out.argmax(axis=1) == y).mean() > 0.9
    assert (centred(swapped, y).left_out.argmax(axis=1) == y).mean() < 0.3


def test_tokens_are_chosen_by_their_probability_label_words_first() -> None:
    scores = np.log(np.array([[0.05, 0.4, 0.3, 0.05, 0.2], [0.05, 0.4, 0.14, 0.21, 0.2]]))
    assert likely_tokens(scores, 3, [4, 0]).tolist() == [4, 0, 1, 2]  # 4 is among the three, and stands once
    assert likely_tokens(scores, 1, [4, 0]).tolist() == [4, 0, 1]
    assert likely_tokens(scores + np.array([[3.0], [-3.0]]), 3, [4, 0]).tolist() == [4, 0, 1, 2]
    with pytest.raises(ValueError, match=r"different columns in 0\.\.4"):
        likely_tokens(scores, 3, [0, 0])


def test_tokens_chosen_by_label_make_leave_one_out_lie() -> None:
    """The broken twin: 32 rows of noise, the 20 of 4,000 tokens that tell their labels best."""
    rng = np.random.default_rng(0)
    scores, y = rng.normal(size=(32, 4000)), np.arange(32) % 2
    by_label = np.argsort(-np.abs(scores[y == 0].mean(axis=0) - scores[y == 1].mean(axis=0)))[:20]
    lied = vocabulary(np.hstack([scores[:, :2], scores[:, by_label]]), y, 2)
    honest = vocabulary(scores[:, likely_tokens(scores, 20, [0, 1])], y, 2)
    assert lied.readout.left_out_accuracy > 0.9
    assert honest.readout.left_out_accuracy < 0.65


def nll(left_out: np.ndarray, y: np.ndarray, price: float) -> np.ndarray:
    return -np.log(left_out[np.arange(len(y)), y]) + price


@pytest.mark.parametrize("kinds", [KINDS, ("none", "centred", "labels"), ("none", "labels"), ("centred", "none")])
@pytest.mark.parametrize(("words", "tokens"), [(0.0, 1.0), (1.2, 0.0), (0.0, 0.0), (2.5, 0.3)])
def test_the_choice_is_the_most_learned_within_one_standard_error_r11(
    words: float, tokens: float, kinds: tuple
) -> None:
    scores, y = box(n=48, words=words, tokens=tokens)
    choice = choose(scores, y, C, kinds=kinds)
    assert choice.learned == (words + tokens > 0) == (choice.p_value <= LEVEL)
    allowed = [kind for kind in KINDS if kind in kinds and (choice.p_value <= DOUBT or kind in ("none", "centred"))]
    paid = {kind: nll(choice.fits[kind].left_out, y, (kind != "none") / 48) for kind in kinds}
    assert choice.losses == {kind: pytest.approx(each.mean()) for kind, each in paid.items()}
    least = min(allowed, key=lambda kind: paid[kind].mean())
    for kind in allowed:
        behind = paid[kind] - paid[least]
        if kind == choice.kind:
            assert behind.mean() <= behind.std(ddof=1) / np.sqrt(48)
        elif KINDS.index(kind) > KINDS.index(choice.kind):
            assert behind.mean() > behind.std(ddof=1) / np.sqrt(48)


def test_noise_in_many_tokens_does_not_win_over_words_that_are_right() -> None:
    """The wide readout hurts where the words say it: 32 rows, two classes, 4,000 tokens that say nothing."""
    rng = np.random.default_rng(0)
    y = np.arange(32) % 2
    words = rng.normal(size=(32, 2)) + 3.0 * np.eye(2)[y]
    scores = np.hstack([words, 5 * rng.normal(size=(32, 4000))])
    choice = choose(scores, y, 2)
    assert choice.kind in ("centred", "labels")
    assert choose(np.hstack([words, 5 * rng.normal(size=(32, 4000)) + 3 * rng.normal(size=(2, 4000))[y]]), y, 2).kind == "vocabulary"  # fmt: skip


def test_none_is_chosen_where_the_words_are_right_already() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 2
    scores = rng.normal(size=(60, 1)) * [[1.0, -1.0]] + 2 * np.eye(2)[truth]
    choice = choose(scores, truth, 2, kinds=["none", "vocabulary"])
    assert choice.kind == "none"
    assert choice.skipped == {"vocabulary": "there are no scores but the label words'"}


def test_shuffled_labels_teach_nothing() -> None:
    rng = np.random.default_rng(0)
    learned = 0
    for seed in range(12):
        scores, y = box(n=48, words=2.0, seed=seed, prompts=1)
        assert choose(scores, y, C, kinds=["vocabulary"]).learned
        choice = choose(scores, rng.permutation(y), C)
        learned += choice.learned
        if choice.p_value > DOUBT:
            assert choice.kind in ("none", "centred")
    assert learned <= 1  # level 0.01


def test_copies_do_not_make_the_rows_look_learned() -> None:
    scores, y = box(n=12, words=0.0, tokens=0.0, seed=3)
    copies, labels_of = [np.repeat(s, 4, axis=0) for s in scores], np.repeat(np.random.default_rng(1).permutation(y), 4)
    honest = choose(copies, labels_of, C, groups=np.repeat(np.arange(12), 4))
    fooled = choose(copies, labels_of, C)
    assert not honest.learned
    assert fooled.learned
    assert fooled.fits["vocabulary"].readout.left_out_accuracy > 0.9
    assert honest.fits["vocabulary"].readout.left_out_accuracy < 0.5


def test_a_class_without_a_row() -> None:
    scores, y = box(n=32, words=5.0)
    some = y != 2
    kept, labels_of = [s[some] for s in scores], y[some]
    with pytest.raises(ValueError, match=r"no row of class \[2\]"):
        vocabulary(kept, labels_of, C)
    choice = choose(kept, labels_of, C)
    assert choice.skipped == {"vocabulary": "a class has no row"}
    new = labels(words_of(kept), labels_of).readout.predict(words_of(scores))
    assert new.shape == (32, 3)
    assert np.isfinite(np.log(new)).all()


def test_one_row_a_class() -> None:
    scores, y = box(n=3, words=6.0)
    choice = choose(scores, y, C)
    assert not choice.learned  # 6 orders of 3 labels: no test can tell
    assert choice.kind in ("none", "centred")
    for kind in ("labels", "vocabulary"):
        assert np.isfinite(np.log(choice.fits[kind].left_out)).all()


def test_one_text_says_nothing() -> None:
    scores, y = box(n=3)
    for choice in (choose([s[:1] for s in scores], y[:1], C), choose(scores, y, C, groups=["a", "a", "a"])):
        assert (choice.kind, choice.p_value, choice.learned) == ("none", 1.0, False)
        assert choice.skipped == dict.fromkeys(("centred", "labels", "vocabulary"), "all rows are one text")


def test_scores_that_never_change_give_every_row_the_same_answer() -> None:
    scores, y = [np.tile(np.arange(6.0), (10, 1)), np.tile(-np.arange(6.0), (10, 1))], np.array([0] * 7 + [1] * 3)
    fit = vocabulary(scores, y, 2)
    p = fit.readout.predict(scores)
    np.testing.assert_allclose(p, np.tile(p[0], (10, 1)))
    assert 0.5 < p[0, 0] < 0.75  # the frequent class, no surer than its share
    assert choose(scores, y, 2).p_value == 1.0
    one_constant = vocabulary([scores[0], box(n=10, classes=2)[0][0][:, :6]], y, 2)
    alone = vocabulary([box(n=10, classes=2)[0][0][:, :6]], y, 2)
    np.testing.assert_allclose(
        one_constant.left_out, alone.left_out, rtol=1e-12
    )  # a prompt that says nothing is dropped


def test_fourteen_classes() -> None:
    scores, y = box(n=42, classes=14, width=60, words=3.0, prompts=1)
    choice = choose(scores, y, 14)
    assert choice.learned
    assert choice.fit.readout.left_out_accuracy > 0.6
    assert choice.fit.readout.n_classes == 14


SCORES, LABELS = box()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choose(SCORES[0][:, :1], np.zeros(N, int), 1), "needs at least 2, got 1"),
        (lambda: choose(SCORES[0], LABELS, 2), r"must lie in 0..1; got 0..2"),
        (lambda: choose(SCORES[0], LABELS[:-1], C), "30 integers"),
        (lambda: choose(SCORES[0], LABELS.astype(float), C), "30 integers"),
        (lambda: choose(SCORES[0], LABELS, C, kinds=["wide"]), "unknown kinds of readout"),
        (lambda: choose(SCORES[0][:, :2], LABELS, C), "a column for each of 3"),
        (lambda: choose(np.zeros((0, 5)), np.zeros(0, int), C), "n > 0 rows"),
        (lambda: choose([SCORES[0], SCORES[1][:-1]], LABELS, C), "same n > 0 rows"),
        (lambda: choose(np.where(SCORES[0] == SCORES[0][3, 2], np.nan, SCORES[0]), LABELS, C), "row 3, column 2 is nan"),
        (lambda: choose(np.where(SCORES[0] == SCORES[0][3, 2], -np.inf, SCORES[0]), LABELS, C), "row 3, column 2 is -inf"),
        (lambda: vocabulary(SCORES[0][:, :2], LABELS, C), "first 3 are to be the label words"),
        (lambda: vocabulary(SCORES[0], LABELS, C, groups=np.zeros(N)), "two different texts"),
        (lambda: centred(SCORES[0][:1, :C]), "at least two rows of different text"),
        (lambda: labels(SCORES[0][:, :C], LABELS, penalty=-1.0), "must be positive, not -1.0"),
        (lambda: labels([SCORES[0][:, :C], SCORES[1]], LABELS), "label words from every prompt"),
        (lambda: centred(SCORES[0][:, :C]).readout.predict(SCORES[0]), r"1 prompts with \[3\] columns; got 1 with \[40\]"),
        (lambda: centred(SCORES[0][:, :C]).readout.predict(words_of(SCORES)), "got 2 with"),
    ],
)  # fmt: skip
def test_errors_say_what_is_wrong(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_whoever_insists_gets_it_and_is_told() -> None:
    scores, y = box(n=48, words=0.0, tokens=0.0)
    choice = choose(scores, y, C, kinds=["vocabulary"])
    assert choice.kind == "vocabulary"
    assert not choice.learned
    with pytest.raises(ValueError, match=r"no readout can be fitted: .*a class has no row"):
        choose(scores, np.minimum(y, 1), C, kinds=["vocabulary"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_s_arrays_and_scalars_make_the_same_readout_again(kind: str) -> None:
    scores, y = box()
    ids = [np.arange(100, 100 + T), np.arange(200, 200 + T)]
    readout = choose(scores, y, C, columns=ids).fits[kind].readout
    arrays, values = readout.to_arrays()
    again = Readout.from_arrays(arrays, json.loads(json.dumps(values)))
    new = box(seed=5)[0] if kind == "vocabulary" else words_of(box(seed=5)[0])
    np.testing.assert_array_equal(again.predict(new), readout.predict(new))
    assert [c.tolist() for c in again.columns] == [i[: len(a)].tolist() for i, a in zip(ids, readout.matrices)]
    assert again.to_arrays()[1] == values
    with pytest.raises(ValueError, match=r"missing: readout.matrix.1"):
        Readout.from_arrays({name: a for name, a in arrays.items() if name != "readout.matrix.1"}, values)
    with pytest.raises(ValueError, match="positive integer"):
        Readout.from_arrays(arrays, values | {"prompts": "2"})
    with pytest.raises(ValueError, match="unknown kind"):
        Readout.from_arrays(arrays, values | {"kind": "wide"})
    with pytest.raises(ValueError, match="must be finite"):
        Readout.from_arrays(arrays | {"readout.bias": np.array([np.nan, 0, 0])}, values)
    with pytest.raises(ValueError, match=r"must be \(T, 3\)"):
        Readout.from_arrays(arrays | {"readout.matrix.0": np.zeros((4, 2))}, values)


def test_the_loss_of_record_is_the_left_out_one() -> None:
    scores, y = box(tokens=0.5)
    fit = vocabulary(scores, y, C)
    trained = -log_softmax(fit.readout.logits(scores))[np.arange(N), y].mean()
    assert fit.readout.left_out_loss > trained + 0.05


def test_two_texts_are_enough_to_fit_something() -> None:
    scores, y = box(n=2, classes=2)
    assert "centred" in choose(scores, y, 2).fits


def test_the_tokens_of_one_prompt_are_enough_for_the_vocabulary() -> None:
    scores, y = box(n=24)
    choice = choose([scores[0], scores[1][:, :C]], y, C)
    assert "vocabulary" in choice.fits


def test_a_file_without_the_columns_of_a_prompt_is_refused() -> None:
    scores, y = box()
    arrays, values = choose(scores, y, C, columns=[np.arange(T)] * 2).fits["none"].readout.to_arrays()
    del arrays["readout.columns.1"]
    with pytest.raises(ValueError, match=r"missing: readout.columns.1"):
        Readout.from_arrays(arrays, values)


def test_the_numbers_of_r8_and_r9() -> None:
    assert (module.PULLS, module.FEW_ROWS_PULL, LEVEL, DOUBT) == ((3.0, 10.0, 30.0), 3.0, 0.01, 0.05)


def test_the_maps_themselves() -> None:
    """The matrices, not what softmax sees of them: columns that sum to 0, and the fitted Theta."""
    scores, y = box()
    words, new = words_of(scores), words_of(box(seed=5)[0])
    plain, fit = centred(words, y).readout, labels(words, y, penalty=2.0)
    for matrix in plain.matrices:
        np.testing.assert_allclose(matrix * plain.temperature, np.eye(C) - 1 / C, atol=1e-12)
    raw = none(words).readout
    assert (raw.rows, plain.rows, fit.readout.rows, vocabulary(scores, y, C).readout.rows) == (N, N, N, N)
    assert (raw.matrices[1].tolist(), raw.bias.tolist()) == (np.eye(C).tolist(), [0.0] * C)
    x = np.hstack([s - s.mean(axis=1, keepdims=True) for s in words])
    prior = np.vstack([np.eye(C) / 2, np.eye(C) / 2, np.zeros((1, C))])
    theta = logistic(np.column_stack([x - x.mean(axis=0), np.ones(N)]), np.eye(C)[y], 2.0, prior)
    own = np.hstack([s - s.mean(axis=1, keepdims=True) for s in new]) - x.mean(axis=0)
    logits = np.column_stack([own, np.ones(N)]) @ theta / fit.readout.temperature
    np.testing.assert_allclose(fit.readout.logits(new), logits, atol=1e-9)
    for matrix in (*fit.readout.matrices, *vocabulary(scores, y, C).readout.matrices):
        np.testing.assert_allclose(matrix[:C].sum(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("penalty", [0, -0.5, np.inf, np.nan])
def test_a_penalty_that_is_none(penalty: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        labels(words_of(SCORES), LABELS, penalty=penalty)
    assert labels(words_of(SCORES), LABELS, penalty=0.5).readout.penalty == 0.5


@pytest.mark.parametrize(("n", "pulls"), [(99, (3.0,)), (100, (3.0, 10.0, 30.0))])
@pytest.mark.parametrize("best", [3.0, 10.0, 30.0])
def test_the_pull_of_the_least_left_out_loss(n: int, pulls: tuple, best: float, monkeypatch) -> None:
    tried: list[float] = []

    def left_out(theta, features, targets, pull, prior, rows):
        tried.append(pull)
        return targets * (2.0 if pull == best else 1.0)

    monkeypatch.setattr(module, "left_out_logistic", left_out)
    fit = labels(words_of(box(n=n)[0]), box(n=n)[1])
    assert tuple(tried) == pulls
    assert fit.readout.penalty == (best if n == 100 else 3.0)


@pytest.mark.parametrize(("n", "mean", "chosen"), [(4, 0.57, "centred"), (4, 0.585, "none"), (2, 0.9, "centred"), (2, 1.1, "none")])  # fmt: skip
def test_one_standard_error_is_that_of_the_paired_losses_r11(n: int, mean: float, chosen: str, monkeypatch) -> None:
    """Excess losses mean +- 1: their standard error is 1 / sqrt(n - 1)."""
    excess = mean + np.resize([1.0, -1.0], n)

    def fit(loss):
        readout = none(np.zeros((n, 2))).readout
        return module.Fit(readout, np.column_stack([np.exp(-loss), 1 - np.exp(-loss)]))

    monkeypatch.setattr(module, "none", lambda *given, **named: fit(np.full(n, 3.0)))
    monkeypatch.setattr(module, "centred", lambda *given, **named: fit(3.0 + excess - 1 / n))
    choice = choose(np.zeros((n, 2)), np.zeros(n, int), 2, kinds=("none", "centred"))
    assert choice.losses == pytest.approx({"none": 3.0, "centred": 3.0 + mean})
    assert choice.kind == chosen


def test_what_is_a_constant_block() -> None:
    """Rounding of large scores is; small scores that differ are not; and a prompt without further tokens has one block."""
    scores, y = box(prompts=1)
    words, rest = scores[0][:, :C], scores[0][:, C:]
    expected = vocabulary(scores, y, C).left_out
    np.testing.assert_allclose(vocabulary(1e-3 * scores[0], y, C).left_out, expected, rtol=1e-9)
    large = 1e6 * np.arange(C) + 1e-7 * words
    np.testing.assert_allclose(vocabulary(np.hstack([large, rest]), y, C).left_out, vocabulary(np.hstack([np.ones((N, C)), rest]), y, C).left_out, rtol=1e-9)  # fmt: skip
    alone = primal([np.hstack([words, words])], [np.hstack([words, words])])  # twice the same block: its mean is itself
    f = Ridge(alpha=1.0, solver="svd").fit(alone, np.eye(C)[y]).predict(alone)
    only = vocabulary(words, y, C).readout
    np.testing.assert_allclose(only.logits(words) * only.temperature, f, atol=1e-10)
