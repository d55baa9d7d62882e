"""Kafka: the log as a topic, the results as another, and other people's topics."""
