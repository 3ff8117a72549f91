"""Segmentation networks trained on images drawn from label maps: layers, drawing, training, and the weights."""
