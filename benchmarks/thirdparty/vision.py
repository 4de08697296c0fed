"""transformers: its models for images, from small configurations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from thirdparty.nets import Net, floats, given, images, numbers


def make(name: str, config: str, options: dict[str, Any]) -> nn.Module:
    """A model of transformers with random weights."""
    import transformers

    return getattr(transformers, name)(getattr(transformers, config)(**options))


def _net(name: str, config: str, inputs: Callable[[], Any] | None = None, **options: Any) -> Net:
    return Net(partial(make, name, config, options), inputs or images(64))


_VIT: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
                        "image_size": 64, "patch_size": 16}  # fmt: skip
_FOUR: dict[str, Any] = {"hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 1, 1]}
_ALL = ["stage1", "stage2", "stage3", "stage4"]
_SWIN: dict[str, Any] = {"image_size": 64, "patch_size": 4, "embed_dim": 24, "depths": [1, 1, 1, 1],
                         "num_heads": [1, 2, 2, 4], "window_size": 2}  # fmt: skip
_DECODER: dict[str, Any] = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
                            "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}  # fmt: skip
_RTDETR: dict[str, Any] = {"encoder_hidden_dim": 32, "d_model": 32, "encoder_in_channels": [32, 64, 128],
                           "decoder_in_channels": [32, 32, 32], "encoder_ffn_dim": 64, "encoder_attention_heads": 2,
                           "decoder_attention_heads": 2, "decoder_ffn_dim": 64, "decoder_layers": 2, "num_queries": 20,
                           "num_denoising": 0}  # fmt: skip
_TEXT: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
                         "vocab_size": 100}  # fmt: skip
_WORDS = numbers(99, 8)


def _backbone(config: str, **options: Any) -> Any:
    import transformers

    return getattr(transformers, config)(**options)


def _resnet() -> Any:
    return _backbone("ResNetConfig", embedding_size=16, layer_type="basic", out_features=["stage2", "stage3", "stage4"],
                     **_FOUR)  # fmt: skip


def _over(name: str, config: str, backbone: Callable[[], Any], **options: Any) -> Net:
    """A model over a backbone that is described by a configuration of its own."""

    def build() -> nn.Module:
        return make(name, config, {"backbone_config": backbone(), "backbone": None, **options})

    return Net(build, images(64))


def _rtdetr_resnet() -> Any:
    return _backbone("RTDetrResNetConfig", embedding_size=16, layer_type="basic",
                     out_features=["stage2", "stage3", "stage4"], **_FOUR)  # fmt: skip


def _hgnet() -> Any:
    return _backbone("HGNetV2Config", stem_channels=[3, 16, 16], stage_in_channels=[16, 16, 32, 64],
                     stage_mid_channels=[8, 8, 16, 32], stage_out_channels=[16, 32, 64, 128],
                     stage_num_blocks=[1, 1, 1, 1], stage_numb_of_layers=[2, 2, 2, 2], **_FOUR,
                     out_features=["stage2", "stage3", "stage4"])  # fmt: skip


def _swin() -> Any:
    return _backbone("SwinConfig", out_features=_ALL, **_SWIN)


def _towers(model: str, config: str, inputs: Callable[[], Any], text: str, vision: str, **options: Any) -> Net:
    """A model of a text and a vision tower."""

    def build() -> nn.Module:
        parts = {"text_config": _backbone(text, **_TEXT, projection_dim=32).to_dict(),
                 "vision_config": _backbone(vision, **_VIT, projection_dim=32).to_dict()}  # fmt: skip
        return make(model, config, parts | options)

    return Net(build, inputs)


_PAIR = given(input_ids=_WORDS, pixel_values=images(64))

MODELS = {
    "vit": _net("ViTForImageClassification", "ViTConfig", **_VIT),
    "deit": _net("DeiTForImageClassificationWithTeacher", "DeiTConfig", **_VIT),
    "beit": _net("BeitForImageClassification", "BeitConfig", **_VIT, use_relative_position_bias=True),
    "data2vec": _net("Data2VecVisionForImageClassification", "Data2VecVisionConfig", **_VIT),
    "dinov2": _net("Dinov2ForImageClassification", "Dinov2Config", **_VIT),
    "dinov2_registers": _net("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", **_VIT),
    "dinov3_vit": _net("DINOv3ViTModel", "DINOv3ViTConfig", **_VIT),
    "dinov3_convnext": _net("DINOv3ConvNextModel", "DINOv3ConvNextConfig", **_FOUR),
    "ijepa": _net("IJepaForImageClassification", "IJepaConfig", **_VIT),
    "vit_msn": _net("ViTMSNForImageClassification", "ViTMSNConfig", **_VIT),
    "vit_mae": _net("ViTMAEModel", "ViTMAEConfig", **_VIT),
    "vitdet": _net("VitDetBackbone", "VitDetConfig", hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                   image_size=64, patch_size=16, window_size=2, window_block_indices=[0]),
    "yolos": _net("YolosForObjectDetection", "YolosConfig", **_VIT | {"image_size": [64, 64]}, num_detection_tokens=10,
                  use_mid_position_embeddings=False),
    "convnext": _net("ConvNextForImageClassification", "ConvNextConfig", **_FOUR),
    "convnextv2": _net("ConvNextV2ForImageClassification", "ConvNextV2Config", **_FOUR),
    "resnet": _net("ResNetForImageClassification", "ResNetConfig", embedding_size=16, layer_type="bottleneck", **_FOUR),
    "regnet": _net("RegNetForImageClassification", "RegNetConfig", embedding_size=16, groups_width=8, **_FOUR),
    "bit": _net("BitForImageClassification", "BitConfig", embedding_size=16, num_groups=4, **_FOUR),
    "efficientnet": _net("EfficientNetForImageClassification", "EfficientNetConfig", width_coefficient=0.5,
                         depth_coefficient=0.5, image_size=64, hidden_dim=640),
    "mobilenet_v1": _net("MobileNetV1ForImageClassification", "MobileNetV1Config", depth_multiplier=0.25),
    "mobilenet_v2": _net("MobileNetV2ForImageClassification", "MobileNetV2Config", depth_multiplier=0.35),
    "mobilevit": _net("MobileViTForImageClassification", "MobileViTConfig", image_size=64, hidden_sizes=[24, 32, 40],
                      neck_hidden_sizes=[8, 16, 24, 32, 40, 48, 96]),
    "mobilevitv2": _net("MobileViTV2ForImageClassification", "MobileViTV2Config", image_size=64,
                        width_multiplier=0.25),
    "mobilevit_segmentation": _net("MobileViTForSemanticSegmentation", "MobileViTConfig", image_size=64,
                                   hidden_sizes=[24, 32, 40], neck_hidden_sizes=[8, 16, 24, 32, 40, 48, 96]),
    "swin": _net("SwinForImageClassification", "SwinConfig", **_SWIN),
    "swinv2": _net("Swinv2ForImageClassification", "Swinv2Config", **_SWIN),
    "swin2sr": _net("Swin2SRForImageSuperResolution", "Swin2SRConfig", inputs=images(32), image_size=32, patch_size=1,
                    embed_dim=24, depths=[2], num_heads=[2], window_size=8),
    "pvt": _net("PvtForImageClassification", "PvtConfig", image_size=64, depths=[1, 1, 1, 1],
                hidden_sizes=[16, 32, 64, 128], num_attention_heads=[1, 2, 2, 4], mlp_ratios=[2, 2, 2, 2]),
    "pvt_v2": _net("PvtV2ForImageClassification", "PvtV2Config", image_size=64, depths=[1, 1, 1, 1],
                   hidden_sizes=[16, 32, 64, 128], num_attention_heads=[1, 2, 2, 4], mlp_ratios=[2, 2, 2, 2]),
    "poolformer": _net("PoolFormerForImageClassification", "PoolFormerConfig", **_FOUR),
    "focalnet": _net("FocalNetForImageClassification", "FocalNetConfig", image_size=64, embed_dim=16,
                     depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 64, 128]),
    "hiera": _net("HieraForImageClassification", "HieraConfig", image_size=[64, 64], embed_dim=16, depths=[1, 1, 1, 1],
                  num_heads=[1, 2, 4, 8]),
    "levit": _net("LevitForImageClassification", "LevitConfig", image_size=64, hidden_sizes=[32, 48, 64],
                  num_attention_heads=[2, 3, 4], depths=[1, 1, 1], key_dim=[8, 8, 8]),
    "cvt": _net("CvtForImageClassification", "CvtConfig", embed_dim=[16, 32, 64], num_heads=[1, 2, 4],
                depth=[1, 2, 3]),
    "swiftformer": _net("SwiftFormerForImageClassification", "SwiftFormerConfig", image_size=64, depths=[1, 1, 1, 1],
                        embed_dims=[16, 24, 32, 48]),
    "hgnet_v2": _net("HGNetV2ForImageClassification", "HGNetV2Config", stem_channels=[3, 16, 16],
                     stage_in_channels=[16, 16, 32, 64], stage_mid_channels=[8, 8, 16, 32],
                     stage_out_channels=[16, 32, 64, 128], stage_num_blocks=[1, 1, 1, 1],
                     stage_numb_of_layers=[2, 2, 2, 2], **_FOUR),
    "textnet": _net("TextNetForImageClassification", "TextNetConfig"),
    "segformer": _net("SegformerForSemanticSegmentation", "SegformerConfig", depths=[1, 1, 1, 1],
                      hidden_sizes=[16, 32, 64, 128], num_attention_heads=[1, 2, 4, 8], decoder_hidden_size=32),
    "glpn": _net("GLPNForDepthEstimation", "GLPNConfig", depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 64, 128],
                 num_attention_heads=[1, 2, 4, 8], decoder_hidden_size=32),
    "dpt": _net("DPTForDepthEstimation", "DPTConfig", **_VIT | {"num_hidden_layers": 4},
                backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[16, 32, 64, 64], fusion_hidden_size=32),
    "upernet": _over("UperNetForSemanticSegmentation", "UperNetConfig",
                     lambda: _backbone("ConvNextConfig", out_features=_ALL, **_FOUR),
                     hidden_size=32, auxiliary_in_channels=64, num_labels=5),
    "depth_anything": _over("DepthAnythingForDepthEstimation", "DepthAnythingConfig",
                            lambda: _backbone("Dinov2Config", **_VIT | {"num_hidden_layers": 4},
                                              reshape_hidden_states=False, out_features=_ALL),
                            patch_size=16, reassemble_hidden_size=64, neck_hidden_sizes=[16, 32, 48, 64],
                            fusion_hidden_size=32, head_hidden_size=16),
    "vitpose": _over("VitPoseForPoseEstimation", "VitPoseConfig",
                     lambda: _backbone("VitPoseBackboneConfig", **{k: v for k, v in _VIT.items() if "size" not in k or k
                                       == "hidden_size"}, image_size=[64, 64], patch_size=[16, 16], mlp_ratio=2,
                                       out_features=["stage2"]), num_labels=17),
    "detr": _over("DetrForObjectDetection", "DetrConfig", _resnet, use_timm_backbone=False, num_queries=10, **_DECODER),
    "detr_segmentation": _over("DetrForSegmentation", "DetrConfig", lambda: _backbone("ResNetConfig", embedding_size=16,
                               layer_type="basic", out_features=_ALL, **_FOUR),
                               use_timm_backbone=False, num_queries=10, **_DECODER
                               | {"encoder_attention_heads": 8, "decoder_attention_heads": 8}),
    "conditional_detr": _over("ConditionalDetrForObjectDetection", "ConditionalDetrConfig", _resnet,
                              use_timm_backbone=False, num_queries=10, **_DECODER),
    "table_transformer": _over("TableTransformerForObjectDetection", "TableTransformerConfig", _resnet,
                               use_timm_backbone=False, num_queries=10, **_DECODER),
    "dab_detr": _over("DabDetrForObjectDetection", "DabDetrConfig", _resnet, use_timm_backbone=False, num_queries=10,
                      hidden_size=32, **{k: v for k, v in _DECODER.items() if k != "d_model"}),
    "deformable_detr": _over("DeformableDetrForObjectDetection", "DeformableDetrConfig", _resnet,
                             use_timm_backbone=False, num_queries=10, num_feature_levels=3,
                             **_DECODER | {"decoder_layers": 2}),
    "rt_detr": _over("RTDetrForObjectDetection", "RTDetrConfig", _rtdetr_resnet, **_RTDETR),
    "rt_detr_v2": _over("RTDetrV2ForObjectDetection", "RTDetrV2Config", _rtdetr_resnet, **_RTDETR),
    "d_fine": _over("DFineForObjectDetection", "DFineConfig", _hgnet, **_RTDETR),
    "maskformer": Net(lambda: make("MaskFormerForInstanceSegmentation", "MaskFormerConfig", {
        "backbone_config": _swin(), "fpn_feature_size": 32, "mask_feature_size": 32,
        "decoder_config": _backbone("DetrConfig", num_queries=10, use_timm_backbone=False, backbone_config=_resnet(),
                                    **_DECODER)}), images(64)),
    "mask2former": _over("Mask2FormerForUniversalSegmentation", "Mask2FormerConfig", _swin, feature_size=32,
                         mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=64, encoder_layers=1,
                         decoder_layers=2, num_attention_heads=2, dim_feedforward=64, num_queries=10),
    "eomt": _net("EomtForUniversalSegmentation", "EomtConfig", **{k: v for k, v in _VIT.items() if "inter" not in k},
                 num_blocks=1, num_queries=10, num_upscale_blocks=1),
    "sam_vision": _net("SamVisionModel", "SamVisionConfig", hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                       image_size=64, patch_size=16, window_size=2, global_attn_indexes=[1], mlp_dim=64,
                       output_channels=16),
    "superpoint": _net("SuperPointForKeypointDetection", "SuperPointConfig", encoder_hidden_sizes=[8, 8, 16, 16],
                       decoder_hidden_size=16, keypoint_decoder_dim=65, descriptor_decoder_dim=16),
    "clip_vision": _net("CLIPVisionModel", "CLIPVisionConfig", **_VIT),
    "siglip_vision": _net("SiglipVisionModel", "SiglipVisionConfig", **_VIT),
    "clip": _towers("CLIPModel", "CLIPConfig", _PAIR, "CLIPTextConfig", "CLIPVisionConfig", projection_dim=32),
    "clipseg": _towers("CLIPSegForImageSegmentation", "CLIPSegConfig", _PAIR, "CLIPSegTextConfig",
                       "CLIPSegVisionConfig", projection_dim=32, extract_layers=[0, 1], reduce_dim=16,
                       decoder_num_attention_heads=2, decoder_intermediate_size=32),
    "vilt": _net("ViltModel", "ViltConfig", _PAIR, **_VIT, vocab_size=100),
    "blip_vision": _net("BlipVisionModel", "BlipVisionConfig", **_VIT),
    "videomae": _net("VideoMAEForVideoClassification", "VideoMAEConfig", floats(4, 3, 64, 64), **_VIT, num_frames=4),
    "timesformer": _net("TimesformerForVideoClassification", "TimesformerConfig", floats(4, 3, 64, 64), **_VIT,
                        num_frames=4),
    "vivit": _net("VivitForVideoClassification", "VivitConfig", floats(4, 3, 64, 64),
                  **{k: v for k, v in _VIT.items() if k != "patch_size"}, num_frames=4, tubelet_size=[2, 16, 16]),
    "vjepa2": _net("VJEPA2ForVideoClassification", "VJEPA2Config", floats(4, 3, 64, 64), hidden_size=48,
                   num_hidden_layers=2, num_attention_heads=4, crop_size=64, frames_per_clip=4, patch_size=16,
                   pred_hidden_size=48, pred_num_attention_heads=4, pred_num_hidden_layers=1,
                   num_pooler_layers=1),
    "imagegpt": _net("ImageGPTForImageClassification", "ImageGPTConfig", numbers(16, 32), vocab_size=17, n_positions=32,
                     n_embd=32, n_layer=2, n_head=2),
    "perceiver": _net("PerceiverForImageClassificationConvProcessing", "PerceiverConfig", num_latents=8, d_latents=32,
                      d_model=64, num_blocks=1, num_self_attends_per_block=1, num_self_attention_heads=2,
                      num_cross_attention_heads=2, image_size=64),
    "groupvit_vision": _net("GroupViTVisionModel", "GroupViTVisionConfig", **_VIT | {"num_hidden_layers": 3},
                            depths=[1, 1, 1], num_group_tokens=[8, 4, 0], num_output_groups=[8, 4, 4]),
    "donut_swin": _net("DonutSwinModel", "DonutSwinConfig", **_SWIN),
    "pp_lcnet": _net("PPLCNetForImageClassification", "PPLCNetConfig", scale=0.25),
    "seggpt": _net("SegGptModel", "SegGptConfig", given(pixel_values=images(64), prompt_pixel_values=images(64),
                   prompt_masks=images(64)), **_VIT | {"image_size": [128, 64]},
                   intermediate_hidden_state_indices=[0, 1], merge_index=0, decoder_hidden_size=16,
                   pretrain_image_size=64),
}  # fmt: skip
