"""diffusers: the denoisers and autoencoders of its pipelines, from small configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from thirdparty.nets import Net, floats, given, images, numbers, several


def _net(name: str, inputs: Callable[[], Any], **options: Any) -> Net:
    def make() -> nn.Module:
        import diffusers

        return getattr(diffusers, name)(**options)

    return Net(make, inputs)


_TIME = numbers(1000)
_LATENT = floats(4, 16, 16)
_TEXT = floats(5, 32)
_SMALL: dict[str, Any] = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8}
_CROSS: dict[str, Any] = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "cross_attention_dim": 32,
                          "attention_head_dim": 2, **_SMALL}  # fmt: skip
_KL: dict[str, Any] = {"latent_channels": 4, "down_block_types": ("DownEncoderBlock2D",) * 2, **_SMALL}

MODELS = {
    "UNet2DModel": _net("UNet2DModel", several(images(32), _TIME), sample_size=32,
                        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                        up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=8, **_SMALL),
    "UNet2DConditionModel": _net("UNet2DConditionModel", several(_LATENT, _TIME, _TEXT), sample_size=16,
                                 up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), **_CROSS),
    "UNet1DModel": _net("UNet1DModel", several(floats(2, 64), _TIME), in_channels=2, out_channels=2,
                        extra_in_channels=64, block_out_channels=(32, 32, 64)),
    "UNet3DConditionModel": _net("UNet3DConditionModel", several(floats(4, 2, 16, 16), _TIME, _TEXT), sample_size=16,
                                 down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), cross_attention_dim=32,
                                 up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"), attention_head_dim=8, **_SMALL),
    "UNetSpatioTemporalConditionModel": _net(
        "UNetSpatioTemporalConditionModel",
        given(sample=floats(2, 8, 16, 16), timestep=_TIME, encoder_hidden_states=floats(1, 32),
              added_time_ids=floats(3)),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"), block_out_channels=(32, 64),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), layers_per_block=1,
        num_attention_heads=(2, 4), cross_attention_dim=32, projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32),
    "Kandinsky3UNet": _net("Kandinsky3UNet", given(sample=_LATENT, timestep=_TIME, encoder_hidden_states=_TEXT,
                           encoder_attention_mask=lambda: torch.ones(2, 5)), block_out_channels=(32, 64),
                           layers_per_block=2, attention_head_dim=16, cross_attention_dim=32, encoder_hid_dim=32,
                           time_embedding_dim=32, groups=8),
    "UVit2DModel": _net("UVit2DModel", several(numbers(15, 8, 8), floats(5, 32), floats(32), floats(5)), hidden_size=32,
                        cond_embed_dim=32, encoder_hidden_size=32, vocab_size=16, codebook_size=15, in_channels=32,
                        block_out_channels=32, num_hidden_layers=2, num_attention_heads=2, block_num_heads=2,
                        intermediate_size=64, micro_cond_encode_dim=8, micro_cond_embed_dim=40, use_bias=False),
    "ControlNetModel": _net("ControlNetModel", several(_LATENT, _TIME, _TEXT, images(32)),
                            conditioning_embedding_out_channels=(8, 16), **_CROSS),
    "DiTTransformer2DModel": _net("DiTTransformer2DModel", given(hidden_states=_LATENT, timestep=_TIME,
                                  class_labels=numbers(10)), num_attention_heads=2, attention_head_dim=16, num_layers=2,
                                  sample_size=16, num_embeds_ada_norm=1000),
    "PixArtTransformer2DModel": _net("PixArtTransformer2DModel", given(hidden_states=_LATENT, timestep=_TIME,
                                     encoder_hidden_states=_TEXT), num_attention_heads=2, attention_head_dim=16,
                                     num_layers=2, sample_size=16, cross_attention_dim=32, caption_channels=32,
                                     use_additional_conditions=False),
    "SD3Transformer2DModel": _net("SD3Transformer2DModel", given(hidden_states=_LATENT, encoder_hidden_states=_TEXT,
                                  pooled_projections=floats(16), timestep=_TIME), sample_size=16, in_channels=4,
                                  num_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32,
                                  caption_projection_dim=32, pooled_projection_dim=16, out_channels=4),
    "FluxTransformer2DModel": _net("FluxTransformer2DModel", given(hidden_states=floats(16, 4),
                                   encoder_hidden_states=_TEXT, pooled_projections=floats(16), timestep=floats(),
                                   img_ids=lambda: floats(3)().new_zeros(16, 3),
                                   txt_ids=lambda: floats(3)().new_zeros(5, 3)), in_channels=4, num_layers=1,
                                   num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
                                   joint_attention_dim=32, pooled_projection_dim=16, axes_dims_rope=(4, 6, 6)),
    "SanaTransformer2DModel": _net("SanaTransformer2DModel", given(hidden_states=_LATENT, encoder_hidden_states=_TEXT,
                                   timestep=_TIME), in_channels=4, out_channels=4, num_attention_heads=2,
                                   attention_head_dim=16, num_layers=2, num_cross_attention_heads=2,
                                   cross_attention_head_dim=16, cross_attention_dim=32, caption_channels=32,
                                   sample_size=16),
    "Transformer2DModel": _net("Transformer2DModel", several(_LATENT, _TEXT), in_channels=4, num_attention_heads=2,
                               attention_head_dim=16, num_layers=1, cross_attention_dim=32, norm_num_groups=2),
    "PriorTransformer": _net("PriorTransformer", several(floats(32), _TIME, floats(32), floats(5, 32)),
                             num_attention_heads=2, attention_head_dim=16, num_layers=2, embedding_dim=32,
                             num_embeddings=5, additional_embeddings=4),
    "AutoencoderKL": _net("AutoencoderKL", images(32), up_block_types=("UpDecoderBlock2D",) * 2, **_KL),
    "AsymmetricAutoencoderKL": _net("AsymmetricAutoencoderKL", images(32), down_block_types=("DownEncoderBlock2D",) * 2,
                                    down_block_out_channels=(32, 32), up_block_types=("UpDecoderBlock2D",) * 2,
                                    up_block_out_channels=(32, 32), latent_channels=4, norm_num_groups=8),
    "AutoencoderKLTemporalDecoder": _net("AutoencoderKLTemporalDecoder", given(sample=images(32)),
                                         block_out_channels=(32, 32), latent_channels=4,
                                         down_block_types=("DownEncoderBlock2D",) * 2),
    "AutoencoderTiny": _net("AutoencoderTiny", images(32), encoder_block_out_channels=(16, 16),
                            decoder_block_out_channels=(16, 16), num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)),
    "AutoencoderDC": _net("AutoencoderDC", images(32), latent_channels=4, attention_head_dim=8,
                          encoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(16, 32),
                          decoder_block_types=("ResBlock", "EfficientViTBlock"), decoder_block_out_channels=(16, 32),
                          encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
                          encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)),
                          downsample_block_type="Conv", upsample_block_type="interpolate"),
    "AutoencoderOobleck": _net("AutoencoderOobleck", floats(2, 256), encoder_hidden_size=8, downsampling_ratios=[2, 4],
                               channel_multiples=[1, 2], decoder_channels=8, decoder_input_channels=4),
    "VQModel": _net("VQModel", images(32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=3,
                    up_block_types=("UpDecoderBlock2D",) * 2, num_vq_embeddings=16, **_SMALL),
    "T2IAdapter": _net("T2IAdapter", images(64), channels=[16, 32], num_res_blocks=1, downscale_factor=4),
    "StableCascadeUNet": _net("StableCascadeUNet", given(sample=_LATENT, timestep_ratio=floats(),
                              clip_text_pooled=floats(1, 32)), in_channels=4, out_channels=4, conditioning_dim=16,
                              block_out_channels=(16, 32), num_attention_heads=(0, 2), down_num_layers_per_block=(1, 1),
                              up_num_layers_per_block=(1, 1), down_blocks_repeat_mappers=(1, 1),
                              up_blocks_repeat_mappers=(1, 1), clip_text_pooled_in_channels=32, clip_seq=1,
                              timestep_ratio_embedding_dim=16, block_types_per_layer=(
                                  ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
                                  ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock")),
                              self_attn=False, kernel_size=3, switch_level=(False,)),
}  # fmt: skip
