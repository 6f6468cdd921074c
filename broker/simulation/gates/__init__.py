"""What the admission core has to hold in the simulator, each property as a study that gives figures and their goals."""
