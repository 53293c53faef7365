"""Crossbar groups: partition, replicas, chips, places; what work costs there."""
