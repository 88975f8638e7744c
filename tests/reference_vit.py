"""TS-CAM, SCM and SAT on DeiT, written plainly with the authors' names for their tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsol.interop.peer_transformers import TRANSFORMERS


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.qkv, self.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, heads: int, gated: bool) -> tuple[Tensor, Tensor, Tensor]:
        """The tokens, their attention (N, H, T, T), and the gate (N, T) of the last token."""
        n, t, c = x.shape
        q, k, v = self.attn.qkv(self.norm1(x)).reshape(n, t, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) * (c // heads) ** -0.5
        gate = scores[:, :, -1].mean(1).sigmoid()
        attention = scores.softmax(-1)
        used = attention * gate[:, None, None] if gated else attention
        x = x + self.attn.proj((used @ v).transpose(1, 2).reshape(n, t, c))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x)))), attention, gate


class Calibration(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fuse = nn.Module()
        self.fuse._loss_rate, self.thred = nn.Parameter(torch.tensor([0.9])), nn.Parameter(torch.tensor([0.6]))


class Reference(nn.Module):
    """One of the three methods; ``planes`` and ``attention`` of the last forward pass stay for tests."""

    def __init__(self, method: str, classes: int, width: int, depth: int, heads: int, side: int = 224) -> None:
        super().__init__()
        self.method, self.count = method, heads
        self.cls_token, self.patch_embed = nn.Parameter(torch.randn(1, 1, width)), nn.Module()
        self.pos_embed = nn.Parameter(torch.randn(1, (side // 16) ** 2 + 1, width))
        self.patch_embed.proj = nn.Conv2d(3, width, 16, stride=16)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Conv2d(width, classes, 3, padding=1)
        if method == "SCM":
            self.layers = nn.ModuleList(Calibration() for _ in range(4))
        if method == "SAT":
            self.loc_token, self.loc_embed = (nn.Parameter(torch.randn(1, 1, width)) for _ in range(2))
            self.weight = nn.Parameter(torch.rand(1, 1, 3, 3) / 9, requires_grad=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, K), and maps (N, K, h, w), SAT's (N, 1, h, w)."""
        patches = self.patch_embed.proj(images)
        (n, _, h, w), extra = patches.shape, self.method == "SAT"
        tokens = [self.cls_token.expand(n, -1, -1), patches.flatten(2).transpose(1, 2)]
        places = [self.pos_embed]
        if extra:
            tokens, places = [*tokens, self.loc_token.expand(n, -1, -1)], [*places, self.loc_embed]
        x = torch.cat(tokens, 1) + torch.cat(places, 1)
        rows, gates = [], []
        for index, block in enumerate(self.blocks):
            x, attention, gate = block(x, self.count, extra and index >= len(self.blocks) - 3)
            rows.append(attention.mean(1)[:, 0, 1 : h * w + 1])
            gates.append(gate[:, 1 : h * w + 1])
        patches = self.norm(x)[:, 1 : h * w + 1].transpose(1, 2).reshape(n, -1, h, w)
        self.planes, self.attention = self.head(patches), torch.stack(rows).sum(0)
        if self.method == "SAT":
            return self.planes.mean((2, 3)), torch.stack(gates[-3:]).mean(0).reshape(n, 1, h, w)
        if self.method == "SCM":
            self.attention = scaled(self.attention)
        return self.planes.mean((2, 3)), self.attention.reshape(n, 1, h, w) * self.planes

    def calibrated(self) -> Tensor:
        """Scores (N, K) of SCM in training, image by image and entry by entry."""
        scores = []
        for planes, attention in zip(self.planes, self.attention, strict=True):
            s, f, (_, h, w) = planes.flatten(1).T, attention, planes.shape
            cells = [(i, j) for i in range(h) for j in range(w)]
            near = torch.tensor([[float(abs(a - c) + abs(b - d) == 1) for c, d in cells] for a, b in cells])
            for layer, steps in zip(self.layers, (16, 4, 4, 4), strict=True):
                similar = F.cosine_similarity(s[:, None], s[None], dim=2)
                y = (near.sum(1).diag() - near) * (layer.fuse._loss_rate * similar - 1)
                x = 0.002 * y.detach().T
                for _ in range(steps):
                    x = x @ (2 * torch.eye(h * w) - y @ x)
                moved = x.T @ f / (layer.thred * f.max())
                fresh = scaled((moved - moved.tanh())[None])[0]
                s, f = s + s * fresh[:, None], f + fresh
            scores.append(s.mean(0))
        return torch.stack(scores)

    def translated(self) -> dict[str, Tensor]:
        """The tensors under the names of this project."""
        peer = next(peer for peer in TRANSFORMERS if peer.name.startswith(self.method))
        return peer.translate(self.state_dict())


def scaled(rows: Tensor) -> Tensor:
    low = rows - rows.min(1, keepdim=True).values
    return low / low.max(1, keepdim=True).values
