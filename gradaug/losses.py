"""The losses of a step, for loops of one's own: what ties a sub-network to the full network, and the task's loss."""

from gradaug.tasks.losses import distillation as distillation
from gradaug.tasks.losses import task_loss as task_loss
