"""What every network of the zoo promises, checked for each architecture, wiring and plain control at ``lite``."""

from __future__ import annotations

import copy

import pytest
import torch
from nets import ARCHS, VARIANTS, WIRINGS, build, example, full_masks, spread, tensors
from safetensors.torch import load_file, save_file
from torch._subclasses.fake_tensor import FakeTensorMode

from emozoo.models.network import count_parameters
from emozoo.registry import MODELS

IDS = [f"{a}-{w}{''.join(f'-{k}' for k in more)}" for a, w, more in VARIANTS]
every_variant = pytest.mark.parametrize(("arch", "wiring", "more"), VARIANTS, ids=IDS)
every_arch = pytest.mark.parametrize("arch", ARCHS)


@pytest.mark.parametrize(("arch", "wiring"), WIRINGS, ids=lambda x: x)
def test_parameter_counts(arch: str, wiring: str) -> None:
    """Protects: the networks are those of the papers, to the unit; each entry has their number of parameters."""
    spec = MODELS[arch]
    with torch.device("meta"):
        net = build(arch, wiring, size="full", classes=len(spec.classes) or None)
    assert count_parameters(net) == (spec.parameters[wiring], spec.backbone_parameters)
    assert net.tasks == spec.tasks


@every_arch
def test_class_count_is_checked(arch: str) -> None:
    """Protects: the first argument is the number of classes, or None where the network has another task."""
    with pytest.raises(ValueError, match="num_classes must be 1 or more"):
        build(arch, classes=0)
    if MODELS[arch].tasks == ("emotion",):
        with pytest.raises(ValueError, match="there must be a task"):
            build(arch, classes=None)
    else:
        assert build(arch, classes=None).eval()(example(arch)).logits is None


@every_variant
def test_parts_that_encode(arch: str, wiring: str, more: dict) -> None:
    """Protects features that are stored: ``encoding`` names all that encode() learns with, and nothing of head()."""
    net = build(arch, wiring, **more).train()
    features = net.encode(example(arch))
    assert set(features) == set(MODELS[arch].specs["lite"].streams)
    stored = {name: x.detach() for name, x in features.items()}
    net.head(stored).logits.sum().backward()
    used = {name for name, p in net.named_parameters() if p.grad is not None}
    encoding = tuple(f"{part}." for part in net.encoding)
    assert used
    assert not [name for name in used if name.startswith(encoding)]
    net.zero_grad()
    sum(x.sum() for x in features.values()).backward()
    used = {name for name, p in net.named_parameters() if p.grad is not None}
    assert used
    assert all(name.startswith(encoding) for name in used)
    for part in (*net.encoding, *net.backbones):
        net.get_submodule(part)


@every_variant
def test_stills_may_be_encoded_once(arch: str, wiring: str, more: dict) -> None:
    """Protects predictions for stills: a ``per_frame`` network encodes a frame alike whatever stands beside it."""
    net, inputs = build(arch, wiring, **more).eval(), example(arch)
    if not net.per_frame:
        pytest.skip("it does not encode frame by frame")
    whole, first = net.encode(inputs), net.encode({name: x[:, :1, :1] for name, x in inputs.items()})
    for name, x in first.items():
        torch.testing.assert_close(whole[name][:, :1, :1], x, atol=1e-5, rtol=1e-5)


@every_variant
def test_output(arch: str, wiring: str, more: dict) -> None:
    """Protects: shapes and types of the result, finite values, head(encode(x)) = forward(x), no masks = all True."""
    net, inputs = build(arch, wiring, **more).eval(), example(arch)
    out = net(inputs)
    assert out.logits.shape == (2, 7)
    assert out.logits.dtype == torch.float32
    clips = MODELS[arch].specs["lite"].clips
    assert (out.va is not None) == net.va == ("va" in MODELS[arch].tasks)
    assert out.va is None or out.va.shape == (2, clips, 2)
    again, masked = net.head(net.encode(inputs)), net(inputs, full_masks(inputs))
    for name, value in tensors(out).items():
        assert value.isfinite().all(), name
        assert torch.equal(value, tensors(again)[name]), name
        assert torch.equal(value, tensors(masked)[name]), name


@every_variant
def test_every_parameter_learns(arch: str, wiring: str, more: dict) -> None:
    """Protects: no dead layer: each trainable parameter gets a finite, non-zero gradient."""
    net = build(arch, wiring, **more).double().train()
    inputs = {name: x.double() for name, x in example(arch, batch=3).items()}
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        net(inputs)  # batch statistics that fit the inputs, so that no ReLU starts dead
    out = net.eval()(inputs)
    loss = torch.nn.functional.cross_entropy(out.logits, torch.tensor([0, 3, 6]))
    if out.va is not None:
        loss = loss + (out.va - torch.tensor([0.3, -0.6])).square().mean()
    loss.backward()
    for name, parameter in net.named_parameters():
        if not parameter.requires_grad:
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@every_variant
def test_masked_content_changes_nothing(arch: str, wiring: str, more: dict) -> None:
    """Protects: bit-equal results whatever stands in masked places, NaN included; finite ones without any stream."""
    net, inputs = build(arch, wiring, **more).eval(), example(arch, batch=4)
    generator = torch.Generator().manual_seed(1)
    masks = {name: torch.rand(m.shape, generator=generator) > 0.4 for name, m in full_masks(inputs).items()}
    for name in masks:
        masks[name][0] = True
        masks[name][1] = False  # a sample that has nothing at all
    masks[next(iter(masks))][2] = False  # a sample that lacks one stream
    broken = {name: torch.where(spread(masks[name], x), x, float("nan")) for name, x in inputs.items()}
    zeros = {name: torch.where(spread(masks[name], x), x, 0.0) for name, x in inputs.items()}
    want, got, filled = (tensors(net(x, masks)) for x in (inputs, broken, zeros))
    for name in want:
        assert want[name].isfinite().all(), name
        assert torch.equal(want[name], got[name]), name
        assert torch.equal(want[name], filled[name]), name


@every_variant
def test_padding_changes_nothing(arch: str, wiring: str, more: dict) -> None:
    """Protects: clips appended under a False mask leave the output as it was, in memory of recurrent layers too."""
    net, inputs = build(arch, wiring, **more).eval(), example(arch)
    if net.fixed_length:
        pytest.skip("its length is fixed when it is built")
    masks = full_masks(inputs)
    padded = {name: torch.cat([x, torch.randn_like(x[:, :2])], 1) for name, x in inputs.items()}
    longer = {name: torch.cat([m, torch.zeros_like(m[:, :2])], 1) for name, m in masks.items()}
    want, got = net(inputs, masks), net(padded, longer)
    torch.testing.assert_close(got.logits, want.logits, atol=1e-5, rtol=1e-5)
    if want.va is not None:
        torch.testing.assert_close(got.va[:, : want.va.shape[1]], want.va, atol=1e-5, rtol=1e-5)


@every_variant
def test_training_does_not_see_masked_frames(arch: str, wiring: str, more: dict) -> None:
    """Protects: batch statistics: masked frames change neither the loss nor what batch normalisation remembers."""
    inputs = example(arch, batch=4)
    masks = full_masks(inputs)
    for mask in masks.values():
        mask[0, -1] = False
        mask[3] = False
    results = []
    for filling in (0.0, 1e6):
        net = build(arch, wiring, **more).train()
        torch.manual_seed(1)
        x = {name: torch.where(spread(masks[name], x), x, filling) for name, x in inputs.items()}
        results.append((net(x, masks).logits, {k: v for k, v in net.state_dict().items() if "running" in k}))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(v, results[1][1][k]) for k, v in results[0][1].items())


@every_arch
def test_training_copes_with_missing_streams(arch: str) -> None:
    """Protects: a batch with one real frame, or none, trains without an error and with finite gradients."""
    net, inputs = build(arch).train(), example(arch)
    for keep_one in (True, False):
        masks = {name: torch.zeros_like(m) for name, m in full_masks(inputs).items()}
        if keep_one:
            for mask in masks.values():
                mask[0, 0, 0] = True
        before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}
        net.zero_grad()
        net(inputs, masks).logits.sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
        if not keep_one:
            assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())


@every_arch
def test_evaluation_is_deterministic_and_independent_of_the_batch(arch: str) -> None:
    """Protects: dropout is off in evaluation, and a sample's result does not depend on its neighbours."""
    net, inputs = build(arch).eval(), example(arch, batch=3)
    out = net(inputs).logits
    assert torch.equal(out, net(inputs).logits)
    alone = torch.cat([net({name: x[i : i + 1] for name, x in inputs.items()}).logits for i in range(3)])
    torch.testing.assert_close(alone, out, atol=1e-5, rtol=1e-5)
    assert not torch.equal(net.train()(inputs).logits, net(inputs).logits)


@every_arch
def test_state_round_trip(arch: str, tmp_path) -> None:
    """Protects: weights written as safetensors give the same output in a fresh network."""
    net, inputs = build(arch), example(arch)
    net.train()(inputs)  # move the batch statistics
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    fresh = build(arch)
    fresh.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert torch.equal(fresh.eval()(inputs).logits, net.eval()(inputs).logits)
    assert torch.equal(copy.deepcopy(net)(inputs).logits, net(inputs).logits)


@pytest.mark.parametrize("arch", ["dfan", "recursive_joint_attention"])
def test_frozen_means_frozen(arch: str) -> None:
    """Protects: frozen encoders get no gradient and keep weights and batch statistics through training steps."""
    net, inputs = build(arch, freeze=True).train(), example(arch)
    before = {k: v.clone() for k, v in net.encoders.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    net(inputs).logits.sum().backward()
    optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in net.encoders.state_dict().items())
    assert all(p.grad is None for p in net.encoders.parameters())
    assert not any(m.training for m in net.encoders.modules())


@every_arch
def test_bfloat16_stays_close(arch: str) -> None:
    """Protects: autocast to bfloat16 runs and moves probabilities by a few thousandths only."""
    net, inputs = build(arch).eval(), example(arch)
    want = net(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        got = net(inputs)
    assert got.logits.dtype == torch.float32
    assert (got.logits.softmax(-1) - want.logits.softmax(-1)).abs().max() < 0.02


@every_arch
def test_export(arch: str) -> None:
    """Protects: torch.export takes inputs and masks as tensors; the graph agrees, also for other masks."""
    net, inputs = build(arch).eval(), example(arch)
    masks = full_masks(inputs)
    with torch.no_grad():
        graph = torch.export.export(net, (inputs, masks)).module()
        for mask in masks.values():
            mask[1, -1] = False
        torch.testing.assert_close(graph(inputs, masks).logits, net(inputs, masks).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.slow(4)
@every_arch
def test_compile(arch: str) -> None:
    """Protects: ``net.compile()`` works in evaluation and agrees with the plain network.

    In one graph, except around recurrent layers, which torch.compile leaves to their own kernels.
    """
    net, inputs = build(arch).eval(), example(arch)
    masks = full_masks(inputs)
    with torch.no_grad():
        want = net(inputs, masks).logits
        recurrent = any(isinstance(m, torch.nn.RNNBase) for m in net.modules())
        net.compile(fullgraph=not recurrent, backend="aot_eager")
        torch.testing.assert_close(net(inputs, masks).logits, want, atol=1e-5, rtol=1e-5)


@every_variant
def test_dry_run_on_gpu(arch: str, wiring: str, more: dict, monkeypatch) -> None:
    """Protects ``--device cuda`` where no GPU is at hand: no tensor is made on the CPU, and none is waited for.

    Tensors without content go through the network as if they lay on a GPU. Recurrent layers, whose GPU code needs a
    driver, are replaced by zeros.
    """

    def recurrent(self: torch.nn.RNNBase, x: torch.Tensor, start: object = None) -> tuple[torch.Tensor, object]:
        return x.new_zeros(*x.shape[:-1], self.hidden_size * (2 if self.bidirectional else 1)), start

    for kind in (torch.nn.LSTM, torch.nn.GRU):
        monkeypatch.setattr(kind, "forward", recurrent)
    net, inputs, mode = build(arch, wiring, **more).eval(), example(arch), FakeTensorMode()

    def there(real: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        fake = {name: mode.from_tensor(x.detach()) for name, x in real.items()}
        with mode:
            return {name: x.to("cuda") for name, x in fake.items()}

    state = there(dict(net.named_parameters()) | dict(net.named_buffers()))
    given, masks = there(inputs), there(full_masks(inputs))
    with mode, torch.no_grad():
        out = torch.func.functional_call(net, state, (given, masks))
    assert {x.device.type for x in tensors(out).values()} == {"cuda"}
