"""The composition root: the only place that knows concrete classes. It builds everything and decides nothing."""
