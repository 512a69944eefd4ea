"""What networks are made of, and the device and the forms in which they are quick to compute."""
