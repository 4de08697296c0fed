"""A small Mask R-CNN for ten kinds of objects in images of 128x128: residual blocks, a feature pyramid, light heads."""

import torch.nn as nn
import torch.nn.functional as F
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

INPUT_SHAPE = (3, 128, 128)
LEVELS = ["0", "1", "2"]


def conv_bn(inputs, outputs, kernel=3, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; a 1x1 projection on the shortcut where the shape changes."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = conv_bn(inputs, outputs, stride=stride)
        self.conv2 = conv_bn(outputs, outputs)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = conv_bn(inputs, outputs, kernel=1, stride=stride)

    def forward(self, x):
        out = self.conv2(F.relu(self.conv1(x)))
        if self.shortcut is not None:
            x = self.shortcut(x)
        return F.relu(out + x)


class Pyramid(nn.Module):
    """Feature maps of strides 4, 8 and 16, all with `out_channels`."""

    def __init__(self, width, out_channels):
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, width, stride=2), nn.ReLU(inplace=True))
        self.stage1 = ResidualBlock(width, 2 * width, stride=2)
        self.stage2 = ResidualBlock(2 * width, 4 * width, stride=2)
        self.stage3 = ResidualBlock(4 * width, 8 * width, stride=2)
        self.fpn = FeaturePyramidNetwork([2 * width, 4 * width, 8 * width], out_channels, norm_layer=nn.BatchNorm2d)
        self.out_channels = out_channels

    def forward(self, x):
        fine = self.stage1(self.stem(x))
        middle = self.stage2(fine)
        coarse = self.stage3(middle)
        return self.fpn({"0": fine, "1": middle, "2": coarse})


class Detector(MaskRCNN):
    """Up to 20 objects an image, which is resized to 128 pixels in evaluation and has its own size in training."""

    def __init__(self, num_classes=11, width=16, channels=32):
        super().__init__(
            Pyramid(width, channels),
            min_size=128,
            max_size=256,
            rpn_anchor_generator=AnchorGenerator(((16,), (30,), (52,)), ((1.0, 1.5),) * 3),
            rpn_pre_nms_top_n_train=300,
            rpn_post_nms_top_n_train=150,
            rpn_pre_nms_top_n_test=150,
            rpn_post_nms_top_n_test=75,
            rpn_batch_size_per_image=64,
            box_roi_pool=MultiScaleRoIAlign(LEVELS, output_size=7, sampling_ratio=1),
            box_head=FastRCNNConvFCHead((channels, 7, 7), (channels, channels), (128,), norm_layer=nn.BatchNorm2d),
            box_predictor=FastRCNNPredictor(128, num_classes),
            box_batch_size_per_image=32,
            box_positive_fraction=0.5,
            box_detections_per_img=20,
            mask_roi_pool=MultiScaleRoIAlign(LEVELS, output_size=14, sampling_ratio=1),
            mask_head=MaskRCNNHeads(channels, (channels, channels), dilation=1, norm_layer=nn.BatchNorm2d),
            mask_predictor=MaskRCNNPredictor(channels, channels, num_classes),
            _skip_resize=True,  # in training: images have random scales there
        )
