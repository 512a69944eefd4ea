"""What is asked about data and networks: copies, cross-validation, how faithful maps are."""
