"""How weighted ops become windowed matrix products."""
