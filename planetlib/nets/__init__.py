"""What networks are made of, and what computes them: device, precision, processes, and the forms that are quick."""
