"""What every piece leans on: errors, declared hyperparameters, batches, safe files, safe expressions."""
