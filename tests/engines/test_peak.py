"""The matrix product that engines are held against."""

import pytest
import torch

from vderain.engines import peak


@pytest.mark.parametrize("number", [0, 1])
def test_the_product_is_computed_and_waited_for_on_the_device_asked_for(monkeypatch, number):
    used, waited = [], []
    draw = torch.rand

    def rand(*shape, device):
        used.append(device)
        return draw(2, 2)

    monkeypatch.setattr(torch, "rand", rand)
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(peak, "_SECONDS", 0.001)
    device = torch.device("cuda", number)
    rate, precision = peak.matrix_peak_flop_per_s(device, "float32")
    assert rate > 0 and precision == "float32"
    assert set(used) == set(waited) == {device}


def test_a_cpu_has_no_product_in_float16(monkeypatch):
    monkeypatch.setattr(peak, "_SIDE", {"cpu": 64})
    monkeypatch.setattr(peak, "_SECONDS", 0.001)
    rate, precision = peak.matrix_peak_flop_per_s(torch.device("cpu"), "float16")
    assert rate > 0 and precision == "float32"
