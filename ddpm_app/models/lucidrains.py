"""The U-Net of lucidrains/denoising-diffusion-pytorch 2.x, which diffusers' UNet2DModel cannot express.

It norms after its convolutions, by RMSNorm; its attention has memories, learned keys and values that are no
pixels, and is linear but where `full_attention` says. Its tensors have the names that the library gives them.
"""

__all__ = ["LucidrainsUNet", "Output"]

import math
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

THETA = 10_000


class Output(NamedTuple):
    """What a network returns, as diffusers' do: float (B, C, H, W)."""

    sample: Tensor


class LucidrainsUNet(nn.Module):
    """The network of a configuration: a level halves the edge on the way down, but for the last.

    `stem_channels` come out of the first convolution, `block_out_channels` out of each level;
    `embedding_channels` are the sines and cosines of t.
    """

    def __init__(
        self,
        *,
        sample_size: int,
        in_channels: int,
        out_channels: int,
        stem_channels: int,
        embedding_channels: int,
        block_out_channels: list[int],
        full_attention: list[bool],
        num_heads: int,
        attention_head_dim: int,
        num_memories: int,
    ) -> None:
        super().__init__()
        channels = in_channels, out_channels, stem_channels, embedding_channels, *block_out_channels
        sizes = [*channels, num_heads, attention_head_dim, num_memories]
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ValueError(f"every size must be a whole number above 0, unlike one of {sizes}")
        self.config = SimpleNamespace(
            sample_size=sample_size, in_channels=in_channels, block_out_channels=block_out_channels
        )
        self.embedding_channels, embedded = embedding_channels, 4 * embedding_channels
        heads = num_heads, attention_head_dim, num_memories
        steps = list(
            zip([stem_channels, *block_out_channels], block_out_channels, full_attention, strict=False)
        )
        last = len(steps) - 1
        self.init_conv = nn.Conv2d(in_channels, stem_channels, 7, padding=3)
        self.time_mlp = nn.Sequential(
            nn.Identity(),  # the place of the sines and cosines, which have no weights
            nn.Linear(embedding_channels, embedded),
            nn.GELU(),
            nn.Linear(embedded, embedded),
        )
        self.downs: Any = nn.ModuleList()  # of four layers each
        self.ups: Any = nn.ModuleList()
        for level, (before, after, full) in enumerate(steps):
            blocks = [Residual(before, before, embedded) for _ in range(2)]
            self.downs.append(
                nn.ModuleList(
                    [*blocks, attention(full, before, heads), halving(before, after, level == last)]
                )
            )
        middle = block_out_channels[-1]
        self.mid_block1 = Residual(middle, middle, embedded)
        self.mid_attn = Attention(middle, *heads)
        self.mid_block2 = Residual(middle, middle, embedded)
        for level, (before, after, full) in reversed([*enumerate(steps)]):
            blocks = [Residual(after + before, after, embedded) for _ in range(2)]
            self.ups.append(
                nn.ModuleList([*blocks, attention(full, after, heads), doubling(after, before, level == 0)])
            )
        self.final_res_block = Residual(2 * stem_channels, stem_channels, embedded)
        self.final_conv = nn.Conv2d(stem_channels, out_channels, 1)

    def forward(self, x_t: Tensor, t: Tensor, return_dict: bool = True) -> Output | tuple[Tensor]:
        """The network at x_t (B, C, H, W) and t (B,)."""
        embedding = self.time_mlp(sines(t, self.embedding_channels))
        x = stem = self.init_conv(x_t)
        skips = []
        for first, second, attend, resample in self.downs:
            x = first(x, embedding)
            skips.append(x)
            x = second(x, embedding)
            x = x + attend(x)
            skips.append(x)
            x = resample(x)
        x = self.mid_block1(x, embedding)
        x = x + self.mid_attn(x)
        x = self.mid_block2(x, embedding)
        for first, second, attend, resample in self.ups:
            x = first(torch.cat([x, skips.pop()], 1), embedding)
            x = second(torch.cat([x, skips.pop()], 1), embedding)
            x = resample(x + attend(x))
        output = self.final_conv(self.final_res_block(torch.cat([x, stem], 1), embedding))
        return Output(output) if return_dict else (output,)


def sines(t: Tensor, channels: int) -> Tensor:
    """Sines, then cosines, of t (B,) at frequencies from 1 down to 1 / THETA, (B, channels)."""
    half = channels // 2
    steps = torch.arange(half, device=t.device, dtype=torch.float32)
    angles = t.float()[:, None] * torch.exp(-math.log(THETA) / (half - 1) * steps)
    return torch.cat([angles.sin(), angles.cos()], 1)


def halving(before: int, after: int, last: bool) -> nn.Module:
    """From a level to the one below it: 2 x 2 pixels become channels of one."""
    if last:
        return nn.Conv2d(before, after, 3, padding=1)
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * before, after, 1))


def doubling(after: int, before: int, last: bool) -> nn.Module:
    """From a level to the one above it, by its nearest pixels."""
    convolution = nn.Conv2d(after, before, 3, padding=1)
    return convolution if last else nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), convolution)


class RMSNorm(nn.Module):
    """Each pixel's channels divided by their root mean square, then scaled by g."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * self.g * x.shape[1] ** 0.5


class Block(nn.Module):
    """Convolution, norm, perhaps scale and shift, SiLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(before, after, 3, padding=1)
        self.norm = RMSNorm(after)

    def forward(self, x: Tensor, scale: Tensor | float = 0.0, shift: Tensor | float = 0.0) -> Tensor:
        return F.silu(self.norm(self.proj(x)) * (scale + 1) + shift)


class Residual(nn.Module):
    """Two blocks beside a shortcut; the time scales and shifts the first."""

    def __init__(self, before: int, after: int, embedded: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(embedded, 2 * after))
        self.block1, self.block2 = Block(before, after), Block(after, after)
        self.res_conv = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.mlp(embedding)[:, :, None, None].chunk(2, 1)
        return self.block2(self.block1(x, scale, shift)) + self.res_conv(x)


def attention(full: bool, channels: int, heads: tuple[int, int, int]) -> nn.Module:
    """What a level attends with: (heads, channels of each, memories of each)."""
    return (Attention if full else LinearAttention)(channels, *heads)


class Heads(nn.Module):
    """Queries of the pixels; keys and values of memories, learned, and of the pixels behind them."""

    def __init__(self, channels: int, num_heads: int, head_dim: int, *memories: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = RMSNorm(channels)
        self.mem_kv = nn.Parameter(torch.zeros(2, num_heads, *memories))
        self.to_qkv = nn.Conv2d(channels, 3 * num_heads * head_dim, 1, bias=False)

    def split(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, heads, d, pixels), k and v (B, heads, d, memories + pixels); `memory` is (2, heads, d, m)."""
        qkv = self.to_qkv(self.norm(x)).flatten(2)
        q, k, v = qkv.unflatten(1, (3, self.num_heads, -1)).unbind(1)
        memory_k, memory_v = memory[:, None].expand(-1, x.shape[0], -1, -1, -1)
        return q, torch.cat([memory_k, k], 3), torch.cat([memory_v, v], 3)


class Attention(Heads):
    """softmax(q k^T / sqrt(d)) v over all pixels and memories."""

    def __init__(self, channels: int, num_heads: int, head_dim: int, num_memories: int) -> None:
        super().__init__(channels, num_heads, head_dim, num_memories, head_dim)
        self.to_out = nn.Conv2d(num_heads * head_dim, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.split(x, self.mem_kv.transpose(-2, -1))
        q, k, v = (part.transpose(-2, -1) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(-2, -1)
        return self.to_out(mixed.reshape(x.shape[0], -1, *x.shape[2:]))


class LinearAttention(Heads):
    """softmax(q) (softmax(k) v^T): the queries over their channels, the keys over pixels and memories."""

    def __init__(self, channels: int, num_heads: int, head_dim: int, num_memories: int) -> None:
        super().__init__(channels, num_heads, head_dim, head_dim, num_memories)
        self.to_out = nn.Sequential(nn.Conv2d(num_heads * head_dim, channels, 1), RMSNorm(channels))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x, self.mem_kv)
        context = v @ k.softmax(3).transpose(-2, -1)  # (B, heads, d of v, d of k)
        mixed = context @ q.softmax(2) * q.shape[2] ** -0.5
        return self.to_out(mixed.reshape(x.shape[0], -1, *x.shape[2:]))
