"""Prediction at scale: streams that resume, OpenVINO, export, Ray; notebooks into reports."""
