"""How measurements become a reward: pure arithmetic. No I/O, no model."""
