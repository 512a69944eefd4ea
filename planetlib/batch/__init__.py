"""Prediction at scale: streams that resume, runtimes, export, Ray, several processes, notebooks into reports."""
