"""Contrastive losses over feature vectors of unit length.

All are of the InfoNCE family with the supervised form of Khosla et al. 2020 (arXiv 2004.11362, equation 2):
for an anchor, the mean over its positives of minus the log of ``exp(positive) / sum(exp(all))``, where each
similarity is a dot product divided by the temperature. Shapes: D numbers per vector; leading dimensions
("...") are separate sets, and broadcast. Half precision is computed on in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vderain.errors import OptionError
from vderain.training.losses.encoders import ProjectionHeads
from vderain.training.losses.sampling import (
    at_least_float32,
    features_at,
    non_local_neighbours,
)

TEMPERATURE = 0.07  # of NLCL's public code


def contrast(
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    temperature: float = TEMPERATURE,
    mutual: bool = False,
) -> Tensor:
    """Pull each anchor to the positives and push it from the negatives; scalar, the mean over anchors.

    Args:
        anchors: (..., A, D).
        positives: (..., P, D), the same for all anchors of a set.
        negatives: (..., Q, D), likewise; Q may be 0.
        temperature: divides the similarities.
        mutual: the anchors of a set are positives of each other too.

    Raises OptionError where an anchor has no positive.

    """
    parts = [_similarities(anchors, positives), _similarities(anchors, negatives)]
    count = anchors.shape[-2]
    own = torch.eye(count, dtype=torch.bool, device=anchors.device)
    positive = [own.new_ones(count, positives.shape[-2]), own.new_zeros(count, negatives.shape[-2])]
    ignored = [own.new_zeros(count, part.shape[-1]) for part in parts]
    if mutual:
        parts.append(_similarities(anchors, anchors))
        positive.append(~own)
        ignored.append(own)
    batch = torch.broadcast_shapes(*(part.shape[:-2] for part in parts))  # type: ignore[no-untyped-call]  # undeclared in torch
    logits = torch.cat([part.expand(*batch, -1, -1) for part in parts], -1) / temperature
    return _mean_over_anchors(logits, torch.cat(positive, -1), torch.cat(ignored, -1))


def labelled_contrast(
    vectors: Tensor, labels: Tensor, *, temperature: float = TEMPERATURE
) -> Tensor:
    """Pull vectors of one label together and push the labels apart: NLCL's layer contrast.

    Args:
        vectors: (..., M, D); every one is an anchor.
        labels: (M,) integers, say 0 for background and 1 for rain.
        temperature: divides the similarities.

    Returns a scalar, the mean over anchors. Raises OptionError for a label that has one vector only.

    """
    own = torch.eye(len(labels), dtype=torch.bool, device=vectors.device)
    positive = (labels[:, None] == labels) & ~own
    return _mean_over_anchors(_similarities(vectors, vectors) / temperature, positive, own)


def nce_location(
    queries: Tensor, positives: Tensor, negatives: Tensor, *, temperature: float = TEMPERATURE
) -> Tensor:
    """Distinguish a query's own location from others: NLCL's location contrast; scalar, the mean over queries.

    Args:
        queries: (..., D), of the derained image.
        positives: (..., D), of the rainy image at the same locations; no gradient goes there.
        negatives: (..., Q, D), of the rainy image elsewhere, likewise.
        temperature: divides the similarities.

    """
    keys = torch.cat((positives[..., None, :], negatives), -2).detach()
    logits = _similarities(queries[..., None, :], keys)[..., 0, :] / temperature
    return (logits.logsumexp(-1) - logits[..., 0]).mean()


def location_contrast(
    query_levels: Sequence[Tensor],
    key_levels: Sequence[Tensor],
    rainy: Tensor,
    centres: Tensor,
    heads: ProjectionHeads,
    *,
    count: int = 256,
    patch_px: int = 16,
    window_px: int = 40,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """NLCL's location contrast with reverse non-local negatives, averaged over queries and levels.

    The negatives are the patches of the window that are least like the centre's, as in the paper's figure.

    Args:
        query_levels: encoder levels of the derained image, each (N, C_level, h, w).
        key_levels: of the rainy image.
        rainy: (N, C, H, W), on which patches are compared.
        centres: (N, K, 2) int64, the queries' locations.
        heads: of the levels; they learn through the queries.
        count: negatives per query.
        patch_px: side of a patch.
        window_px: side of the window.
        temperature: divides the similarities.

    Raises OptionError as ``non_local_neighbours`` does.

    """
    size = (rainy.shape[2], rainy.shape[3])
    elsewhere = non_local_neighbours(
        rainy, centres, count=count, patch_px=patch_px, window_px=window_px, farthest=True
    )
    queries = heads(features_at(query_levels, centres, size))
    with torch.no_grad():
        same = heads(features_at(key_levels, centres, size))
        other = heads(features_at(key_levels, elsewhere.flatten(1, 2), size))
    losses = [
        nce_location(q, p, n.unflatten(1, elsewhere.shape[1:3]), temperature=temperature)
        for q, p, n in zip(queries, same, other, strict=True)
    ]
    return torch.stack(losses).mean()


def _similarities(a: Tensor, b: Tensor) -> Tensor:
    """(..., A, D), (..., B, D) -> dot products (..., A, B); in bfloat16 they would differ by whole logits."""
    with torch.autocast(a.device.type, enabled=False):
        return at_least_float32(a) @ at_least_float32(b).mT


def _mean_over_anchors(logits: Tensor, positive: Tensor, ignored: Tensor) -> Tensor:
    """Logits (..., A, M) with masks (A, M) of each anchor's positives and of what it is not compared with."""
    counts = positive.sum(-1)
    if not len(counts) or bool((counts == 0).any()):
        raise OptionError("contrast: every anchor needs a positive; sample more patches")
    log_share = logits - logits.masked_fill(ignored, -torch.inf).logsumexp(-1, keepdim=True)
    return -(log_share.masked_fill(~positive, 0).sum(-1) / counts).mean()
