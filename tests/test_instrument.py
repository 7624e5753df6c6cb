"""What `instrument()` patches, when, and that it comes off without a trace."""
