"""Stand-ins for the services, so that the supervisor can be tested alone. Shipped, but used by tests only."""
