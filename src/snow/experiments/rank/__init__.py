"""Rank sources for given pictures by closed-form classifiers, without training, beside what each of them costs.

Shape letters: B pictures in a batch, S side of a picture in pixels, C classes, n pictures that are looked at.
"""
