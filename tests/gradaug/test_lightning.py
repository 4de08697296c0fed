"""Under Lightning a module with GradAug is as any other: what the Trainer does to a step, it does to all its passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

import gradaug
from netslim.errors import InputError

from . import lightning_loops
from .lightning_loops import Mine, fitted
from .loops import BATCHES, SETTINGS, batches, by_hand, network, optimizer_of
from .processes import in_processes

pytestmark = pytest.mark.filterwarnings("ignore")


def weights(module: Mine) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in module.parameters()]


def test_a_module_trains_sub_networks(tmp_path: Path) -> None:
    module = Mine()
    names = list(module.state_dict())
    trainer = fitted(module, tmp_path)
    assert float(trainer.callback_metrics["subnet_loss"]) > 0
    assert float(trainer.callback_metrics["train_loss"]) > 0
    assert names == list(module.state_dict())
    torch.testing.assert_close(weights(module), by_hand(batches()))


def test_the_trainers_clipping_accumulation_and_schedule_by_step(tmp_path: Path) -> None:
    every_step = lambda optimizer: [  # noqa: E731
        {"scheduler": lr_scheduler.StepLR(optimizer, 1, 0.5), "interval": "step"}
    ]
    module = Mine(every_step)
    trainer = fitted(module, tmp_path, gradient_clip_val=0.5, accumulate_grad_batches=2)
    schedule = lambda optimizer: lr_scheduler.StepLR(optimizer, 1, 0.5)  # noqa: E731
    torch.testing.assert_close(weights(module), by_hand(batches(), clip=0.5, accumulate=2, schedule=schedule))
    assert trainer.global_step == BATCHES // 2


def test_plain_steps_log_no_loss_of_sub_networks(tmp_path: Path) -> None:
    """Six batches in parts of two: the second of three steps has sub-networks."""
    options = {"subnet_every": 2, "subnet_share": 0.5}
    module, logged = Mine(**options), list[bool]()
    log = module.log
    module.log = lambda name, *given, **more: (logged.append(name == "subnet_loss"), log(name, *given, **more))
    trainer = fitted(module, tmp_path, accumulate_grad_batches=2)
    torch.testing.assert_close(weights(module), by_hand(batches(), accumulate=2, **options))
    assert (trainer.global_step, sum(logged)) == (3, 2)


def test_several_schedules_and_one_that_follows_a_figure(tmp_path: Path) -> None:
    def schedules(optimizer: torch.optim.Optimizer) -> Any:
        plateau = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0, threshold=1e9)
        return [
            {"scheduler": lr_scheduler.StepLR(optimizer, 3, 0.5), "interval": "step"},
            {"scheduler": plateau, "monitor": "train_loss", "interval": "step", "frequency": 1},
        ]

    module = Mine(schedules)
    fitted(module, tmp_path, batches()[:4])
    assert module.rates == pytest.approx([0.1, 0.01, 0.0005, 0.00005])


def test_a_run_that_resumes_goes_on_with_the_sub_networks_that_were_next(tmp_path: Path) -> None:
    whole, first, second = Mine(), Mine(), Mine()
    fitted(whole, tmp_path, max_epochs=2)
    trainer = fitted(first, tmp_path, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    fitted(second, tmp_path, max_epochs=2, resume=tmp_path / "half.ckpt")
    assert not torch.equal(weights(first)[0], weights(whole)[0])
    torch.testing.assert_close(weights(second), weights(whole), rtol=0, atol=0)


def test_every_pass_is_in_the_trainers_precision(tmp_path: Path) -> None:
    seen: list[torch.dtype] = []
    module = Mine()
    module.net.get_submodule("stem").register_forward_hook(lambda *call: seen.append(call[-1].dtype))
    fitted(module, tmp_path, batches()[:1], precision="bf16-mixed")
    assert seen == [torch.bfloat16] * 4


def test_the_trainers_scaler_scales_every_loss(tmp_path: Path) -> None:
    from lightning.pytorch.plugins import MixedPrecision

    module, scaler = Mine(), torch.amp.GradScaler("cpu", init_scale=1024.0)
    fitted(module, tmp_path, plugins=[MixedPrecision("16-mixed", "cpu", scaler)], accumulate_grad_batches=2)
    torch.testing.assert_close(weights(module), by_hand(batches(), accumulate=2, amp=torch.float16), rtol=0, atol=1e-4)


def test_fabric_takes_the_gradients_of_every_loss(tmp_path: Path) -> None:
    fabric = lightning_loops.lightning.Fabric(accelerator="cpu", devices=1)
    net, given = network(), []
    wrapped, optimizer = fabric.setup(net, optimizer_of(net))
    ga = gradaug.GradAug(net, forward=wrapped, backward=lambda loss: given.append(fabric.backward(loss)), **SETTINGS)
    for images, labels in batches():
        ga.step(images, labels, optimizer)
    torch.testing.assert_close([p.detach() for p in net.parameters()], by_hand(batches()))
    assert len(given) == 4 * BATCHES


def test_two_processes_are_one(tmp_path: Path) -> None:
    alone = by_hand(batches(), clip=0.5, accumulate=2)
    for found, _ in in_processes(2, tmp_path, lightning_loops.in_a_pair):
        torch.testing.assert_close(found, alone)


def test_two_processes_of_fabric_are_one(tmp_path: Path) -> None:
    for found in in_processes(2, tmp_path, lightning_loops.fabric_in_a_pair):
        torch.testing.assert_close(found, by_hand(batches()))


@pytest.mark.parametrize("name", ["accumulate", "scaler", "amp", "backward"])
def test_what_the_trainer_says_is_not_said_twice(name: str) -> None:
    with pytest.raises(InputError, match=f"leave {name} out"):
        Mine(**{name: 2})


def test_optimising_by_hand_is_refused_with_the_way_to_do_it(tmp_path: Path) -> None:
    module = Mine()
    module.automatic_optimization = False
    with pytest.raises(InputError, match=r"backward=self.manual_backward"):
        fitted(module, tmp_path)
