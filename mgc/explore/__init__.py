"""Exploring the design space: many targets for one network, measured side by side."""
