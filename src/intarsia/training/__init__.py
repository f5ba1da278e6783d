"""The training loop: schedules, optimizers, checkpoints that resume exactly, several processes."""
