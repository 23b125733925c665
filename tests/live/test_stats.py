import pytest

from vderain.live.stats import BUCKETS_S, CameraStats, Histogram


class Clock:
    now = 10.0

    def __call__(self):
        return self.now


def test_histogram_buckets_and_percentiles():
    histogram = Histogram()
    for hundredths in range(1, 101):
        histogram.add(hundredths / 100)
    assert sum(histogram.counts) == 100 and histogram.counts[BUCKETS_S.index(0.5)] == 20
    assert histogram.percentile(0.5) == pytest.approx(0.51)
    assert histogram.percentile(0.95) == pytest.approx(0.96)
    assert Histogram().percentile(0.5) is None


def test_counters_and_rates():
    clock = Clock()
    stats = CameraStats(clock)
    for _ in range(50):
        clock.now += 0.1
        stats.frame("decoded")
    stats.dropped("late", 2)
    stats.dropped("late", 0)
    with stats.busy("engine"):
        clock.now += 5.0
    snapshot = stats.snapshot()
    assert snapshot.frames == {"decoded": 50} and snapshot.drops == {"late": 2}
    assert snapshot.busy["engine"] == pytest.approx(0.5)
    assert stats.rate("decoded") == 0
    clock.now += 0.1
    stats.frame("decoded")
    assert stats.rate("decoded") == pytest.approx(1 / 3)


def test_quantiles_are_of_the_whole_run_not_of_its_end():
    histogram = Histogram()
    for value in [0.25] * 1500 + [0.05] * 500:
        histogram.add(value)
    assert histogram.percentile(0.5) == 0.05
    assert 0.2 < histogram.quantile(0.5) < 0.3
    assert histogram.quantile(0.1) <= 0.06
    assert Histogram().quantile(0.5) is None
    few = Histogram()
    few.add(0.123)
    assert few.quantile(0.95) == 0.123
