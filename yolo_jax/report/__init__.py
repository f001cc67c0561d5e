"""What a run folder holds to be looked at, and the page made of many of them."""
