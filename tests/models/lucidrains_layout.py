"""The U-Net of denoising-diffusion-pytorch 2.x as functions of its tensors."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

Tensors = dict[str, Tensor]


class Names:
    """Draws the tensors that the network has, each with its published name."""

    def __init__(self, seed: int):
        self.generator, self.tensors = torch.Generator().manual_seed(seed), {}

    def add(self, name: str, *shape: int, scale: float = 1.0, offset: float = 0.0) -> None:
        self.tensors[name] = torch.randn(shape, generator=self.generator) * scale + offset

    def layer(self, name: str, *shape: int, bias: bool = True) -> None:
        self.add(f"{name}.weight", *shape, scale=math.prod(shape[1:]) ** -0.5)
        if bias:
            self.add(f"{name}.bias", shape[0], scale=0.3)

    def residual(self, name: str, before: int, after: int, embedded: int) -> None:
        self.layer(f"{name}.mlp.1", 2 * after, embedded)
        for block, width in (("block1", before), ("block2", after)):
            self.layer(f"{name}.{block}.proj", after, width, 3, 3)
            self.add(f"{name}.{block}.norm.g", 1, after, 1, 1, scale=0.3, offset=1)
        if before != after:
            self.layer(f"{name}.res_conv", after, before, 1, 1)

    def attention(self, name: str, width: int, full: bool, heads: int, dim: int, memories: int) -> None:
        self.add(f"{name}.norm.g", 1, width, 1, 1, scale=0.3, offset=1)
        self.add(f"{name}.mem_kv", 2, heads, *((memories, dim) if full else (dim, memories)))
        self.layer(f"{name}.to_qkv", 3 * heads * dim, width, 1, 1, bias=False)
        self.layer(f"{name}.to_out" if full else f"{name}.to_out.0", width, heads * dim, 1, 1)
        if not full:
            self.add(f"{name}.to_out.1.g", 1, width, 1, 1, scale=0.3, offset=1)


def lucidrains_tensors(
    dim: int = 8,
    mults=(1, 2, 4),
    full=(False, False, True),
    outputs: int = 3,
    init_dim: int = 12,
    seed: int = 0,
) -> Tensors:
    """Random tensors of a network with `dim` channels times `mults`."""
    names, heads = Names(seed), (2, 6, 4)
    widths = [init_dim, *(dim * mult for mult in mults)]
    steps, embedded = list(zip(widths[:-1], widths[1:], full, strict=True)), 4 * dim
    names.layer("init_conv", init_dim, 3, 7, 7)
    names.layer("time_mlp.1", embedded, dim)
    names.layer("time_mlp.3", embedded, embedded)
    for level, (before, after, here) in enumerate(steps):
        last = level == len(steps) - 1
        for block in range(2):
            names.residual(f"downs.{level}.{block}", before, before, embedded)
        names.attention(f"downs.{level}.2", before, here, *heads)
        if last:
            names.layer(f"downs.{level}.3", after, before, 3, 3)
        else:
            names.layer(f"downs.{level}.3.1", after, 4 * before, 1, 1)
    for block in ("mid_block1", "mid_block2"):
        names.residual(block, widths[-1], widths[-1], embedded)
    names.attention("mid_attn", widths[-1], True, *heads)
    for up, (before, after, here) in enumerate(reversed(steps)):
        for block in range(2):
            names.residual(f"ups.{up}.{block}", before + after, after, embedded)
        names.attention(f"ups.{up}.2", after, here, *heads)
        names.layer(f"ups.{up}.3" if up == len(steps) - 1 else f"ups.{up}.3.1", before, after, 3, 3)
    names.residual("final_res_block", 2 * init_dim, init_dim, embedded)
    names.layer("final_conv", outputs, init_dim, 1, 1)
    return names.tensors


def lucidrains(tensors: Tensors, x: Tensor, t: Tensor) -> Tensor:
    """The network's output."""

    def layer(name: str, x: Tensor) -> Tensor:
        weight, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
        return (
            F.linear(x, weight, bias)
            if weight.dim() == 2
            else F.conv2d(x, weight, bias, 1, weight.shape[2] // 2)
        )

    def rms(name: str, x: Tensor) -> Tensor:
        length = x.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)
        return x / length * tensors[f"{name}.g"] * math.sqrt(x.shape[1])

    def residual(name: str, x: Tensor) -> Tensor:
        scale, shift = layer(f"{name}.mlp.1", F.silu(embedding))[:, :, None, None].chunk(2, 1)
        h = F.silu(rms(f"{name}.block1.norm", layer(f"{name}.block1.proj", x)) * (1 + scale) + shift)
        h = F.silu(rms(f"{name}.block2.norm", layer(f"{name}.block2.proj", h)))
        return h + (layer(f"{name}.res_conv", x) if f"{name}.res_conv.weight" in tensors else x)

    def attended(name: str, x: Tensor) -> Tensor:
        memory = tensors[f"{name}.mem_kv"]
        heads, full = memory.shape[1], f"{name}.to_out.weight" in tensors
        q, k, v = (
            part.unflatten(1, (heads, -1)).flatten(3)
            for part in layer(f"{name}.to_qkv", rms(f"{name}.norm", x)).chunk(3, 1)
        )
        memory_k, memory_v = (each.mT if full else each for each in memory)
        k = torch.stack([torch.cat([memory_k, each], -1) for each in k])
        v = torch.stack([torch.cat([memory_v, each], -1) for each in v])
        if full:
            weights = torch.einsum("bhdi,bhdj->bhij", q, k) / math.sqrt(q.shape[2])
            out = torch.einsum("bhij,bhdj->bhdi", weights.softmax(-1), v)
            return x + layer(f"{name}.to_out", out.flatten(1, 2).unflatten(2, x.shape[2:]))
        context = torch.einsum("bhdn,bhen->bhde", k.softmax(-1), v)
        out = torch.einsum("bhde,bhdn->bhen", context, q.softmax(2) / math.sqrt(q.shape[2]))
        out = layer(f"{name}.to_out.0", out.flatten(1, 2).unflatten(2, x.shape[2:]))
        return x + rms(f"{name}.to_out.1", out)

    half = tensors["time_mlp.1.weight"].shape[1] // 2
    angles = t[:, None] * 10000 ** (-torch.arange(half) / (half - 1))
    embedding = layer("time_mlp.1", torch.cat([angles.sin(), angles.cos()], 1))
    embedding = layer("time_mlp.3", F.gelu(embedding))
    levels = len({name.split(".")[1] for name in tensors if name.startswith("downs")})
    x = stem = layer("init_conv", x)
    skips = []
    for level in range(levels):
        x = residual(f"downs.{level}.0", x)
        skips.append(x)
        x = attended(f"downs.{level}.2", residual(f"downs.{level}.1", x))
        skips.append(x)
        if level == levels - 1:
            x = layer(f"downs.{level}.3", x)
        else:
            corners = torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 2)
            x = layer(f"downs.{level}.3.1", corners.flatten(1, 2))
    x = residual("mid_block2", attended("mid_attn", residual("mid_block1", x)))
    for up in range(levels):
        x = residual(f"ups.{up}.0", torch.cat([x, skips.pop()], 1))
        x = attended(f"ups.{up}.2", residual(f"ups.{up}.1", torch.cat([x, skips.pop()], 1)))
        if up == levels - 1:
            x = layer(f"ups.{up}.3", x)
        else:
            x = layer(f"ups.{up}.3.1", x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    return layer("final_conv", residual("final_res_block", torch.cat([x, stem], 1)))
