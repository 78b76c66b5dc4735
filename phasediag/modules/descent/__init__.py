"""Training of torch modules by gradient descent, minibatches, Adam, or an optimiser of their owner's."""
