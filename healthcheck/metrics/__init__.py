"""What is counted of this host and of the site, and the text that Prometheus reads of it."""
