"""Training of two- and three-layer ReLU networks of any width: the gradient flow with error control, and fixed steps to compare with."""
