"""Every network of `nets.py`: its groups, its proof, its archive, its extraction, other batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import netslim

from .nets import NETS

torch.backends.mha.set_fastpath_enabled(False)  # its fused kernel rounds differently
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETS)
def test_it_converts_and_is_proved(name: str, tmp_path: Path) -> None:
    build, groups = NETS[name]
    model = build().eval()
    net = netslim.convert(model, IMAGES).eval()
    assert len(net.groups) == groups, [(g.name, g.size) for g in net.groups]
    assert not net.plan.unknown
    assert not [f for f in net.frozen if "proof" in f.reason]
    assert net.proof is not None
    assert net.proof.passed
    netslim.save(net, tmp_path / "converted.pt")
    loaded = netslim.load(tmp_path / "converted.pt")
    images = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(net(images), model(images))
        with net.sub(0.5), loaded.sub(0.5):
            narrow = net(images)
            assert torch.equal(loaded(images), narrow)
        torch.testing.assert_close(net.extract(0.5)(images), narrow)


@pytest.mark.parametrize("name", NETS)
def test_it_trains_one_step_at_a_random_width(name: str) -> None:
    net = netslim.convert(NETS[name][0](), IMAGES, prove=False).train()
    with net.sub(0.6):
        out = net(IMAGES)
        sum(t.sum() for t in (out if isinstance(out, tuple) else (out,))).backward()  # type: ignore[union-attr]
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
