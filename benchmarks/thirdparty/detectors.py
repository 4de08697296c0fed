"""Ultralytics: detection, segmentation, poses, oriented boxes, depth and classes, from its YAML configurations."""

from __future__ import annotations

from functools import partial

from torch import nn

from thirdparty.nets import Net, images

_TASKS = {
    "DetectionModel": (
        "yolov3-tiny yolov5n yolov5n-p6 yolov6n yolov8n yolov8n-p2 yolov8n-ghost yolov9t yolov9s yolov10n "
        "yolo11n yolo12n yolo26n"
    ),
    "SegmentationModel": "yolov8n-seg yolo11n-seg yolo12n-seg yolo26n-seg",
    "PoseModel": "yolov8n-pose yolo11n-pose yolo26n-pose",
    "OBBModel": "yolov8n-obb yolo11n-obb yolo26n-obb",
    "ClassificationModel": "yolov8n-cls yolo11n-cls yolo26n-cls yolov8n-cls-resnet50",
    "RTDETRDetectionModel": "rtdetr-l rtdetr-resnet50 yolov8n-rtdetr",
    "SemanticSegmentationModel": "yolo26n-sem",
    "DepthModel": "yolo26n-depth",
}


def _make(task: str, name: str) -> nn.Module:
    from ultralytics.nn import tasks

    return getattr(tasks, task)(f"{name}.yaml", verbose=False)


MODELS = {name: Net(partial(_make, task, name), images(64)) for task, names in _TASKS.items() for name in names.split()}
