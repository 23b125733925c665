"""Time by kind of operator, by made-up counters."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from vderain.engines.backends.operators import operator_times


def counter(kind, ms, *, kernel="jit_avx2_FP32", status="EXECUTED"):
    return SimpleNamespace(
        node_type=kind,
        exec_type=kernel,
        status=SimpleNamespace(name=status),
        real_time=timedelta(milliseconds=ms),
    )


COUNTERS = [
    counter("Convolution", 4),
    counter("Convolution", 2),
    counter("Reorder", 1),
    counter("Concatenation", 1, kernel="ref_f32"),
    counter("Concatenation", 2),
    counter("Convolution", 50, status="OPTIMIZED_OUT"),
    counter("Input", 30, status="NOT_RUN"),
]


def test_operators_of_a_kind_are_added_up_and_the_longest_kind_comes_first():
    inferred = []
    found = operator_times(lambda: inferred.append(True), lambda: COUNTERS, 0.0)
    assert [(one.kind, one.ms) for one in found] == [
        ("Convolution", pytest.approx(6)),
        ("Concatenation", pytest.approx(2)),
        ("Reorder", pytest.approx(1)),
        ("Concatenation (slow)", pytest.approx(1)),
    ]
    assert [one.share for one in found] == pytest.approx([0.6, 0.2, 0.1, 0.1])
    assert [one.is_convolution for one in found] == [True, False, False, False]
    assert len(inferred) == 4  # three of them are counted


def test_a_graph_of_which_nothing_is_executed_has_no_operators():
    assert operator_times(lambda: None, lambda: [], 0.0) == []
