"""What all runners have in common that ask an endpoint in words and read log-probabilities of what comes next.

A row becomes one question, a string. Equal questions are asked once. The endpoint returns the k most probable tokens;
the score of a label word is its log-probability among them. A word that is not among them is less probable than all of
them, and than what they leave: its score is

    min( least log p returned,  log(1 - sum of p returned) ) - FLOOR_MARGIN

and it is counted (`coverage`). There is no place for A z in a text, so only methods that learn tokens alone can use it.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from zopog_models.checkpoints.description import Description
from zopog_models.errors import CapReached, Refused, ServiceError, Stopped
from zopog_models.runners.rows import ModelRows
from zopog_models.runners.runner import Runner, Scores
from zopog_models.runners.threads import Threads
from zopog_models.served.coverage import FLOOR, REFUSED, SILENT, Coverage, is_split, refused_rows
from zopog_models.served.log_probabilities import read_scores
from zopog_models.served.requests import Requests
from zopog_models.served.statuses import parameter_advice
from zopog_models.served.transport import Answer

__all__ = ["TextRunner"]

# llama.cpp keeps silent about a token that is a part of a character only. At temperature 0 that is always the most
# probable one; at temperature 1, which leaves the distribution as it is, another one is drawn.
_DRAWS = 8
_MOST = (500, 100, 20)  # log-probabilities that are asked for where nobody says how many
_FILTERED = "the answer was filtered or refused (content_filter, refusal)"
_SILENT = "the answer has no log-probabilities of the next token: the endpoint does not offer them, or not this way"


class TextRunner(Runner):
    """Label words scored by the log-probability of what follows a text.

    path: of the endpoint, behind its address; headers: of its requests; written: tokens of an answer, at most. Whoever
    inherits writes `question` and `body`.

    Parameters
        about: of the model, whose tokenizer turns rows back into texts
        requests: to the endpoint
        rows: questions of one request
        top: k, how many log-probabilities to ask for
    """

    scores = Scores.TOP_K
    path = ""
    headers: ClassVar[dict[str, str]] = {}
    written = 1

    def __init__(self, about: Description, requests: Requests, *, rows: int, top: int) -> None:
        self.requests, self.top, self.chunk_rows = requests, top, rows
        self.pool = Threads(requests.transport.wire.concurrency)
        self._about = about
        self._coverage = Coverage(requests.transport.wire.refused_share)
        self._last_refusal, self._told = "", False
        self._ways: list[tuple[str, str]] = []  # parameters that are called otherwise, or left out ("")

    why_not_after = ""  # what is sent is put together here

    @abstractmethod
    def question(self, row: np.ndarray, prompt: np.ndarray, offset: np.ndarray | None = None) -> str:
        """What the endpoint is asked about a row of token ids with a prompt, and the offsets (n, E) of its tokens."""

    def asked(self, rows: ModelRows, r: int) -> str:
        """The question about row r. Raises ValueError for offsets of a prompt that stands after the text."""
        p = rows.prompt_index[r]
        if not rows.after:
            return self.question(rows.texts[r], rows.prompt_ids[p], rows.prompt_offset[p])
        if np.any(rows.prompt_offset[p]):
            raise ValueError(
                "a continuous prompt can be sent in front of the text alone: its offsets must be 0 after it"
            )
        return self.question(rows.with_prompt(r), rows.prompt_ids[p][:0])

    @abstractmethod
    def body(self, questions: list[str], words: Sequence[str], seed: int | None) -> dict[str, Any]:
        """The request.

        words: the label words, as `column` calls them; seed: of another draw at temperature 1; None: of the most
        probable token.
        """

    def read(self, answer: Answer, rows: int, words: list[str]) -> np.ndarray:
        """(rows, 2, C), as `read_scores`."""
        return read_scores(answer, rows, words)

    def adapts(self, refusal: str) -> bool:
        """Whether a refusal says how to ask otherwise, and that was not tried. Default: no."""
        return False

    def check(self, offsets: np.ndarray) -> None:
        """Raises ValueError for offsets A z that cannot be sent: in a text, all but 0."""
        if np.any(offsets):
            raise ValueError(f"a {self.providers[0]} reads text: there is no continuous prompt, the offsets must be 0")

    def column(self, token: int) -> str:
        """What a label word's token is called: its text."""
        return self._about.tokenizer.decode([token], skip_special_tokens=False).strip()

    def plain(self, ids: np.ndarray) -> str:
        """The text of token ids. What spells a special token without being one gets a space; a line says so once."""
        tokenizer, listed = self._about.tokenizer, [*map(int, ids)]
        text = tokenizer.plain(listed)
        if not self._told and text != tokenizer.decode(listed, skip_special_tokens=False):
            self._told = True
            self.requests.transport.notify(
                "a text or a prompt spells a special token of the tokenizer: a space is put into it, here and in all "
                "others, so that no server takes it for one (docs/remote.md)"
            )
        return text

    def ask_for_most(self, rows: ModelRows) -> None:
        """Set `top` to the most log-probabilities of _MOST that the endpoint gives for the first row, if that is more.

        An endpoint that gives them is asked nothing beside what `probe` asks; one that does not refuses, unpaid.
        """
        words = [self.column(int(token)) for token in rows.label_ids]
        text = self.question(rows.texts[0], rows.prompt_ids[rows.prompt_index[0]])
        for most in _MOST if self.scores == Scores.TOP_K else ():
            if most <= self.top:
                return
            before, self.top = self.top, most
            try:
                with self.requests.one_call():
                    found = self._ask([text], words, None, self._identity([text], words, None))
            except Refused:
                self.top = before
                continue
            except (CapReached, Stopped):
                raise
            except ServiceError:  # whatever it is, `probe` meets it with fewer too
                self.top = before
                return
            if (found[:, 1] >= 0).all():
                return
            self.top = before

    def probe(self, rows: ModelRows) -> dict[str, Any]:
        """What the endpoint really returns for the first row that it does not refuse: two requests, counted and
        written down as all others are.

        {"returned": the label words that are among what was returned, "missing": the others, "differs": nats between
        two equal requests}. Raises ServiceError where it answers nothing that can be read.
        """
        words = [self.column(int(token)) for token in rows.label_ids]
        self._coverage.labels(map(int, rows.label_ids))
        with self.requests.one_call():
            first, again = self._asked_twice(rows, words)
        words = [self._about.tokenizer.decode([int(token)]).strip() for token in rows.label_ids]
        missing = [word for word, flag in zip(words, first[1]) if int(flag) & FLOOR]
        found = [word for word in words if word not in missing]
        return {"returned": found, "missing": missing, "differs": float(np.abs(first[0] - again[0, 0]).max())}

    def _asked_twice(self, rows: ModelRows, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The answer (2, C) to the first row that is not refused, and its scores (1, 1, C) when asked again."""
        for row, p in zip(rows.texts, rows.prompt_index):
            text = self.question(row, rows.prompt_ids[p])
            first = self._complete([text], words)[0]
            if first[1, 0] >= 0:
                break
        else:
            raise ServiceError(self._said_by_server(self._last_refusal))
        identity = hashlib.sha256(f"again {self._identity([text], words, None)}".encode()).hexdigest()[:32]
        again = self._ask([text], words, None, identity, lambda found: found[:, :1])
        return first, again

    def coverage(self) -> dict[str, Any]:
        """Texts that were scored, and for every label word of how many it was not among the k returned.

        refused: texts without an answer; contradictions: texts whose chosen token was listed with another number.
        """
        found = self._coverage.report(self.column)
        return {"rows": found.pop("rows"), "top_logprobs": self.top, **found}

    def logits(self, rows: ModelRows) -> np.ndarray:
        """Log-probabilities (R, C), float32, of the label words after each row.

        Raises ValueError for an offset that cannot be sent.
        """
        self.check(rows.prompt_offset)
        texts = [self.asked(rows, r) for r in range(len(rows.texts))]
        # Equal texts once, in a fixed order, so that the same question is always cut into the same requests.
        distinct, place = np.unique(np.array(texts, object), return_inverse=True)
        words = [self.column(int(token)) for token in rows.label_ids]
        result = np.empty((len(distinct), len(words)), np.float32)
        self._coverage.labels(map(int, rows.label_ids))

        def run(start: int) -> None:
            part = slice(start, start + self.chunk_rows)
            result[part] = self._complete(list(distinct[part]), words)[:, 0]

        with self.requests.one_call():
            self.pool.run_all(run, range(0, len(distinct), self.chunk_rows))
        return result[place.reshape(-1)]

    def keep(self, path: Path) -> None:
        self.requests.keep(path)
        self._coverage.restore(self.requests.log.answers())

    def report(self) -> dict[str, Any]:
        return self.requests.report() | {"label_words": self.coverage()}

    def close(self) -> None:
        self.requests.close()
        super().close()

    def _complete(self, texts: list[str], words: list[str]) -> np.ndarray:
        """(rows, 2, C): log-probabilities, and what there is to say of them (coverage.py)."""
        scores = self._answer(texts, words, None)
        for seed in range(_DRAWS):
            silent = scores[:, 1] == SILENT
            if not silent.any():
                return scores
            scores = np.where(silent[:, None, :], self._answer(texts, words, seed), scores)
        silent = scores[:, 1] == SILENT
        if not silent.any():
            return scores
        return self._refuse(self._identity(texts, words, None), texts, words, _SILENT)

    def _answer(self, texts: list[str], words: list[str], seed: int | None) -> np.ndarray:
        """As `read`. seed: of another draw; None: the most probable token."""
        identity, known = self._identity(texts, words, seed), len(self._ways)
        try:
            found = self._ask(texts, words, seed, identity)
        except Refused as refusal:
            if advice := parameter_advice(str(refusal)):
                raise ServiceError(f"{refusal}. {advice}") from None
            if len(self._ways) > known or self.adapts(str(refusal)):  # another thread may have been told meanwhile
                return self._answer(texts, words, seed)
            return self._refuse(identity, texts, words, str(refusal))
        self._coverage.take(identity, found[:, 1])
        if is_split(found[:, 1]):
            return self._one_by_one(texts, words)
        if (found[:, 1] == REFUSED).any():
            self._last_refusal = _FILTERED
            self._coverage.check(self._said_by_server(_FILTERED))
        return found

    def _ask(
        self,
        texts: list[str],
        words: list[str],
        seed: int | None,
        identity: str,
        keep: Callable[[Any], Any] = lambda found: found,
    ) -> np.ndarray:
        """keep: what of the answer is written down."""
        body = self.body(texts, words, seed)
        for name, other in self._ways:
            value = body.pop(name, None)
            body |= {other: value} if other and value is not None else {}
        shape = keep(np.empty((len(texts), 2, len(words)), np.float32)).shape
        return self.requests.ask(
            self.path, json.dumps(body).encode(), {"Content-Type": "application/json", **self.headers}, identity, shape,
            lambda answer: keep(self.read(answer, len(texts), words)), written=self.written * len(texts),
        )  # fmt: skip

    def _one_by_one(self, texts: list[str], words: list[str]) -> np.ndarray:
        return np.concatenate([self._complete([text], words) for text in texts])

    def _refuse(self, identity: str, texts: list[str], words: list[str], why: str) -> np.ndarray:
        """No answer, written down as one: it is not asked for again. Of several texts each is asked about by itself."""
        row, self._last_refusal = refused_rows(len(texts), len(words)), why
        self.requests.log.answered(identity, row)
        self._coverage.take(identity, row[:, 1])
        if len(texts) > 1:
            return self._one_by_one(texts, words)
        self._coverage.check(self._said_by_server(why))
        return row

    def _said_by_server(self, why: str) -> str:
        """Why, behind the address that said it; an error of the transport names it already."""
        address = f"POST {self.requests.transport.url}{self.path}: "
        return why if why.startswith(address) else address + why

    def _identity(self, texts: list[str], words: list[str], seed: int | None) -> str:
        """A hash of what is asked, and which draw it is."""
        asked = json.dumps(self.body(texts, words, None)) + json.dumps(words)
        known = hashlib.sha256(asked.encode()).hexdigest()[:32]
        return known if seed is None else f"{known}-{seed + 1}"
