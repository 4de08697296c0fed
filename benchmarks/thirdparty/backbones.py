"""pytorchcv and efficientnet_pytorch: small members of many families of classifiers, and some of other tasks."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from thirdparty.nets import Net, images

_CLASSIFIERS = (
    "preresnet10 seresnet10 bninception shufflenet_g3_wd4 shufflenetv2_wd2 menet108_8x1_g3 sqnxt23_w1 peleenet "
    "igcv3_wd4 darknet_tiny dla34 hrnet_w18_small_v1 vovnet27s hardnet39ds ghostnet dpn68 mixnet_s diracnet18v2 "
    "fbnet_cb mobilenetb_wd4 mobilenetv3_small_w7d20 resnesta18 bam_resnet18 cbam_resnet18 airnet50_1x64d_r16"
).split()
_CIFAR = (
    "wrn16_10_cifar10 rir_cifar10 resdropresnet20_cifar10 shakeshakeresnet20_2x16d_cifar10 diaresnet20_cifar10 "
    "nin_cifar10"
).split()
_SEGMENTERS = "lednet_cityscapes dabnet_cityscapes fastscnn_cityscapes cgnet_cityscapes sinet_cityscapes".split()
_POSES = "lwopenpose2d_mobilenet_cmupan_coco ibppose_coco simplepose_resnet18_coco".split()


def _pytorchcv(name: str, **options: Any) -> nn.Module:
    from pytorchcv.model_provider import get_model

    return get_model(name, pretrained=False, **options)


def _efficientnet() -> nn.Module:
    from efficientnet_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-b0", num_classes=10)


MODELS = {name: Net(partial(_pytorchcv, name), images(224)) for name in _CLASSIFIERS}
MODELS |= {name: Net(partial(_pytorchcv, name), images(32)) for name in _CIFAR}
MODELS |= {name: Net(partial(_pytorchcv, name, in_size=(128, 128)), images(128)) for name in (*_SEGMENTERS, *_POSES)}
MODELS["efficientnet_pytorch-b0"] = Net(_efficientnet, images(64))
