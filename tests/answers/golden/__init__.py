"""Questions with their answers written down, over the sample of 50,000 flights."""
