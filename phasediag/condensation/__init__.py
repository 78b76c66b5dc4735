"""Initial condensation: with small initial weights, the input weights of a layer gather on a few lines early in training.

Zhou, Zhou, Luo, Zhang and Xu, "Towards understanding the condensation of neural networks at initial training", NeurIPS 2022, arXiv
2105.11686 (Zhou 2022b below). docs/condensation.md says which of its statements hold, and where.
"""
