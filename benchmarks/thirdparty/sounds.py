"""Sound: transformers' and torchaudio's models for waveforms and spectra, from small configurations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from thirdparty.nets import Net, floats, several
from thirdparty.vision import make


def _hf(name: str, config: str, inputs: Callable[[], Any], **options: Any) -> Net:
    return Net(partial(make, name, config, options), inputs)


_WAVE = floats(1600)
_LAYERS: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                           "intermediate_size": 64}  # fmt: skip
_CONVS: dict[str, Any] = {"conv_dim": [16, 16, 16], "conv_kernel": [10, 3, 3], "conv_stride": [5, 4, 4],
                          "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0,
                          "vocab_size": 20}  # fmt: skip

TRANSFORMERS = {
    "wav2vec2": _hf("Wav2Vec2ForCTC", "Wav2Vec2Config", _WAVE, **_LAYERS, **_CONVS),
    "hubert": _hf("HubertForCTC", "HubertConfig", _WAVE, **_LAYERS, **_CONVS),
    "wavlm": _hf("WavLMModel", "WavLMConfig", _WAVE, **_LAYERS, **_CONVS),
    "sew": _hf("SEWModel", "SEWConfig", _WAVE, **_LAYERS, **_CONVS, squeeze_factor=2),
    "ast": _hf("ASTForAudioClassification", "ASTConfig", floats(64, 32), **_LAYERS, patch_size=16, frequency_stride=16,
               time_stride=16, max_length=64, num_mel_bins=32),
    "encodec": _hf("EncodecModel", "EncodecConfig", floats(1, 1600), num_filters=4, hidden_size=16,
                   upsampling_ratios=[4, 2], num_lstm_layers=1, codebook_dim=16, codebook_size=16,
                   target_bandwidths=[24.0]),
    "dac": _hf("DacModel", "DacConfig", floats(1, 1600), encoder_hidden_size=8, downsampling_ratios=[2, 4],
               decoder_hidden_size=32, n_codebooks=2, codebook_size=16, codebook_dim=4),
    "univnet": _hf("UnivNetModel", "UnivNetConfig", several(floats(20, 100)), model_hidden_channels=8),
    "hifigan": _hf("SpeechT5HifiGan", "SpeechT5HifiGanConfig", floats(20, 80), upsample_initial_channel=32,
                   upsample_rates=[4, 4], upsample_kernel_sizes=[8, 8], normalize_before=False),
    "clap_audio": _hf("ClapAudioModel", "ClapAudioConfig", floats(1, 256, 16), spec_size=64, num_mel_bins=16,
                      hidden_size=64, patch_embeds_hidden_size=16, depths=[1, 1], num_attention_heads=[2, 2],
                      window_size=4, num_hidden_layers=2),
}  # fmt: skip


def _torchaudio(name: str, options: dict[str, Any]) -> nn.Module:
    """A model of torchaudio, with random weights."""
    from torchaudio import models

    return getattr(models, name)(**options)


def _ta(name: str, inputs: Callable[[], Any], **options: Any) -> Net:
    return Net(partial(_torchaudio, name, options), inputs)


def _lengths(most: int) -> Callable[[], Tensor]:
    return lambda: torch.tensor([most, most - 4])


_WAV2VEC2: dict[str, Any] = {
    "extractor_mode": "group_norm", "extractor_conv_layer_config": [(16, 10, 5), (16, 3, 4), (16, 3, 4)],
    "extractor_conv_bias": False, "encoder_embed_dim": 32, "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 16, "encoder_pos_conv_groups": 2, "encoder_num_layers": 2, "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.0, "encoder_ff_interm_features": 64, "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0, "encoder_layer_norm_first": False, "encoder_layer_drop": 0.0, "aux_num_out": 10,
}  # fmt: skip

TORCHAUDIO = {
    "ConvTasNet": _ta("ConvTasNet", floats(1, 1600), enc_num_feats=16, msk_num_feats=16, msk_num_hidden_feats=32,
                      msk_num_layers=3, msk_num_stacks=1),
    "Wav2Letter": _ta("Wav2Letter", floats(1, 3200), num_classes=10, input_type="waveform"),
    "DeepSpeech": _ta("DeepSpeech", floats(1, 20, 16), n_feature=16, n_hidden=32, n_class=10),
    "WaveRNN": _ta("WaveRNN", several(floats(1, 400), floats(1, 20, 20)), upsample_scales=[5, 5], n_classes=16,
                   hop_length=25, n_res_block=2, n_rnn=16, n_fc=16, n_freq=20, n_hidden=16, n_output=16),
    "Conformer": _ta("Conformer", several(floats(20, 16), _lengths(20)), input_dim=16, num_heads=2, ffn_dim=32,
                     num_layers=2, depthwise_conv_kernel_size=7),
    "Emformer": _ta("Emformer", several(floats(20, 16), _lengths(16)), input_dim=16, num_heads=2, ffn_dim=32,
                    num_layers=2, segment_length=4, right_context_length=1),
    "wav2vec2_model": _ta("wav2vec2_model", _WAVE, **_WAV2VEC2),
    "HDemucs": _ta("HDemucs", floats(2, 16384), sources=["a", "b"], channels=4),
    "SquimObjective": _ta("squim_objective_model", floats(3200), feat_dim=16, win_len=8, d_model=16, nhead=2,
                          hidden_dim=16, num_blocks=1, rnn_type="LSTM", chunk_size=21),
}  # fmt: skip
