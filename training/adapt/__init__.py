"""Adaptation of weights to unlabelled rainy footage."""
