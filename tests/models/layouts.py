"""The published U-Nets of Ho et al. and of OpenAI, small, with the names their files have; random weights."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EMBEDDED = 4


def filled(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with every weight, norms and last layers included, away from what it is initialised to."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
        parameter.data = noise * scale + (parameter.dim() == 1 and name.endswith("weight"))
    return network.eval().requires_grad_(False)


def holder(**children: nn.Module) -> nn.Module:
    """A module that does nothing but hold others by name."""
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


def per_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for one head: (B, d, L) each."""
    weights = torch.einsum("bdi,bdj->bij", q, k) / math.sqrt(q.shape[1])
    return torch.einsum("bij,bdj->bdi", weights.softmax(-1), v)


class HoBlock(nn.Module):
    def __init__(self, before: int, after: int, embedded: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(32, before, eps=1e-6), nn.GroupNorm(32, after, eps=1e-6)
        self.conv1, self.conv2 = nn.Conv2d(before, after, 3, 1, 1), nn.Conv2d(after, after, 3, 1, 1)
        self.temb_proj = nn.Linear(embedded, after)
        if before != after:
            self.nin_shortcut = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.temb_proj(F.silu(embedding))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class HoAttention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        mixed = per_head(*(part(h).flatten(2) for part in (self.q, self.k, self.v)))
        return x + self.proj_out(mixed.view_as(x))


class HoUNet(nn.Module):
    """Appendix B of the paper; on the way down a pixel is padded at the right and at the bottom alone."""

    def __init__(self, widths=(32, 64, 64), attends=(1,), layers: int = 2, channels: int = 3):
        super().__init__()
        self.widths, self.layers = widths, layers
        embedded = EMBEDDED * widths[0]
        self.temb = holder(
            dense=nn.ModuleList([nn.Linear(widths[0], embedded), nn.Linear(embedded, embedded)])
        )
        self.conv_in = nn.Conv2d(channels, widths[0], 3, 1, 1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, skips = widths[0], [widths[0]]
        for level, after in enumerate(widths):
            arm = holder(block=nn.ModuleList(), attn=nn.ModuleList())
            for _ in range(layers):
                arm.block.append(HoBlock(width, after, embedded))
                arm.attn.extend([HoAttention(after)] if level in attends else [])
                width = after
                skips.append(width)
            if level < len(widths) - 1:
                arm.downsample = holder(conv=nn.Conv2d(width, width, 3, 2))
                skips.append(width)
            self.down.append(arm)
        self.mid = holder(
            block_1=HoBlock(width, width, embedded),
            attn_1=HoAttention(width),
            block_2=HoBlock(width, width, embedded),
        )
        for level, after in reversed([*enumerate(widths)]):
            arm = holder(block=nn.ModuleList(), attn=nn.ModuleList())
            for _ in range(layers + 1):
                arm.block.append(HoBlock(width + skips.pop(), after, embedded))
                arm.attn.extend([HoAttention(after)] if level in attends else [])
                width = after
            if level:
                arm.upsample = holder(conv=nn.Conv2d(width, width, 3, 1, 1))
            self.up.insert(0, arm)
        self.norm_out = nn.GroupNorm(32, width, eps=1e-6)
        self.conv_out = nn.Conv2d(width, channels, 3, 1, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        half = self.widths[0] // 2
        angles = t[:, None].float() * 10000 ** (-torch.arange(half) / (half - 1))
        embedding = torch.cat([angles.sin(), angles.cos()], 1)
        embedding = self.temb.dense[1](F.silu(self.temb.dense[0](embedding)))
        h = self.conv_in(x)
        skips = [h]
        for arm in self.down:
            for index, block in enumerate(arm.block):
                h = block(h, embedding)
                h = arm.attn[index](h) if len(arm.attn) else h
                skips.append(h)
            if hasattr(arm, "downsample"):
                h = arm.downsample.conv(F.pad(h, (0, 1, 0, 1)))
                skips.append(h)
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(h, embedding)), embedding)
        for arm in reversed(self.up):
            for index, block in enumerate(arm.block):
                h = block(torch.cat([h, skips.pop()], 1), embedding)
                h = arm.attn[index](h) if len(arm.attn) else h
            if hasattr(arm, "upsample"):
                h = arm.upsample.conv(h.repeat_interleave(2, 2).repeat_interleave(2, 3))
        return self.conv_out(F.silu(self.norm_out(h)))


class OpenAIBlock(nn.Module):
    """A residual block; `resampling` is what changes the edge inside it, halving or doubling."""

    def __init__(self, before: int, after: int, embedded: int, shifts: bool, resampling=None):
        super().__init__()
        self.shifts, self.resampling = shifts, resampling or (lambda x: x)
        self.in_layers = nn.Sequential(nn.GroupNorm(32, before), nn.SiLU(), nn.Conv2d(before, after, 3, 1, 1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedded, after * (1 + shifts)))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, after), nn.SiLU(), nn.Dropout(0.1), nn.Conv2d(after, after, 3, 1, 1)
        )
        self.skip_connection = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.in_layers[2](self.resampling(self.in_layers[:2](x)))
        moved = self.emb_layers(embedding)[:, :, None, None]
        if self.shifts:
            scale, shift = moved.chunk(2, 1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + moved)
        return self.skip_connection(self.resampling(x)) + h


class OpenAIAttention(nn.Module):
    """The rows of qkv lie head by head, each q, k, v; in the new order all of q first, head by head."""

    def __init__(self, width: int, heads: int, new_order: bool):
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm = nn.GroupNorm(32, width)
        self.qkv, self.proj_out = nn.Conv1d(width, 3 * width, 1), nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        rows = self.qkv(self.norm(x.flatten(2)))
        pieces = rows.chunk(3 * self.heads, 1)
        where = (1, self.heads) if self.new_order else (3, 1)  # steps to the next head, and from q to k to v
        heads = [
            per_head(*(pieces[head * where[0] + part * where[1]] for part in range(3)))
            for head in range(self.heads)
        ]
        return x + self.proj_out(torch.cat(heads, 1)).view_as(x)


class Plain(nn.Module):
    """A convolution that changes the edge, under the name its authors gave it."""

    def __init__(self, width: int, name: str):
        super().__init__()
        self.name = name
        self.add_module(name, nn.Conv2d(width, width, 3, 2 if name == "op" else 1, 1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return getattr(self, self.name)(doubled(x) if self.name == "conv" else x)


def doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


class OpenAIUNet(nn.Module):
    """The U-Net of Improved DDPM and, with `by_blocks`, of Dhariwal and Nichol (2021)."""

    def __init__(
        self,
        widths=(32, 64, 64),
        attends=(1, 2),
        *,
        layers: int = 1,
        outputs: int = 3,
        heads: int = 1,
        head_channels: int | None = None,
        shifts: bool = False,
        by_blocks: bool = False,
        new_order: bool = False,
    ):
        super().__init__()
        self.width = width = widths[0]
        embedded = EMBEDDED * width

        def block(before, after, resampling=None):
            return OpenAIBlock(before, after, embedded, shifts, resampling)

        def attention(width):
            return OpenAIAttention(width, width // head_channels if head_channels else heads, new_order)

        self.time_embed = nn.Sequential(nn.Linear(width, embedded), nn.SiLU(), nn.Linear(embedded, embedded))
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(3, width, 3, 1, 1)])])
        skips = [width]
        for level, after in enumerate(widths):
            for _ in range(layers):
                row = [block(width, after), *([attention(after)] if level in attends else [])]
                self.input_blocks.append(nn.ModuleList(row))
                width = after
                skips.append(width)
            if level < len(widths) - 1:
                down = block(width, width, halved) if by_blocks else Plain(width, "op")
                self.input_blocks.append(nn.ModuleList([down]))
                skips.append(width)
        self.middle_block = nn.ModuleList([block(width, width), attention(width), block(width, width)])
        self.output_blocks = nn.ModuleList()
        for level, after in reversed([*enumerate(widths)]):
            for index in range(layers + 1):
                row = [block(width + skips.pop(), after), *([attention(after)] if level in attends else [])]
                width = after
                if level and index == layers:
                    row.append(block(width, width, doubled) if by_blocks else Plain(width, "conv"))
                self.output_blocks.append(nn.ModuleList(row))
        self.out = nn.Sequential(nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, outputs, 3, 1, 1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        half = self.width // 2
        angles = t[:, None].float() * 10000 ** (-torch.arange(half) / half)
        embedding = self.time_embed(torch.cat([angles.cos(), angles.sin()], 1))
        h = self.input_blocks[0][0](x)
        skips = [h]
        for row in self.input_blocks[1:]:
            for layer in row:
                h = layer(h, embedding)
            skips.append(h)
        for layer in self.middle_block:
            h = layer(h, embedding)
        for row in self.output_blocks:
            h = torch.cat([h, skips.pop()], 1)
            for layer in row:
                h = layer(h, embedding)
        return self.out(h)
