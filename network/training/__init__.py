"""Training under Lightning: the task, the trainer, its callbacks, and how a training is resumed."""
