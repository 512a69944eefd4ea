"""Planets and strangers as pictures: body, surface, how it is photographed."""
