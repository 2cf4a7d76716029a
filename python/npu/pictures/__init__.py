"""Pictures of a model that was run: a graph for Model Explorer, and a page of its profile."""
