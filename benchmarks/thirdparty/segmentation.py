"""segmentation_models_pytorch: every decoder over a small encoder, and one decoder over encoders of many kinds."""

from __future__ import annotations

from functools import partial

from torch import nn

from thirdparty.nets import Net, images

_DECODERS = "Unet UnetPlusPlus MAnet Linknet FPN PSPNet PAN DeepLabV3 DeepLabV3Plus UPerNet Segformer".split()
_ENCODERS = (
    "efficientnet-b0 mobilenet_v2 densenet121 se_resnext50_32x4d mit_b0 mobileone_s0 dpn68 vgg11_bn "
    "timm-regnetx_002 timm-gernet_s timm-skresnet18 xception"
).split()


def _make(decoder: str, encoder: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    return getattr(smp, decoder)(encoder_name=encoder, encoder_weights=None, classes=2)


MODELS = {f"{name}-resnet18": Net(partial(_make, name, "resnet18"), images(128)) for name in _DECODERS}
MODELS |= {f"Unet-{name}": Net(partial(_make, "Unet", name), images(64)) for name in _ENCODERS}
