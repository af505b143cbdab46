"""What people wrote: configs, instances, the graph between them, and the settings of a project."""
