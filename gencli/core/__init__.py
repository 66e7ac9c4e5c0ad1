"""What every room stands on: specifications, noise, tensors, options, errors, files, processes."""
