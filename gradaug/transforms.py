"""Transforms of a sub-network's images by the names that the settings have for them, for `GradAug(view=...)`."""

from gradaug.subnets.views import views as views
