"""The pace of requests against a clock that is told the time."""

from datetime import UTC, datetime, timedelta

import pytest

from zopog_models.served.pace import Pace, asked_pause, pause_until_reset, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("6m0s", 360.0), ("20ms", 0.02), ("1h2m3.5s", 3723.5), ("7", 7.0), ("", None), ("soon", None),
     ("-1", None), ("nan", None), ("1x", None), ("inf", None)],
)  # fmt: skip
def test_how_servers_write_a_time(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == (None if seconds is None else pytest.approx(seconds))


def sent_in_a_minute(pace: Pace, now: list[float], tokens: float) -> int:
    """Requests of one client, each sent when the pace allows it."""
    count, end = 0, now[0] + 60.0
    while True:
        now[0] += pace.wait(tokens)
        if now[0] >= end:
            return count
        count += 1


@pytest.mark.parametrize("rpm", [3.0, 60.0, 600.0])
def test_no_more_requests_than_allowed(rpm: float) -> None:
    now = [100.0]
    pace = Pace(rpm, None, lambda: now[0])
    sent = [sent_in_a_minute(pace, now, 10) for _ in range(3)]
    assert sent[1] == sent[2] == pytest.approx(rpm, abs=1)
    assert rpm <= sent[0] <= rpm + max(1.0, rpm / 10) + 1  # the first minute may begin with a burst of a tenth


def test_no_more_tokens_than_allowed() -> None:
    now = [0.0]
    pace = Pace(None, 6000.0, lambda: now[0])
    sent_in_a_minute(pace, now, 500)
    assert sent_in_a_minute(pace, now, 500) == pytest.approx(12, abs=1)


def test_both_limits_hold_and_none_is_no_limit() -> None:
    now = [0.0]
    both = Pace(60.0, 600.0, lambda: now[0])
    sent_in_a_minute(both, now, 100)
    assert sent_in_a_minute(both, now, 100) == pytest.approx(6, abs=1)
    assert Pace(None, None).wait(1e9) == 0


@pytest.mark.parametrize("limits", [(0.0, None), (None, -1.0), (float("nan"), None), (float("inf"), None)])
def test_limits_that_are_none(limits: tuple[float | None, float | None]) -> None:
    with pytest.raises(ValueError, match="must be a positive number"):
        Pace(*limits)


def test_who_has_something_left_does_not_wait() -> None:
    assert pause_until_reset({}) == 0
    assert pause_until_reset({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "9s"}) == 0
    assert pause_until_reset({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9s"}) == 9


@pytest.mark.parametrize("kind", ["requests", "tokens", "input-tokens", "output-tokens"])
def test_anthropic_s_limits_have_a_date(kind: str) -> None:
    reset = (datetime.now(UTC) + timedelta(seconds=90)).isoformat(timespec="seconds").replace("+00:00", "Z")
    headers = {f"anthropic-ratelimit-{kind}-remaining": "0", f"anthropic-ratelimit-{kind}-reset": reset}
    assert pause_until_reset(headers) == pytest.approx(90, abs=5)
    assert asked_pause(headers) == pytest.approx(90, abs=5)
    assert pause_until_reset(headers | {f"anthropic-ratelimit-{kind}-remaining": "1000"}) == 0
    for odd in ("soon", "2020-01-01T00:00:00Z", "9999-99-99", ""):
        assert pause_until_reset(headers | {f"anthropic-ratelimit-{kind}-reset": odd}) == 0
