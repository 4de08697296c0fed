"""spandrel: networks that enlarge, denoise and repair images."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from torch import nn

from thirdparty.nets import Net, positives, several


def _make(package: str, name: str, options: dict[str, Any]) -> nn.Module:
    home = importlib.import_module(f"spandrel.architectures.{package}")
    return getattr(home, name)(**options)


def _net(package: str, name: str = "", side: int = 32, **options: Any) -> Net:
    return Net(partial(_make, package, name or package, options), positives(3, side, side))


_WINDOWS: dict[str, Any] = {"depths": [2, 2], "embed_dim": 24, "num_heads": [2, 2], "window_size": 8, "img_size": 32}

MODELS = {
    "ESRGAN": _net("ESRGAN.__arch.RRDB", "RRDBNet", num_filters=16, num_blocks=2),
    "SRVGGNetCompact": _net("Compact.__arch.SRVGG", "SRVGGNetCompact", num_feat=16, num_conv=4),
    "DAT": _net("DAT", img_size=32, embed_dim=24, split_size=[4, 4], depth=[2], num_heads=[2], expansion_factor=2),
    "SwinIR": _net("SwinIR", **_WINDOWS, upscale=2, upsampler="pixelshuffle"),
    "Swin2SR": _net("Swin2SR", **_WINDOWS, upscale=2, upsampler="pixelshuffle"),
    "HAT": _net("HAT", img_size=32, embed_dim=24, depths=(2,), num_heads=(2,), window_size=8, upscale=2,
                upsampler="pixelshuffle", compress_ratio=3, squeeze_factor=6),
    "DRCT": _net("DRCT", img_size=32, embed_dim=24, depths=(2,), num_heads=(2,), window_size=8, upscale=2, gc=8,
                 upsampler="pixelshuffle"),
    "NAFNet": _net("NAFNet", width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]),
    "SCUNet": _net("SCUNet", side=64, dim=64, config=[1] * 7),
    "DnCNN": _net("DnCNN", in_nc=3, out_nc=3, nc=16, nb=5),
    "DRUNet": _net("DRUNet", in_nc=3, out_nc=3, nc=[8, 16, 32, 64], nb=1),
    "FBCNN": _net("FBCNN", nc=[8, 16, 32, 512], nb=1),
    "SPAN": _net("SPAN", num_in_ch=3, num_out_ch=3, feature_channels=16),
    "OmniSR": _net("OmniSR", num_feat=16, res_num=1, block_num=1, window_size=8),
    "PLKSR": _net("PLKSR", dim=16, n_blocks=2),
    "RealPLKSR": _net("PLKSR", "RealPLKSR", dim=16, n_blocks=2),
    "SAFMN": _net("SAFMN", dim=16, n_blocks=2, upscaling_factor=2),
    "RCAN": _net("RCAN", n_resgroups=1, n_resblocks=2, n_feats=16, reduction=4),
    "RetinexFormer": _net("RetinexFormer", n_feat=8, stage=1, num_blocks=[1, 1, 1]),
    "MixDehazeNet": _net("MixDehazeNet", side=128, embed_dims=[8, 16, 32, 16, 8], depths=[1, 1, 1, 1, 1]),
    "KBNet": _net("KBNet", "KBNet_s", width=16, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]),
    "RealCUGAN": _net("RealCUGAN", "UpCunet2x", side=64),
    "SwiftSRGAN": _net("SwiftSRGAN", "SwiftSRGAN", num_channels=16, num_blocks=2),
    "Uformer": _net("Uformer", side=64, img_size=64, embed_dim=8, depths=[1] * 9, win_size=4),
    "DITN": _net("DITN.__arch.DITN_Real", "DITN_Real", dim=16),
    "CRAFT": _net("CRAFT", embed_dim=24, depths=(2,), num_heads=(2,)),
    "ATD": _net("ATD", **_WINDOWS, category_size=16, num_tokens=8, reducted_dim=4, convffn_kernel_size=5),
    "GRL": _net("GRL", img_size=32, embed_dim=24, depths=[2], num_heads_window=[2], num_heads_stripe=[2],
                window_size=8, stripe_size=[8, 8]),
    "RGT": _net("RGT", img_size=32, embed_dim=24, depth=[2], num_heads=[2], c_ratio=0.5),
    "LaMa": Net(partial(_make, "LaMa", "LaMa", {"in_nc": 4}), several(positives(3, 64, 64), positives(1, 64, 64))),
}  # fmt: skip
