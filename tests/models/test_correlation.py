"""The joint correlation in tiles against its equation: values, gradients, dropout and memory."""

from __future__ import annotations

import plain
import pytest
import torch
from nets import build
from torch import Tensor, nn

from emozoo.models import correlation
from emozoo.models.correlation import correlate
from emozoo.models.recursive_joint_attention import OfficialJointAttention, RecursiveJointAttention

SIZES = [(1, 1, 1, 1), (2, 8, 16, 4), (3, 13, 7, 5), (5, 64, 128, 16)]  # B, w, d, L


def drawn(batch: int, width: int, columns: int, steps: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """key, joint and value."""
    torch.manual_seed(0)
    shapes = (batch, width, steps), (batch, steps, columns), (batch, steps, width)
    return [torch.randn(s, dtype=dtype, requires_grad=True) for s in shapes]


def gradients(out: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((out * weights).sum(), inputs)


def close(got: Tensor, want: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(got, want, atol=tolerance, rtol=tolerance)


@pytest.fixture(params=[2**17, 40, 1])
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of many items, of a few rows of one item with a smaller one at the end, and of single rows."""
    monkeypatch.setitem(correlation.TILE, "cpu", request.param)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("tile")
def test_tiles_equal_the_equation(size: tuple[int, int, int, int]) -> None:
    """Protects: whatever the sizes and tiles, output and every gradient are those of the equation."""
    inputs = drawn(*size)
    fast, want = correlate(*inputs), plain.correlate(*inputs)
    close(fast, want)
    for got, expected in zip(gradients(fast, inputs), gradients(want, inputs), strict=True):
        close(got, expected)
    with torch.no_grad():
        close(correlate(*inputs), want)


@pytest.mark.parametrize("dropout", [0.0, 0.6])
@pytest.mark.usefixtures("tile")
def test_gradients_are_the_derivatives(dropout: float) -> None:
    """Protects: gradients agree with finite differences in float64, behind a given dropout mask, too."""

    def seeded(*inputs: Tensor) -> Tensor:
        torch.manual_seed(3)
        return correlate(*inputs, dropout)

    assert torch.autograd.gradcheck(seeded, drawn(2, 5, 7, 3, torch.float64))


@pytest.mark.parametrize("dropout", [0.6, 0.1, 0.002])
def test_dropout_is_drawn_for_each_element(dropout: float) -> None:
    """Protects training: each element of the map is zero with probability p, alone, or scaled by 1 / (1 - p)."""
    key, joint, _ = (x.detach() for x in drawn(8, 64, 501, 64))
    value = torch.eye(64).expand(8, 64, 64)  # the output is then the map
    whole = correlate(key, joint, value)
    torch.manual_seed(5)
    out = correlate(key, joint, value, dropout)
    close(out, torch.where(out == 0, 0.0, whole / (1 - dropout)))

    dropped = (out == 0).float() - dropout
    spread = (dropout * (1 - dropout)) ** 0.5
    bound = 5 * spread / dropped.numel() ** 0.5  # five standard errors
    assert dropped.mean().abs() < bound
    for dim in range(3):  # neighbors along items, rows and columns share nothing
        a, b = dropped.narrow(dim, 1, dropped.shape[dim] - 1), dropped.narrow(dim, 0, dropped.shape[dim] - 1)
        assert (a * b).mean().abs() < 5 * spread**2 / a.numel() ** 0.5

    again = correlate(key, joint, value, dropout)
    torch.manual_seed(5)
    assert not again.equal(out)
    assert correlate(key, joint, value, dropout).equal(out)


@pytest.mark.parametrize("dropout", [-0.1, 0.999, 1.5])
def test_dropout_out_of_range_is_an_error(dropout: float) -> None:
    """Protects: a probability that a byte cannot hold is refused, not rounded."""
    with pytest.raises(ValueError, match="dropout must be from 0 to 255/256"):
        correlate(*drawn(1, 2, 3, 4), dropout)


@pytest.mark.parametrize("inside", [True, False])
def test_autocast(inside: bool) -> None:
    """Protects mixed precision: bfloat16 as the equation has it, whether backward runs inside autocast or not."""
    torch.manual_seed(0)
    block = OfficialJointAttention(32, 8, dropout=0.0)
    v, a = (torch.randn(3, 8, 32, requires_grad=True) for _ in range(2))
    everywhere = torch.ones(3, 8, dtype=torch.bool)
    found = []
    for attend in (lambda: block(v, a, everywhere), lambda: plain.joint_attention(block, v, a)):
        block.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.cat(attend()).square().sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        found.append((loss.detach().float(), *(p.grad.clone() for p in block.parameters() if p.grad is not None)))
    assert len(found[0]) == len(found[1]) == 1 + len(list(block.parameters()))
    for got, want in zip(*found, strict=True):
        close(got / want.abs().max(), want / want.abs().max(), 2e-2)


def fusion_net(dropout: float | None) -> RecursiveJointAttention:
    """The authors' network, in training mode where dropout is given."""
    net = build("recursive_joint_attention", "official", classes=None)
    assert isinstance(net, RecursiveJointAttention)
    for module in net.modules():
        if isinstance(module, nn.Dropout) and dropout is not None:
            module.p = dropout
    return net.train(dropout is not None)


@pytest.mark.parametrize("dropout", [None, 0.0])
def test_the_fusion_equals_its_equations(dropout: float | None) -> None:
    """Protects: what is fast about the fusion network changes neither its output nor a gradient."""
    net = fusion_net(dropout)
    face, audio = torch.randn(3, net.seq_len, net.face_width), torch.randn(3, net.seq_len, net.audio_width)
    results = []
    for forward in (lambda: net.head({"face": face, "audio": audio}).va, lambda: plain.fusion(net, face, audio)):
        net.zero_grad()
        va = forward()
        va.square().sum().backward()
        slopes = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
        results.append({"va": va.detach()} | slopes)
    fast, want = results
    assert set(fast) == set(want)
    assert "joint.0.key.face.weight" in want
    for name in want:
        close(fast[name], want[name])


def test_masked_clips_equal_the_clips_that_are_left() -> None:
    """Protects: in the joint attention a masked clip is a zero of J, and its own output is zero."""
    torch.manual_seed(0)
    block = OfficialJointAttention(12, 6).eval()
    v, a = torch.randn(2, 6, 12), torch.randn(2, 6, 12)
    mask = torch.tensor([[1, 1, 0, 1, 0, 1], [0, 1, 1, 1, 1, 1]]).bool()
    v, a = v * mask.unsqueeze(-1), a * mask.unsqueeze(-1)
    j = block.query(torch.cat([v, a], -1)) * mask.unsqueeze(-1)
    for stream, x, got in zip(("face", "audio"), (v, a), block(v, a, mask), strict=True):
        h = plain.correlate(block.key[stream](x.mT), j, block.value[stream](x)).tanh().relu()
        close(got, (x + block.out[stream](h).relu()) * mask.unsqueeze(-1))


def test_the_map_is_not_stored() -> None:
    """Protects the memory of training: of the correlation a byte an element stays for backward, not twelve."""
    inputs = drawn(4, 64, 128, 8)

    def stored(function: object) -> int:
        sizes: dict[int, int] = {}

        def pack(x: Tensor) -> Tensor:
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            out = function(*inputs, 0.6)  # type: ignore[operator]
        assert out.requires_grad
        return sum(sizes.values())

    elements = 4 * 64 * 128
    assert stored(correlate) == elements + sum(x.nbytes for x in inputs)
    assert stored(plain.correlate) >= 12 * elements
