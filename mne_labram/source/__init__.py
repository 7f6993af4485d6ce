"""Source imaging: head models, neural masses, simulated recordings, and what is trained on them."""
