"""What networks are made of, and what computes them: device, precision, processes, and forms that are quick."""
