r"""The second eigenvector of a normalized cut, batched.

Shi and Malik 2000, "Normalized Cuts and Image Segmentation", equation 7: for weights A = A^T > 0 and D the diagonal
matrix of their row sums, the relaxed cut is the eigenvector of the second smallest eigenvalue of

    (D - A) v = l D v

With L = D^-1/2 A D^-1/2 and u = D^1/2 v this is ``L u = (1 - l) u``. The largest eigenvalue of L is 1, its eigenvector
D^1/2 1 is known, and what remains without it has u as the eigenvector of its largest eigenvalue. Lanczos' method finds
it with a few dozen products, in float32 first. Where the bound on the error (in float64) is not small enough, it starts
again in float64, and where that does not help either, all eigenvectors are computed.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = (24, 32, 48, 64)
"""Sizes of the Krylov space at which the error is looked at."""
TOLERANCE = 2e-5
"""Greatest bound on the error of a unit eigenvector: its residual over the gap to the next eigenvalue."""
PART = 2**20
"""Largest number of weights that are taken together on a CPU: they stay in its cache from product to product."""


def second_eigenvector(weights: Tensor) -> Tensor:
    """Return v of each matrix.

    Args:
        weights: real (N, P, P), symmetric, rows with a positive sum.

    Returns:
        float64 (N, P), scaled so that v^T D v = 1; the sign is free.

    Example:
        >>> near, far = torch.ones(2, 2), torch.full((2, 2), 0.1)
        >>> two_groups = torch.cat([torch.cat([near, far], 1), torch.cat([far, near], 1)])
        >>> v = second_eigenvector(two_groups[None])[0]
        >>> (v / v[0]).round(decimals=5).tolist()
        [1.0, 1.0, -1.0, -1.0]
    """
    if weights.device.type != "cpu":
        return _second_eigenvector(weights.double())
    size = max(1, PART // max(1, weights.shape[1] * weights.shape[2]))
    return torch.cat([_second_eigenvector(part.double()) for part in weights.split(size)])


def _second_eigenvector(weights: Tensor) -> Tensor:
    """See `second_eigenvector`; float64 (N, P, P)."""
    root = weights.sum(2).sqrt()
    found, left = torch.zeros_like(root), torch.arange(len(root), device=root.device)
    for dtype in (torch.float32, torch.float64):
        some, scale = weights[left] if len(left) < len(root) else weights, 1 / root[left]
        vectors, gap = _lanczos(some.to(dtype), scale.to(dtype), _unit(root[left]).to(dtype))
        vectors = _unit(vectors.double())
        product = torch.bmm((scale * vectors)[:, None], some)[:, 0] * scale
        residual = (product - (product * vectors).sum(1, keepdim=True) * vectors).norm(dim=1)
        is_exact = residual < TOLERANCE * gap
        found[left[is_exact]] = vectors[is_exact]
        left = left[~is_exact]
        if not len(left):
            return found / root
    first = _unit(root[left])
    rest = weights[left] / (root[left][:, :, None] * root[left][:, None, :])
    rest -= 2 * first[:, :, None] * first[:, None, :]  # the eigenvalue 1 becomes -1
    found[left] = torch.linalg.eigh(rest)[1][..., -1]
    return found / root


def _lanczos(weights: Tensor, scale: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Largest eigenvectors of S W S among the vectors orthogonal to given ones, where they are found.

    Args:
        weights: W, (N, P, P).
        scale: S = diag(scale), (N, P).
        first: unit vectors (N, P).

    Returns:
        Eigenvectors (N, P), and float64 (N,) how far the eigenvalue is from the next one; 0 where none was found.
    """
    count, size = first.shape
    steps = [step for step in STEPS if step < size]
    most = max(steps, default=0)
    found, gap = torch.zeros_like(first), torch.zeros(count, dtype=torch.float64, device=first.device)
    left = torch.arange(count, device=first.device)
    start = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(first)
    basis = first.new_zeros(count, most + 2, size)  # the given vectors, then what is orthogonal to them
    diagonal, beside = (torch.zeros(count, most, dtype=torch.float64, device=first.device) for _ in range(2))
    basis[:, 0] = first
    if most:
        basis[:, 1], _ = _orthonormal(start.expand(count, -1), basis[:, :1])
    for step in range(most):
        # A row times a symmetric matrix: on CPUs many times faster than the matrix times a column.
        product = torch.bmm((scale * basis[:, step + 1])[:, None], weights)[:, 0] * scale
        diagonal[:, step] = (product * basis[:, step + 1]).sum(1)
        basis[:, step + 2], beside[:, step] = _orthonormal(product, basis[:, : step + 2])
        if step + 1 in steps:
            values, vectors = _ritz(diagonal[:, : step + 1], beside[:, :step])
            apart = values[:, -1] - values[:, -2]
            new = beside[:, step] * vectors[:, -1, -1].abs() < TOLERANCE / 4 * apart  # the rest is for rounding
            found[left] = torch.bmm(vectors[:, None, :, -1].to(basis.dtype), basis[:, 1 : step + 2])[:, 0]
            gap[left] = torch.where(new, apart, 0.0)
            if bool(new.all()):
                break
            if bool(new.any()):  # go on with the others alone
                left, weights, scale, basis, diagonal, beside = (
                    of[~new] for of in (left, weights, scale, basis, diagonal, beside)
                )
    return found, gap


def _ritz(diagonal: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (N, S) and eigenvectors (N, S, S) of symmetric tridiagonal matrices."""
    matrices = torch.diag_embed(diagonal) + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    values, vectors = torch.linalg.eigh(matrices)
    return values, vectors


def _orthonormal(vectors: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the part of vectors (N, P) orthogonal to orthonormal rows (N, S, P), at length 1, and its length (N,).

    A part that is only rounding error becomes zero.
    """
    parts = torch.bmm(vectors[:, None], basis.transpose(1, 2))
    vectors = vectors - torch.bmm(parts, basis)[:, 0]
    length = vectors.norm(dim=1)
    length = torch.where(length < 100 * torch.finfo(vectors.dtype).eps, 0.0, length)
    return vectors * torch.where(length > 0, 1 / length, 0.0)[:, None], length


def _unit(vectors: Tensor) -> Tensor:
    """Scale vectors (N, P) to length 1; zero stays zero."""
    return vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-30)
