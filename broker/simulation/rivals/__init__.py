"""Other schemes, to measure the admission core against: each is a core of its own, or a limit beneath one."""
