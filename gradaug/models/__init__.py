"""The CIFAR networks of the paper that torchvision lacks: ordinary PyTorch, converted by netslim like anybody's.

    netslim convert gradaug.models:wrn_28_10 --input-shape 3,32,32

All pool globally before the classifier, so that images of any size run.
"""

from __future__ import annotations

from gradaug.models.fcn import Fcn as Fcn
from gradaug.models.fcn import fcn_small as fcn_small
from gradaug.models.pyramidnet import PyramidNet as PyramidNet
from gradaug.models.pyramidnet import pyramidnet200_a240 as pyramidnet200_a240
from gradaug.models.resnet_cifar import ResNetCifar as ResNetCifar
from gradaug.models.resnet_cifar import resnet20 as resnet20
from gradaug.models.resnet_cifar import resnet110 as resnet110
from gradaug.models.wide_resnet import WideResNet as WideResNet
from gradaug.models.wide_resnet import wrn_16_2 as wrn_16_2
from gradaug.models.wide_resnet import wrn_16_4 as wrn_16_4
from gradaug.models.wide_resnet import wrn_28_2 as wrn_28_2
from gradaug.models.wide_resnet import wrn_28_10 as wrn_28_10
