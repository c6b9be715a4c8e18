"""Labelled videos and a model → how good it is: scores, findings, a report."""
