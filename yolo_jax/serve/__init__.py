"""Detection served on one machine: an endpoint of REST, and a page that uses it."""
