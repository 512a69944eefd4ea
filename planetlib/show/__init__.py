"""Figures, contact sheets and the model card."""
