from vderain.live.scheduling.ring_buffer import LatestRing


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_frames_come_out_in_order_while_they_are_young():
    ring = LatestRing(clock=Clock())
    assert (ring.put(1), ring.put(2), ring.newest) == (0, 0, 2)
    assert [ring.take(), ring.take(), ring.take()] == [(1, 0), (2, 0), (None, 0)]


def test_the_oldest_goes_where_there_is_no_room():
    ring = LatestRing(clock=Clock())
    assert sum(ring.put(item) for item in range(10)) == 8
    assert (len(ring), ring.take(), ring.take()) == (2, (8, 0), (9, 0))


def test_one_that_waited_too_long_gives_way_to_the_newest():
    clock = Clock()
    ring = LatestRing(max_age_s=0.04, clock=clock)
    ring.put(1)
    clock.now = 0.05
    ring.put(2)
    assert ring.take() == (2, 1)


def test_the_newest_is_kept_however_old():
    clock = Clock()
    ring = LatestRing(max_age_s=0.04, clock=clock)
    ring.put(1)
    clock.now = 100
    assert ring.take() == (1, 0)


def test_clearing_is_no_drop():
    ring = LatestRing(clock=Clock())
    ring.put(1)
    ring.clear()
    assert ring.take() == (None, 0) and ring.newest is None
