"""vit-pytorch: some thirty vision transformers, written with einops."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from thirdparty.nets import Net, floats, images

_PLAIN: dict[str, Any] = {"image_size": 64, "patch_size": 16, "num_classes": 10, "dim": 64, "depth": 2, "heads": 4,
                          "mlp_dim": 128, "dim_head": 16}  # fmt: skip
_VIDEO: dict[str, Any] = {"image_size": 32, "image_patch_size": 16, "frames": 4, "frame_patch_size": 2} | {
    k: v for k, v in _PLAIN.items() if k not in ("image_size", "patch_size")
}
_STAGES: dict[str, Any] = {"num_classes": 10, "dim": (16, 32, 64, 128), "depth": (1, 1, 1, 1)}


def _net(module: str, name: str, inputs: Callable[[], Tensor] | None = None, **options: Any) -> Net:
    def make() -> nn.Module:
        return getattr(importlib.import_module(f"vit_pytorch.{module}"), name)(**options)

    return Net(make, inputs or images(64))


def _plain(module: str, name: str, without: str = "", **more: Any) -> Net:
    return _net(module, name, **{k: v for k, v in _PLAIN.items() if k not in without.split()} | more)


MODELS = {
    "vit": _plain("vit", "ViT"),
    "simple_vit": _plain("simple_vit", "SimpleViT"),
    "deepvit": _plain("deepvit", "DeepViT"),
    "cait": _plain("cait", "CaiT", cls_depth=1),
    "t2t": _net("t2t", "T2TViT", image_size=64, num_classes=10, dim=64, depth=2, heads=4, mlp_dim=128,
                dim_head=16, t2t_layers=((7, 4), (3, 2))),
    "cct": _net("cct", "CCT", img_size=64, embedding_dim=64, n_conv_layers=2, kernel_size=7, stride=2, padding=3,
                num_layers=2, num_heads=4, mlp_ratio=2.0, num_classes=10),
    "cross_vit": _net("cross_vit", "CrossViT", image_size=64, num_classes=10, depth=2, sm_dim=32, sm_patch_size=16,
                      sm_enc_depth=1, sm_enc_heads=2, sm_enc_mlp_dim=64, sm_enc_dim_head=16, lg_dim=64,
                      lg_patch_size=32, lg_enc_depth=1, lg_enc_heads=2, lg_enc_mlp_dim=64, lg_enc_dim_head=16,
                      cross_attn_depth=1, cross_attn_heads=2, cross_attn_dim_head=16),
    "pit": _net("pit", "PiT", image_size=64, patch_size=16, dim=32, num_classes=10, depth=(1, 1, 1), heads=2,
                mlp_dim=64, dim_head=16),
    "levit": _net("levit", "LeViT", image_size=64, num_classes=10, stages=2, dim=(32, 64), depth=1, heads=(2, 4),
                  mlp_mult=2, dim_key=16, dim_value=32),
    "cvt": _net("cvt", "CvT", num_classes=10, s1_emb_dim=16, s1_heads=1, s1_depth=1, s2_emb_dim=32, s2_heads=2,
                s2_depth=1, s3_emb_dim=64, s3_heads=2, s3_depth=1),
    "twins_svt": _net("twins_svt", "TwinsSVT", num_classes=10, s1_emb_dim=16, s2_emb_dim=32, s3_emb_dim=64,
                      s4_emb_dim=128, s1_local_patch_size=4, s2_local_patch_size=4, s3_local_patch_size=2,
                      s4_local_patch_size=1, s3_depth=1, s1_global_k=4, s2_global_k=4, s3_global_k=2, s4_global_k=1),
    "crossformer": _net("crossformer", "CrossFormer", num_classes=10, dim=(32, 64, 128, 256), depth=(1, 1, 1, 1),
                        global_window_size=(4, 2, 2, 1), local_window_size=(4, 4, 2, 1)),
    "regionvit": _net("regionvit", "RegionViT", inputs=images(64), dim=(16, 32, 64, 128), depth=(1, 1, 1, 1),
                      window_size=4, num_classes=10, tokenize_local_3_conv=False, use_peg=False),
    "scalable_vit": _net("scalable_vit", "ScalableViT", num_classes=10, dim=16, heads=(1, 2, 2, 4), depth=(1, 1, 1, 1),
                         ssa_dim_key=(8, 8, 8, 8), reduction_factor=(4, 2, 2, 1), window_size=(8, 4, None, None)),
    "sep_vit": _net("sep_vit", "SepViT", num_classes=10, dim=16, dim_head=16, heads=(1, 2, 4, 8), depth=(1, 1, 1, 1),
                    inputs=images(224)),
    "max_vit": _net("max_vit", "MaxViT", num_classes=10, dim_conv_stem=16, dim=16, dim_head=16, depth=(1, 1),
                    window_size=4),
    "nest": _net("nest", "NesT", image_size=64, patch_size=4, dim=16, heads=2, num_hierarchies=3,
                 block_repeats=(1, 1, 1), num_classes=10),
    "mobile_vit": _net("mobile_vit", "MobileViT", image_size=(64, 64), dims=[24, 32, 40], num_classes=10,
                       channels=[8, 8, 16, 16, 24, 24, 32, 32, 40, 40, 96]),
    "xcit": _plain("xcit", "XCiT", cls_depth=1),
    "parallel_vit": _plain("parallel_vit", "ViT", num_parallel_branches=2),
    "rvt": _plain("rvt", "RvT"),
    "vit_for_small_dataset": _plain("vit_for_small_dataset", "ViT"),
    "patch_merger": _plain("vit_with_patch_merger", "ViT", patch_merge_layer=1, patch_merge_num_tokens=4),
    "patch_dropout": _plain("simple_vit_with_patch_dropout", "SimpleViT", patch_dropout=0.25),
    "qk_norm": _plain("simple_vit_with_qk_norm", "SimpleViT"),
    "register_tokens": _plain("simple_vit_with_register_tokens", "SimpleViT"),
    "value_residual": _plain("simple_vit_with_value_residual", "SimpleViT"),
    "fft": _plain("simple_vit_with_fft", "SimpleViT", freq_patch_size=16),
    "normalized_vit": _plain("normalized_vit", "nViT"),
    "ats_vit": _plain("ats_vit", "ViT", max_tokens_per_depth=(12, 8)),
    "efficient": Net(lambda: _efficient(), images(64)),
    "vit_3d": _net("vit_3d", "ViT", inputs=floats(3, 4, 32, 32), **_VIDEO),
    "vit_1d": _net("vit_1d", "ViT", inputs=floats(3, 64), seq_len=64, patch_size=16, num_classes=10, dim=64, depth=2,
                   heads=4, mlp_dim=128, dim_head=16),
    "vivit": _net("vivit", "ViViT", inputs=floats(3, 4, 32, 32), image_size=32, image_patch_size=16, frames=4,
                  frame_patch_size=2, num_classes=10, dim=64, spatial_depth=1, temporal_depth=1, heads=4,
                  mlp_dim=128, dim_head=16),
}  # fmt: skip


def _efficient() -> nn.Module:
    from vit_pytorch.efficient import ViT
    from vit_pytorch.simple_vit import Transformer

    inner = Transformer(dim=64, depth=2, heads=4, dim_head=16, mlp_dim=128)
    return ViT(dim=64, image_size=64, patch_size=16, num_classes=10, transformer=inner)
