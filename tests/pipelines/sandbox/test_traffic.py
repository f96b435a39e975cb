from dlt_cronofy.sandbox.traffic import Traffic
from tests.peaks import peak


def test_counts_by_endpoint_and_outcome() -> None:
    traffic = Traffic()
    answers: list[tuple[str, int | str]] = [
        ("userinfo", 200),
        ("userinfo", 200),
        ("userinfo", "reset"),
        ("token", 400),
    ]
    for endpoint, outcome in answers:
        traffic.arrive()
        traffic.answer(endpoint, outcome)
    assert traffic.total == 4
    assert traffic.counts() == {"token": {"400": 1}, "userinfo": {"200": 2, "reset": 1}}
    traffic.clear()
    assert (traffic.total, traffic.counts(), peak(traffic.arrivals, 1)) == (0, {}, 0)


def test_peak_is_the_fullest_window() -> None:
    times = iter([0.0, 0.5, 0.9, 1.0, 1.2, 5.0])
    traffic = Traffic(lambda: next(times))
    for _ in range(6):
        traffic.arrive()
    assert peak(traffic.arrivals, 1) == 4
    assert peak(traffic.arrivals, 60) == 6
