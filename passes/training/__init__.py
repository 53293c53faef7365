"""The passes that turn two networks and a loss, or a model with losses, into one training step."""
