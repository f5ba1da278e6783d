"""Interaction logs as arrays: who took what, in which order; splits of them, and views that models train on."""
