"""A kind of study that a package brings, as small as it can be: how fast does gradient descent on one weight lose its start?"""
