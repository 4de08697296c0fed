"""MONAI: networks for medical images, in two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from thirdparty.nets import Net, floats, images, numbers, several

_2D: dict[str, Any] = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
_VOLUME = floats(1, 32, 32, 32)
_SLICE = images(64, channels=1)


def _net(name: str, inputs: Callable[[], Any], **options: Any) -> Net:
    def make() -> nn.Module:
        from monai.networks import nets

        return getattr(nets, name)(**options)

    return Net(make, inputs)


_UNET: dict[str, Any] = {"channels": (8, 16, 32), "strides": (2, 2)}
_DYNUNET: dict[str, Any] = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2],
                            "filters": [8, 16, 32]}  # fmt: skip

MODELS = {
    "UNet": _net("UNet", _SLICE, **_2D, **_UNET, num_res_units=2),
    "UNet-3d": _net("UNet", floats(1, 16, 16, 16), **_2D | {"spatial_dims": 3}, **_UNET),
    "AttentionUnet": _net("AttentionUnet", _SLICE, **_2D, **_UNET),
    "BasicUNet": _net("BasicUNet", _SLICE, **_2D, features=(8, 8, 16, 32, 64, 8)),
    "BasicUNetPlusPlus": _net("BasicUNetPlusPlus", _SLICE, **_2D, features=(8, 8, 16, 32, 64, 8)),
    "DynUNet": _net("DynUNet", _SLICE, **_2D, **_DYNUNET, res_block=True),
    "DynUNet-supervised": _net("DynUNet", _SLICE, **_2D, **_DYNUNET, deep_supervision=True),
    "SegResNet": _net("SegResNet", _SLICE, **_2D, init_filters=8),
    "SegResNetDS": _net("SegResNetDS", _SLICE, **_2D, init_filters=8, blocks_down=(1, 1, 1), dsdepth=2),
    "SegResNetVAE": _net("SegResNetVAE", _SLICE, **_2D, init_filters=8, input_image_size=(64, 64)),
    "VNet": _net("VNet", _SLICE, **_2D, dropout_dim=2),
    "UNETR": _net("UNETR", _SLICE, in_channels=1, out_channels=2, img_size=(64, 64), spatial_dims=2, feature_size=8,
                  hidden_size=48, mlp_dim=96, num_heads=4),
    "SwinUNETR": _net("SwinUNETR", _SLICE, in_channels=1, out_channels=2, spatial_dims=2, feature_size=12,
                      depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4)),
    "DenseNet121": _net("DenseNet121", _SLICE, **_2D),
    "SEResNet50": _net("SEResNet50", _SLICE, spatial_dims=2, in_channels=1, num_classes=2),
    "HighResNet": _net("HighResNet", _SLICE, **_2D),
    "AHNet": _net("AHNet", floats(1, 128, 128), layers=(1, 1, 1, 1), spatial_dims=2, in_channels=1, out_channels=2),
    "ViT": _net("ViT", _SLICE, in_channels=1, img_size=(64, 64), patch_size=(16, 16), hidden_size=48, mlp_dim=96,
                num_layers=2, num_heads=4, classification=True, spatial_dims=2),
    "ViTAutoEnc": _net("ViTAutoEnc", _SLICE, in_channels=1, img_size=(64, 64), patch_size=(16, 16), hidden_size=48,
                       mlp_dim=96, num_layers=2, num_heads=4, spatial_dims=2),
    "FlexibleUNet": _net("FlexibleUNet", _SLICE, in_channels=1, out_channels=2, backbone="efficientnet-b0"),
    "EfficientNetBN": _net("EfficientNetBN", _SLICE, model_name="efficientnet-b0", pretrained=False, spatial_dims=2,
                           in_channels=1, num_classes=2),
    "resnet10": _net("resnet10", floats(1, 32, 32, 32), spatial_dims=3, n_input_channels=1, num_classes=2),
    "AutoEncoder": _net("AutoEncoder", _SLICE, **_2D, channels=(8, 16, 32), strides=(2, 2, 2)),
    "VarAutoEncoder": _net("VarAutoEncoder", _SLICE, spatial_dims=2, in_shape=(1, 64, 64), out_channels=2,
                           latent_size=8, channels=(8, 16, 32), strides=(2, 2, 2)),
    "Regressor": _net("Regressor", _SLICE, in_shape=(1, 64, 64), out_shape=(3,), **_UNET),
    "Generator": _net("Generator", floats(16), latent_shape=(16,), start_shape=(16, 8, 8), channels=(16, 8),
                      strides=(2, 2)),
    "Discriminator": _net("Discriminator", _SLICE, in_shape=(1, 64, 64), **_UNET),
    "PatchDiscriminator": _net("PatchDiscriminator", _SLICE, spatial_dims=2, channels=8, in_channels=1, num_layers_d=2),
    "MedNeXt": _net("MedNeXt", _SLICE, spatial_dims=2, init_filters=8, in_channels=1, out_channels=2,
                    blocks_down=(1, 1, 1, 1), blocks_bottleneck=1, blocks_up=(1, 1, 1, 1)),
    "Quicknat": _net("Quicknat", _SLICE, num_classes=2, num_channels=1, num_filters=8),
    "VoxelMorph": Net(lambda: _voxelmorph(), several(_SLICE, _SLICE)),
    "GlobalNet": _net("GlobalNet", _SLICE, image_size=[64, 64], spatial_dims=2, in_channels=1,
                      num_channel_initial=4, depth=2),
    "DAF3D": _net("DAF3D", _VOLUME, in_channels=1, out_channels=2),
    "AutoencoderKL": _net("AutoencoderKL", _SLICE, spatial_dims=2, in_channels=1, out_channels=1, channels=(8, 16),
                          num_res_blocks=(1, 1), attention_levels=(False, True), latent_channels=4, norm_num_groups=4),
    "VQVAE": _net("VQVAE", _SLICE, spatial_dims=2, in_channels=1, out_channels=1, channels=(8, 16), num_res_layers=1,
                  num_res_channels=(8, 16), downsample_parameters=((2, 4, 1, 1),) * 2,
                  upsample_parameters=((2, 4, 1, 1, 0),) * 2, num_embeddings=16, embedding_dim=8),
    "DiffusionModelUNet": _net("DiffusionModelUNet", several(_SLICE, numbers(100)), spatial_dims=2, in_channels=1,
                               out_channels=1, channels=(8, 16), attention_levels=(False, True), num_res_blocks=1,
                               norm_num_groups=4, num_head_channels=8),
    "SPADENet": _net("SPADENet", images(64, channels=2), spatial_dims=2, in_channels=1, out_channels=1, label_nc=2,
                     input_shape=[64, 64], channels=[8, 16], is_vae=False),
    "MILModel": _net("MILModel", floats(3, 3, 64, 64), num_classes=2, mil_mode="att", pretrained=False,
                     backbone="resnet18"),
}  # fmt: skip


def _voxelmorph() -> nn.Module:
    from monai.networks import nets

    backbone = nets.VoxelMorphUNet(2, 2, unet_out_channels=8, channels=(8, 8, 8, 8), final_conv_channels=(8,))
    return nets.VoxelMorph(backbone, spatial_dims=2)
