"""GradAug in a loop as torchvision's references write it: autocast, scaler, clipping, running mean of the weights.

python examples/reference_train.py --amp --model-ema
torchrun --nproc-per-node 2 examples/reference_train.py       # two processes
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable

import torch
from digits import loaders
from mymodel import DigitNet
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import gradaug
import netslim


def train_one_epoch(
    ga: gradaug.GradAug,
    optimizer: torch.optim.Optimizer,
    data_loader: Iterable,
    device: torch.device,
    args: argparse.Namespace,
    model_ema: AveragedModel | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    ga.net.train()
    for image, target in data_loader:
        image, target = image.to(device), target.to(device)
        optimizer.zero_grad()
        with torch.autocast(device.type, enabled=scaler is not None):
            ga.backward(image, target)
        if scaler is not None:
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(ga.net.parameters(), args.clip_grad_norm)
        if scaler is not None:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
        if model_ema is not None:
            model_ema.update_parameters(ga.net)


def evaluate(model: torch.nn.Module, data_loader: Iterable, device: torch.device) -> float:
    model.eval()
    with torch.inference_mode():
        hits = [model(image.to(device)).argmax(1) == target.to(device) for image, target in data_loader]
    return 100 * torch.cat(hits).float().mean().item()


def main(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    device = torch.device(args.device)
    distributed = "RANK" in os.environ  # torchrun
    if distributed:
        torch.distributed.init_process_group()
    main_process = not distributed or torch.distributed.get_rank() == 0
    data_loader, data_loader_test = loaders(distributed=distributed)
    model = DigitNet(width=8).to(device)
    net = netslim.convert(model, torch.randn(2, 1, 32, 32, device=device))
    scaler = torch.amp.GradScaler(device.type) if args.amp else None
    network = torch.nn.parallel.DistributedDataParallel(net) if distributed else net
    ga = gradaug.GradAug(network, mode="both", scaler=scaler)
    optimizer = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4, nesterov=True)
    lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    averaging = get_ema_multi_avg_fn(0.9)
    model_ema = AveragedModel(net, device=device, multi_avg_fn=averaging, use_buffers=True) if args.model_ema else None
    for epoch in range(args.epochs):
        if distributed:
            data_loader.sampler.set_epoch(epoch)
        train_one_epoch(ga, optimizer, data_loader, device, args, model_ema, scaler)
        lr_scheduler.step()
        if main_process:
            torch.save(net.restore(model).state_dict(), "checkpoint.pth")  # a file of the original model's
    if main_process:
        model.load_state_dict(torch.load("checkpoint.pth", weights_only=True))
        print(f"validation top-1 {evaluate(model_ema or model, data_loader_test, device):.2f} %")
    if distributed:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", default=4, type=int)
    parser.add_argument("--lr", default=0.1, type=float)
    parser.add_argument("--clip-grad-norm", default=5.0, type=float)
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--model-ema", action="store_true")
    main(parser.parse_args())
