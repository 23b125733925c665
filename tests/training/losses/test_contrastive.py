import math

import pytest
import torch
from torch.nn import functional as F

from vderain.errors import OptionError
from vderain.training.losses import contrastive
from vderain.training.losses.contrastive import (
    contrast,
    labelled_contrast,
    location_contrast,
    nce_location,
)
from vderain.training.losses.encoders import ProjectionHeads
from vderain.training.losses.sampling import features_at, non_local_neighbours


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def slow_contrast(anchor, positives, negatives, temperature):
    """One anchor, plain numbers."""

    def dot(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / temperature

    everything = sum(math.exp(dot(anchor, other)) for other in [*positives, *negatives])
    shares = [math.log(math.exp(dot(anchor, other)) / everything) for other in positives]
    return -sum(shares) / len(positives)


@pytest.mark.parametrize("mutual", [False, True])
def test_contrast_is_that_of_a_plain_loop(mutual):
    anchors, positives, negatives = unit(2, 3, 5), unit(4, 5, seed=1), unit(2, 6, 5, seed=2)
    losses = []
    for s in range(2):
        for a in range(3):
            others = [anchors[s, i].tolist() for i in range(3) if i != a] if mutual else []
            losses.append(
                slow_contrast(
                    anchors[s, a].tolist(),
                    [*positives.tolist(), *others],
                    negatives[s].tolist(),
                    0.2,
                )
            )
    found = contrast(anchors, positives, negatives, temperature=0.2, mutual=mutual)
    assert found.item() == pytest.approx(sum(losses) / 6, rel=1e-12)


def test_labelled_contrast_is_that_of_a_plain_loop():
    vectors, labels = unit(2, 6, 4), [0, 1, 0, 1, 1, 0]
    losses = []
    for s in range(2):
        rows = vectors[s].tolist()
        for a in range(6):
            same = [rows[i] for i in range(6) if i != a and labels[i] == labels[a]]
            other = [rows[i] for i in range(6) if labels[i] != labels[a]]
            losses.append(slow_contrast(rows[a], same, other, 0.07))
    found = labelled_contrast(vectors, torch.tensor(labels))
    assert found.item() == pytest.approx(sum(losses) / 12, rel=1e-12)


def test_nce_location_is_that_of_a_plain_loop():
    queries, positives, negatives = unit(2, 3, 5), unit(2, 3, 5, seed=1), unit(2, 3, 7, 5, seed=2)
    losses = [
        slow_contrast(
            queries[s, q].tolist(), [positives[s, q].tolist()], negatives[s, q].tolist(), 0.07
        )
        for s in range(2)
        for q in range(3)
    ]
    found = nce_location(queries, positives, negatives)
    assert found.item() == pytest.approx(sum(losses) / 6, rel=1e-12)


def test_gradients():
    inputs = [unit(2, 3, 4), unit(2, 4, seed=1), unit(2, 5, 4, seed=2)]
    inputs = [side.requires_grad_() for side in inputs]
    for mutual in (False, True):

        def loss(a, p, n, mutual=mutual):
            return contrast(a, p, n, temperature=0.3, mutual=mutual)

        assert torch.autograd.gradcheck(loss, inputs)
    labels = torch.tensor([0, 0, 1, 1])
    assert torch.autograd.gradcheck(
        lambda v: labelled_contrast(v, labels, temperature=0.3), unit(4, 3).requires_grad_()
    )
    keys = unit(2, 4), unit(2, 3, 4, seed=1)
    assert torch.autograd.gradcheck(
        lambda q: nce_location(q, *keys, temperature=0.3), unit(2, 4, seed=2).requires_grad_()
    )


def test_the_rainy_side_of_a_location_gets_no_gradient():
    queries, positives, negatives = (
        side.requires_grad_() for side in (unit(2, 4), unit(2, 4, seed=1), unit(2, 3, 4, seed=2))
    )
    nce_location(queries, positives, negatives).backward()
    assert queries.grad.abs().sum() > 0 and positives.grad is None and negatives.grad is None


def test_a_vector_is_not_compared_with_itself():
    vector = unit(1, 4)
    pair = torch.cat((vector, vector))
    alone = contrast(pair, vector, unit(0, 4), mutual=True)  # all that is left are two positives
    assert alone.item() == pytest.approx(math.log(2))


def test_half_precision_vectors_are_compared_in_single():
    anchors, positives, negatives = (
        side.bfloat16() for side in (unit(3, 8), unit(4, 8, seed=1), unit(6, 8, seed=2))
    )
    expected = contrast(anchors.float(), positives.float(), negatives.float())
    with torch.autocast("cpu", torch.bfloat16):
        for sides in (
            (anchors, positives, negatives),
            (anchors.float(), positives.float(), negatives.float()),
        ):
            assert contrast(*sides).item() == pytest.approx(expected.item(), rel=1e-6)


def test_an_anchor_without_a_positive_is_refused():
    with pytest.raises(OptionError, match="needs a positive"):
        contrast(unit(2, 4), unit(0, 4), unit(3, 4))
    with pytest.raises(OptionError, match="needs a positive"):
        labelled_contrast(unit(3, 4), torch.tensor([0, 0, 1]))


def test_location_contrast_takes_the_least_similar_patches_and_every_level(monkeypatch):
    asked = {}

    def spy(*args, **kwargs):
        asked.update(kwargs)
        return non_local_neighbours(*args, **kwargs)

    monkeypatch.setattr(contrastive, "non_local_neighbours", spy)
    generator = torch.Generator().manual_seed(3)
    rainy = torch.rand(2, 3, 20, 26, generator=generator, dtype=torch.float64)
    sizes = [(2, 3, 20, 26), (2, 5, 10, 13)]
    query_levels, key_levels = (
        [torch.rand(size, generator=generator, dtype=torch.float64) for size in sizes]
        for _ in range(2)
    )
    heads = ProjectionHeads((3, 5), hidden=6, outputs=4).double()
    centres = torch.tensor([[[8, 9], [12, 20]], [[5, 4], [15, 21]]])
    options = {"count": 7, "patch_px": 8, "window_px": 12}
    found = location_contrast(query_levels, key_levels, rainy, centres, heads, **options)
    assert asked["farthest"] is True
    elsewhere = non_local_neighbours(rainy, centres, farthest=True, **options)
    losses = []
    for s in range(2):
        for q in range(2):
            where = torch.cat((centres[s, q][None], elsewhere[s, q]))[None]
            query = heads(features_at([x[s : s + 1] for x in query_levels], where[:, :1], (20, 26)))
            keys = heads(features_at([x[s : s + 1] for x in key_levels], where, (20, 26)))
            for level in range(2):
                positive, *negatives = keys[level][0].tolist()
                losses.append(
                    slow_contrast(query[level][0, 0].tolist(), [positive], negatives, 0.07)
                )
    assert found.item() == pytest.approx(sum(losses) / 8, rel=1e-9)
    found.backward()
    for head in heads.heads:
        assert all(value.grad.abs().sum() > 0 for value in head.parameters())
