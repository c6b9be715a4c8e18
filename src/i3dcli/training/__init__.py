"""Labelled videos → a trained network: one stream, resumable, in one process or many."""
