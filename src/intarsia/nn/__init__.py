"""The components: plain torch modules that know nothing of files, configurations or data sets.

Shape legend: B batch, L history length, F features, D dimension, N items, S steps of a jagged tensor.
"""
